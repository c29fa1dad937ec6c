"""CelebA's folders: attributes by name, identities, and the split of StarGAN."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.layouts import celeba
from data_pipelines.layouts.stills import Wish
from reenax.core.errors import UserError
from tests.data_pipelines.layouts.folders import colour_of, records_of, run, write_picture

NAMES = ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Smiling", "Young")
COUNT = 10


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).choice([-1, 1], (COUNT, len(NAMES)))


@pytest.fixture
def folder(tmp_path: Path, values: np.ndarray) -> Path:
    """Ten pictures, one of which is missing."""
    lines = [str(COUNT), " ".join(NAMES)]
    for number in range(COUNT):
        if number != 4:
            picture = tmp_path / "img_align_celeba" / f"{number + 1:06d}.jpg"
            write_picture(picture, colour_of(number), 178, 218)
        lines.append(f"{number + 1:06d}.jpg " + " ".join(f"{value:2d}" for value in values[number]))
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_pictures_have_the_five_attributes_and_the_split_of_stargan(folder: Path, values: np.ndarray) -> None:
    report = run(folder, folder / "data", "celeba")
    records = records_of(folder / "data")
    lines = [f"{number + 1:06d}" for number in range(COUNT)]
    random.seed(1234)
    random.shuffle(lines)
    assert set(records["test"]) == {f"{name}/0000" for name in lines[:2]}
    assert sum(map(len, records.values())) == COUNT - 1
    for name, record in {**records["train"], **records["test"]}.items():
        number = int(name[:6]) - 1
        np.testing.assert_array_equal(record["attributes"], [values[number, [1, 2, 3, 4, 6]] == 1])
        np.testing.assert_array_equal(record["bbox"], [0, 20, 178, 198])
        assert np.abs(record["colours"][0] - colour_of(number)).max() < 6
    assert [(one.path.name, one.kind) for one in report.skipped] == [("000005.jpg", "missing")]
    noted = json.loads((folder / "data/settings.json").read_text())["attributes"]
    assert noted == "Black_Hair,Blond_Hair,Brown_Hair,Male,Young"


def test_people_are_records_where_they_are_known(folder: Path, values: np.ndarray) -> None:
    rows = [f"{number + 1:06d}.jpg {number % 3}" for number in range(COUNT)]
    (folder / "identity_CelebA.txt").write_text("\n".join(rows) + "\n")
    plan = celeba.read(folder, Wish(attributes=("Young", "Bald")))
    assert {still.name: still.identity for still in plan.stills} == {
        f"{number + 1:06d}": str(number % 3) for number in range(COUNT) if number != 4
    }
    np.testing.assert_array_equal(plan.stills[2].labels["attributes"], values[2, [6, 0]] == 1)
    run(folder, folder / "data", "celeba", attributes=("Smiling",), split="identity", test_share=0.3)
    records = records_of(folder / "data")
    lengths = {record["identity"]: len(record["frames"]) for part in records.values() for record in part.values()}
    assert lengths == {"0": 4, "1": 2, "2": 3}
    assert len(records["test"]) == 1
    first = {**records["train"], **records["test"]}["0/0000"]
    np.testing.assert_array_equal(first["attributes"], values[[0, 3, 6, 9], 5:6] == 1)
    np.testing.assert_array_equal(first["timestamps"], [0, 1, 2, 3])
    with pytest.raises(UserError, match="was made with attributes Smiling, not attributes Male"):
        run(folder, folder / "data", "celeba", attributes=("Male",), split="identity", test_share=0.3)


def test_no_more_than_the_published_number_is_tested(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celeba, "TESTED", 1)
    plan = celeba.read(folder, Wish())
    assert [still.split for still in plan.stills].count("test") == 1


def test_commas_and_other_places_are_read(folder: Path, values: np.ndarray) -> None:
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    table = [",".join(["image_id", *NAMES]), *(",".join(line.split()) for line in lines[2:])]
    (folder / "Anno").mkdir()
    (folder / "Anno/list_attr_celeba.csv").write_text("\n".join(table))
    (folder / "list_attr_celeba.txt").unlink()
    (folder / "Img/img_align_celeba").mkdir(parents=True)
    (folder / "img_align_celeba").rename(folder / "Img/img_align_celeba/img_align_celeba")
    plan = celeba.read(folder, Wish())
    assert len(plan.stills) == COUNT - 1
    np.testing.assert_array_equal(plan.stills[0].labels["attributes"], values[0, [1, 2, 3, 4, 6]] == 1)


def test_what_is_wrong_is_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has no attribute Beard; it has Bald, Black_Hair"):
        celeba.read(folder, Wish(attributes=("Male", "Beard")))
    with pytest.raises(UserError, match="cut already"):
        celeba.read(folder, Wish(faces="dlib"))
    path = folder / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4] + " 1"]))
    with pytest.raises(UserError, match="line 5: not a file name and 7 values"):
        celeba.read(folder, Wish())
    path.write_text("\n".join([lines[0], ",,,", *lines[2:]]))
    with pytest.raises(UserError, match=r"list_attr_celeba.txt: line 2: no names of attributes"):
        celeba.read(folder, Wish())
    path.write_text("")
    with pytest.raises(UserError, match="no picture in it"):
        celeba.read(folder, Wish())
    path.write_text("\n".join(lines))
    (folder / "identity_CelebA.txt").write_text("000001.jpg\n")
    with pytest.raises(UserError, match="identity_CelebA.txt: line 1: not a file name and a number"):
        celeba.read(folder, Wish())
