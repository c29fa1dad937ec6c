"""RaFD's and Multi-PIE's names, folders per class, landmarks in text files, and the square cut around them."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines.faces import Face
from data_pipelines.layouts import multipie, rafd, squares
from data_pipelines.layouts.points import COUNT, find_points, square_around
from data_pipelines.layouts.squares import unit_of
from data_pipelines.layouts.stills import Wish
from reenax.core.errors import UserError
from tests.data_pipelines.layouts.folders import SIZE, colour_of, records_of, run, write_picture

GOLDEN = Path(__file__).parents[2] / "golden/cases/freenet/landmark_ops.npz"
PEOPLE = {"01": "Caucasian_female", "07": "Moroccan_male", "12": "Caucasian_male"}
CAST = [("neutral", "frontal", "090"), ("happy", "left", "045"), ("angry", "frontal", "135")]
CAST += [("neutral", "left", "045"), ("neutral", "frontal", "135")]
ACTED = [(0, 0, 0), (5, 1, 1), (1, 2, 0), (0, 1, 1), (0, 2, 0)]


def name_of(person: str, expression: str, gaze: str, camera: str) -> str:
    return f"Rafd{camera}_{person}_{PEOPLE[person]}_{expression}_{gaze}"


def made_up_points(number: int, width: int, height: int) -> np.ndarray:
    """Points [106 2] about the middle of a picture, in whole pixels."""
    rng = np.random.default_rng(number)
    return np.round(rng.uniform([0.3 * width, 0.4 * height], [0.7 * width, 0.8 * height], (COUNT, 2))).astype(
        np.float32
    )


def line_of(name: str, points: np.ndarray, width: int, height: int, more: str = "") -> str:
    return " ".join([name, f"{width}-{height}", *(f"{x:g}-{y:g}" for x, y in points)]) + more


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people act two things each and are neutral beside, but the last one, in a folder per camera."""
    folder = tmp_path_factory.mktemp("rafd")
    for number, person in enumerate(PEOPLE):
        for place, (expression, gaze, camera) in enumerate(CAST):
            if (person, expression) != ("12", "neutral"):
                name = name_of(person, expression, gaze, camera)
                write_picture(folder / camera / f"{name}.jpg", colour_of(3 * number + place), 48, 64)
    write_picture(folder / "090" / "notes.png", (0, 0, 0))
    write_picture(folder / "090" / f"{name_of('01', 'bored', 'frontal', '090')}.jpg", (0, 0, 0))
    (folder / "readme.txt").write_text("Faces of actors\n1-2 3-4\n")
    return folder


def test_people_are_records_that_tell_what_is_acted(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "data", "rafd", faces="none", test_share=0.4)
    records = records_of(tmp_path / "data")
    everybody = {name: record for part in records.values() for name, record in part.items()}
    assert set(everybody) == {"01/0000", "07/0000"}
    for name, record in everybody.items():
        number = list(PEOPLE).index(name[:2])
        acted = [tuple(row) for row in record["acted"].tolist()]
        assert sorted(acted) == sorted(ACTED)
        assert record["acted"].dtype == np.int32
        for row, attributes, colour in zip(acted, record["attributes"], record["colours"], strict=True):
            assert np.abs(colour - colour_of(3 * number + ACTED.index(row))).max() < 6
            assert attributes.argmax() == {0: 5, 5: 4, 1: 0}[row[0]]  # in the order of the alphabet
            assert (attributes.shape, attributes.sum()) == ((8,), 1)
        np.testing.assert_array_equal(record["bbox"], [0, 8, 48, 56])
    counts = {kind: sum(one.kind == kind for one in report.skipped) for kind in ("unknown name", "incomplete")}
    assert counts == {"unknown name": 2, "incomplete": 2}
    assert any("shows 12 neutral, frontal and straight" in one.reason for one in report.skipped)


def test_some_pictures_of_everybody_can_be_the_test(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "data", "rafd", faces="none", split="clips", test_share=0.3)
    records = records_of(tmp_path / "data")
    assert set(records["train"]) == {"01/0000", "07/0000", "12/0000"}
    assert set(records["test"]) == {"01/0001", "07/0001", "12/0001"}
    counts = {name: len(record["frames"]) for name, record in records["test"].items()}
    assert counts == {"01/0001": 2, "07/0001": 2, "12/0001": 1}


def test_faces_are_found_where_no_landmarks_are_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.stack([np.linspace(10, 29, 68), np.linspace(20, 39, 68)], -1).astype(np.float32)

    class Detector:
        def detect(self, picture: np.ndarray) -> list[Face]:
            dark = picture[-1, -1].astype(int) - colour_of(1)  # "happy" of the first
            return [] if np.abs(dark).max() < 6 else [Face((10.0, 20.0, 30.0, 40.0), points, 1.0)]

    monkeypatch.setattr(squares, "_detector", Detector)
    monkeypatch.setattr("data_pipelines.faces.require", lambda: Path())
    report = run(folder, tmp_path / "data", "rafd", test_share=0)
    records = records_of(tmp_path / "data")["train"]
    assert [len(record["frames"]) for record in records.values()] == [4, 5]
    np.testing.assert_array_equal(records["07/0000"]["bbox"], [1, 9, 39, 47])
    low, high = records["07/0000"]["landmarks"][0, [0, -1]]
    np.testing.assert_allclose(
        low, ((9.5 * SIZE / 38 - 0.5) * 2 / 15 - 1, (11.5 * SIZE / 38 - 0.5) * 2 / 15 - 1), atol=1e-5
    )
    assert (high > low).all()
    assert [one.reason for one in report.skipped if one.kind == "faceless"] == ["no face in it"]


def test_landmarks_in_text_files_decide_what_is_cut(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "rafd"
    told.mkdir()
    for path in sorted(folder.rglob("Rafd*.jpg")):
        (told / path.parent.name).mkdir(exist_ok=True)
        (told / path.parent.name / path.name).write_bytes(path.read_bytes())
    names = [path.stem for path in sorted(told.rglob("*.jpg")) if "bored" not in path.stem]
    wide = made_up_points(0, 48, 64)
    wide[:2] = [[1, 2], [46, 60]]  # reaches beyond the picture
    points = {name: wide if at == 0 else made_up_points(at, 48, 64) for at, name in enumerate(names)}
    lines = [line_of(f"{name}.jpg", points[name], 48, 64) for name in names]
    (told / "landmarks_a.txt").write_text("\n".join(lines[:4]))
    other = line_of(names[-1], points[names[-1]], 512, 512)  # the same, as it is when cut
    (told / "landmarks_b.txt").write_text("\n".join([*lines[4:-2], other, f"{names[-2]} 48-64 1-2 3-4"]))
    write_picture(told / "090/landmark_crop" / f"{names[0]}.jpg", (0, 0, 0))  # drawn, no face
    report = run(told, tmp_path / "data", "rafd", split="clips", test_share=0)
    records = records_of(tmp_path / "data")["train"]
    for record in records.values():
        for at, name in enumerate(sorted(name for name in names[:-3] if f"_{record['identity']}_" in name)):
            x, y, half = square_around(points[name])
            corner, side = np.round([x - half, y - half]), round(2 * half)
            box = np.concatenate([corner, corner + side])
            found = record["landmarks_106"][at]
            np.testing.assert_allclose(found, unit_of(points[name], box, SIZE), atol=1e-5)
            if at == 0:
                np.testing.assert_array_equal(record["bbox"], box)
            longer = np.ptp(points[name], axis=0).max()
            assert np.ptp(found, axis=0).max() == pytest.approx(2 * SIZE / 15 * longer / side, rel=1e-4)
    kinds = sorted(one.kind for one in report.skipped)
    assert kinds == ["damaged line", "incomplete", "incomplete", "unknown name", "unlabelled", "unlabelled"]
    assert [one.reason for one in report.skipped if one.path.stem == names[-3]] == [  # names[-2] is its neutral one
        "no usable picture shows 07 neutral with its view and gaze"
    ]
    assert any("48x64 pixels, but its landmarks are of a picture of 512x512" in one.reason for one in report.skipped)


def test_the_square_around_landmarks_is_that_of_freenet() -> None:
    if not GOLDEN.is_file():
        pytest.skip("no golden case of FReeNet")
    with np.load(GOLDEN) as golden:
        points, centre, published = (
            golden[f"{n}"] for n in ("in_crop_landmarks", "out_crop_center_radius", "out_crop_landmarks")
        )
    x, y, half = square_around(points)
    np.testing.assert_allclose([x, y, half / 1.2], centre, rtol=1e-6)
    np.testing.assert_allclose((points - [x - half, y - half]) / (2 * half / 512), published, atol=1e-3)
    # the published pixels of the crop are ours, but for the half of a pixel between corners and centres
    box = np.array([x - half, y - half, x + half, y + half])
    ours = (unit_of(points, box, 512) + 1) * 511 / 2
    np.testing.assert_allclose(ours, published + 0.5 * (512 / (2 * half)) - 0.5, atol=1e-3)


def test_a_folder_per_class_is_read(tmp_path: Path) -> None:
    for number, place in enumerate(("train/happy/a.jpg", "train/sad/b.png", "train/angry/c.jpg", "test/sad/d.jpg")):
        write_picture(tmp_path / "rafd" / place, colour_of(number))
    write_picture(tmp_path / "rafd/train/sad/b.jpg", (0, 0, 0))
    write_picture(tmp_path / "rafd/train/alone.jpg", (0, 0, 0))
    report = run(tmp_path / "rafd", tmp_path / "data", "rafd", faces="none")
    records = records_of(tmp_path / "data")
    found = {name: record["attributes"].tolist() for part in records.values() for name, record in part.items()}
    assert found == {
        "train/happy/a/0000": [[0, 1, 0]],
        "train/sad/b/0000": [[0, 0, 1]],
        "train/angry/c/0000": [[1, 0, 0]],
        "test/sad/d/0000": [[0, 0, 1]],
    }
    assert set(records["test"]) == {"test/sad/d/0000"}
    assert "acted" not in records["test"]["test/sad/d/0000"]
    assert sorted(one.kind for one in report.skipped) == ["duplicate", "unknown name"]
    with pytest.raises(UserError, match="no pictures named as RaFD's .* and no two folders of pictures"):
        rafd.read(tmp_path / "rafd/train/happy", Wish())


def test_multi_pie_is_read_by_its_names(tmp_path: Path) -> None:
    names = [
        "001_0_051_07",
        "001_2_051_07",
        "001_0_04_1_00",
        "001_2_04_1_00",
        "002_0_05_1_07",
        "002_1_190_07",
        "003_2_051_07",
        "x_0_051_07",
    ]
    points = {name: made_up_points(at, 40, 30) for at, name in enumerate(names)}
    for at, name in enumerate(names):
        write_picture(tmp_path / "pie" / f"{name}.png", colour_of(at), 40, 30)
    (tmp_path / "pie/points.txt").write_text(
        "\n".join(line_of(name, row, 40, 30, " -12.5 3.0 0.7") for name, row in points.items())
    )
    report = run(tmp_path / "pie", tmp_path / "data", "multipie", test_share=0)
    records = records_of(tmp_path / "data")["train"]
    assert {name: record["acted"].tolist() for name, record in records.items()} == {
        "001/0000": [[0, 41, 0], [0, 0, 0], [2, 41, 0], [2, 0, 0]],
        "002/0000": [[0, 0, 0]],
    }
    assert all(np.abs(record["landmarks_106"]).max() < 1.1 for record in records.values())
    assert {(one.path.stem, one.kind) for one in report.skipped} == {
        ("003_2_051_07", "incomplete"),
        ("002_1_190_07", "incomplete"),
        ("x_0_051_07", "unknown name"),
    }
    assert multipie.read(tmp_path / "pie", Wish(faces="none")).crop == "none"
    assert find_points(tmp_path / "pie")[0].keys() == points.keys()
