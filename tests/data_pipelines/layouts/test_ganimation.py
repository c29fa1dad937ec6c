"""GANimation's folders: pickles of both Pythons, lists of file names, and everything that can be wrong with them."""

import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.layouts.ganimation import read
from data_pipelines.layouts.stills import Wish
from data_pipelines.prepare import PrepareReport
from reenax.core.errors import UserError
from tests.data_pipelines.layouts.folders import colour_of, contents, records_of, run, write_picture
from tests.data_pipelines.openface_files import intensities_of
from tests.data_pipelines.openface_files import write_picture as write_measured
from tests.interop.face_models.made_up_flame import Runs, python2_array

NAMES = [f"N_{number:04d}" for number in range(6)]
UNITS = dict(zip(NAMES, intensities_of(len(NAMES)).astype(np.float64), strict=True))


def python2(units: dict[str, np.ndarray]) -> bytes:
    """A dictionary as Python 2 pickles it."""
    items = (b"U%c%s" % (len(name), name.encode()) + python2_array(row) for name, row in units.items())
    return b"\x80\x02}(" + b"".join(items) + b"u."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures; one is damaged, one has no action units, one is listed and not there."""
    folder = tmp_path_factory.mktemp("ganimation")
    for number, name in enumerate(NAMES):
        write_picture(folder / "imgs" / f"{name}.jpg", colour_of(number), 24, 24)
    (folder / "imgs" / f"{NAMES[3]}.jpg").write_bytes(b"no picture")
    units = {name: row for name, row in UNITS.items() if name != NAMES[4]} | {"elsewhere": UNITS[NAMES[0]]}
    (folder / "aus_openface.pkl").write_bytes(pickle.dumps(units))
    (folder / "train_ids.csv").write_text("".join(f"{name}.jpg\n" for name in [*NAMES[1:], "lost"]))
    (folder / "test_ids.csv").write_text(f"{NAMES[0]}.jpg\n{NAMES[1]}.jpg\n")
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrepareReport]:
    out = tmp_path_factory.mktemp("prepared") / "data"
    return out, run(folder, out, "ganimation")


def test_pictures_become_records_with_raw_intensities(prepared: tuple[Path, PrepareReport]) -> None:
    out, report = prepared
    records = records_of(out)
    assert set(records["test"]) == {f"{NAMES[0]}/0000", f"{NAMES[1]}/0000"}
    assert set(records["train"]) == {f"{NAMES[2]}/0000", f"{NAMES[5]}/0000"}
    for number, split in ((0, "test"), (5, "train")):
        record = records[split][f"{NAMES[number]}/0000"]
        assert record["identity"] == NAMES[number]
        np.testing.assert_allclose(record["action_units"], UNITS[NAMES[number]][None], rtol=1e-6)
        assert np.abs(record["colours"][0] - colour_of(number)).max() < 6
        assert (float(record["fps"]), list(record["timestamps"]), list(record["bbox"])) == (1, [0], [0, 0, 24, 24])
    assert {(one.path.stem, one.kind) for one in report.skipped} == {
        (NAMES[1], "duplicate"),
        (NAMES[3], "unreadable"),
        (NAMES[4], "unlabelled"),
        ("lost", "missing"),
    }
    assert "skipped 4 inputs: " in report.text()


def test_a_second_run_changes_nothing_and_other_labels_are_written_anew(
    folder: Path, prepared: tuple[Path, PrepareReport], tmp_path: Path
) -> None:
    out, first = prepared
    before = contents(out)
    again = run(folder, out, "ganimation", workers=2)
    assert again.unchanged
    assert contents(out) == before
    assert (again.digest, again.skipped) == (first.digest, first.skipped)
    with pytest.raises(UserError, match="was made with size 16, not size 32"):
        run(folder, out, "ganimation", size=32)
    other, moved = tmp_path / "out", tmp_path / "folder"
    shutil.copytree(out, other)
    shutil.copytree(folder, moved)
    (moved / "aus_openface.pkl").write_bytes(pickle.dumps({NAMES[0]: np.ones(17), NAMES[2]: np.zeros(17)}))
    changed = run(moved, other, "ganimation")
    assert not changed.unchanged
    assert records_of(other)["test"][f"{NAMES[0]}/0000"]["action_units"].max() == 1
    assert len(records_of(other)["train"]) == 1


def test_an_interrupted_run_continues_and_workers_change_nothing(
    folder: Path, prepared: tuple[Path, PrepareReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_pipelines.layouts import prepare, squares

    monkeypatch.setattr(prepare, "PART", 2)
    made = []

    def failing(part: squares.Part) -> squares.Part:
        if made:
            raise OSError(28, "No space left on device")
        made.append(squares.make(part).file)
        return part

    monkeypatch.setattr(prepare, "make", failing)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); free space and run the same"):
        run(folder, tmp_path / "data", "ganimation")
    monkeypatch.setattr(prepare, "make", squares.make)
    time = made[0].stat().st_mtime_ns
    seen = []
    real = prepare._made

    def noting(parts: Sequence[squares.Part], workers: int) -> Iterator[squares.Part]:
        seen.extend(part.file for part in parts)
        return real(parts, workers)

    monkeypatch.setattr(prepare, "_made", noting)
    assert made[0].stat().st_mtime_ns == time
    assert run(folder, tmp_path / "data", "ganimation", workers=2).digest == prepared[1].digest
    assert made[0] not in seen
    assert len(seen) == 2
    assert not (tmp_path / "data" / ".work").exists()


def test_pickles_of_python_2_are_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old/aus_openface.pkl").rename(tmp_path / "old/aus.pkl")  # as the published script names it
    (tmp_path / "old/aus.pkl").write_bytes(python2(UNITS))
    plan = read(tmp_path / "old", Wish())
    assert len(plan.stills) == 6
    for still in plan.stills:
        np.testing.assert_allclose(still.labels["action_units"], UNITS[still.name], rtol=1e-6)


def test_files_of_openface_stand_in_for_the_dictionary(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "imgs", tmp_path / "folder/imgs")
    for name in NAMES[:3]:
        write_measured(tmp_path / "measured" / f"{name}.csv", [(0.2, UNITS["N_0005"]), (0.9, UNITS[name])])
    (tmp_path / "measured" / f"{NAMES[5]}.csv").write_text("face\n")
    report = run(tmp_path / "folder", tmp_path / "data", "ganimation", measured=tmp_path / "measured", test_share=0.4)
    records = {name: record for part in records_of(tmp_path / "data").values() for name, record in part.items()}
    assert set(records) == {f"{name}/0000" for name in NAMES[:3]}
    assert report.splits["test"]["clips"] == 1
    for name in NAMES[:3]:
        np.testing.assert_allclose(records[f"{name}/0000"]["action_units"], UNITS[name][None], atol=0.006)
    reasons = {one.path.stem: one.reason for one in report.skipped}
    assert "has no CSV file of its name" in reasons[NAMES[4]]
    assert "no column of action units" in reasons[NAMES[5]]


def test_names_have_endings_of_any_length(folder: Path, tmp_path: Path) -> None:
    for name, ending in zip(NAMES[:3], ("jpeg", "webp", "tiff"), strict=True):
        (tmp_path / "imgs").mkdir(exist_ok=True)
        shutil.copy(folder / "imgs" / f"{name}.jpg", tmp_path / "imgs" / f"{name}.{ending}")
    assert [still.name for still in read(tmp_path, Wish(measured=True)).stills] == NAMES[:3]
    (tmp_path / "aus.pkl").write_bytes(pickle.dumps(UNITS))
    assert [still.name for still in read(tmp_path, Wish()).stills] == NAMES[:3]


def test_a_hostile_pickle_runs_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bad")
    path = tmp_path / "bad/aus_openface.pkl"
    path.write_bytes(pickle.dumps({"a": Runs(tmp_path / "mark", exec)}))
    with pytest.raises(UserError, match=r"aus_openface.pkl .*is not read, since such a file can run code"):
        read(tmp_path / "bad", Wish())
    assert not (tmp_path / "mark").exists()
    for content, words in (
        (b"junk", "truncated or damaged pickle"),
        (pickle.dumps([1]), "no dictionary of file names"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            read(tmp_path / "bad", Wish())
    row = np.full(17, np.nan)
    path.write_bytes(pickle.dumps(dict.fromkeys(NAMES, row) | {NAMES[0]: np.zeros(16), NAMES[1]: "text"}))
    plan = read(tmp_path / "bad", Wish())
    assert not plan.stills
    assert "has no 17 finite action units" in {one.reason for one in plan.skipped}
    with pytest.raises(UserError, match=r"no usable picture among 8; the first: .*N_0000.jpg: has no 17"):
        run(tmp_path / "bad", tmp_path / "data", "ganimation")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 5}, "size 5"),
        ({"faces": "mtcnn"}, "faces 'mtcnn'"),
        ({"faces": "dlib"}, "are cut already; leave --faces out"),
        ({"attributes": ("Young",)}, "--attributes: the layout ganimation has none"),
        ({"workers": 0}, "workers 0"),
        ({"test_share": 1.0}, "test_share 1.0"),
        ({"split": "time"}, "split 'time'"),
    ],
)
def test_wrong_arguments_are_one_line(folder: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(folder, tmp_path / "data", "ganimation", **options)
    assert not (tmp_path / "data").exists()


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"imgs: no such file or folder; the layout ganimation has imgs/, aus_openface"):
        run(tmp_path, tmp_path / "data", "ganimation")
    (tmp_path / "imgs").mkdir()
    with pytest.raises(UserError, match=r"aus_openface.pkl: no such file"):
        run(tmp_path, tmp_path / "data", "ganimation")
    with pytest.raises(UserError, match="none: no such folder"):
        run(tmp_path / "none", tmp_path / "data", "ganimation")
    with pytest.raises(UserError, match="layout 'voxceleb': give ganimation, celeba, rafd, multipie"):
        run(folder, tmp_path / "data", "voxceleb")
