"""From videos to a dataset: what comes out, what is skipped, interruptions, repeats, extensions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from data_pipelines import building, workers
from data_pipelines import prepare as preparing
from data_pipelines.clips import decode_clip, open_clips
from data_pipelines.cutting import Settings, cut
from data_pipelines.inputs import Video
from data_pipelines.prepare import PrepareReport, prepare
from data_pipelines.workers import Task, cut_all
from reenax.core.errors import UserError
from tests.data_pipelines.self_made_videos import moving_picture, write_video

SIZE = 32
SETTINGS = Settings(size=SIZE, faces="none", min_frames=16, max_frames=20)


def run(videos: list[Path], out: Path, **options) -> PrepareReport:
    return prepare(videos, out, **{"size": SIZE, "faces": "none", "max_frames": 20, "progress": False, **options})


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four usable videos of three people, and five that are not."""
    folder = tmp_path_factory.mktemp("videos")
    sound = 0.3 * np.sin(np.arange(2 * 44_100) / 20)
    write_video(folder / "anna/a.mp4", moving_picture(45, 64, 96, seed=1), sound=sound)
    uneven = np.cumsum([0, *([40, 90] * 10)])[:20] / 1000
    write_video(folder / "anna/b.mp4", moving_picture(20, seed=2), times=uneven)
    write_video(folder / "id7#v#0#30.mp4", moving_picture(30, seed=3), rotation=90)
    write_video(folder / "solo.mp4", moving_picture(16, seed=4))
    write_video(folder / "short.mp4", moving_picture(15, seed=5))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    shutil.copy(folder / "solo.mp4", folder / "copy.mp4")
    (folder / "zeros.mkv").write_bytes(bytes(10_000))
    return folder


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrepareReport]:
    out = tmp_path_factory.mktemp("prepared") / "data"
    return out, run([videos], out)


def test_clips_are_what_the_videos_show(videos: Path, prepared: tuple[Path, PrepareReport]) -> None:
    out, report = prepared
    assert not report.unchanged
    clips = {split: open_clips(out, split) for split in ("train", "test")}
    assert not set(clips["train"].identities) & set(clips["test"].identities)
    records = {record["clip_id"]: record for part in clips.values() for record in (part[i] for i in range(len(part)))}
    lengths = {name: len(record["frames"]) for name, record in records.items()}
    assert lengths == {
        "anna/a.mp4/0000": 15,
        "anna/a.mp4/0001": 15,
        "anna/a.mp4/0002": 15,
        "anna/b.mp4/0000": 20,
        "copy.mp4/0000": 16,
        "id7#v#0#30.mp4/0000": 15,
        "id7#v#0#30.mp4/0001": 15,
    }
    assert {record["identity"] for record in records.values()} == {"anna", "id7", "copy"}
    middle = records["anna/a.mp4/0001"]
    np.testing.assert_allclose(middle["timestamps"], np.arange(15, 30) / 25, atol=1e-6)
    np.testing.assert_array_equal(middle["bbox"], [16, 0, 80, 64])
    assert middle["audio"].size == round(15 / 25 * 16_000)
    assert np.abs(middle["audio"]).max() > 3000
    assert records["copy.mp4/0000"]["audio"].size == 0
    uneven = records["anna/b.mp4/0000"]
    np.testing.assert_allclose(np.diff(uneven["timestamps"])[:4], [0.04, 0.09, 0.04, 0.09], atol=1e-6)
    assert abs(uneven["fps"] - 19 / uneven["timestamps"][-1]) < 1e-3
    whole = moving_picture(45, 64, 96, seed=1)[15, :, 16:80]
    halved = whole.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(decode_clip(middle, [0])[0] - halved).mean() < 4


def test_the_last_clips_of_everybody_can_be_the_test(videos: Path, tmp_path: Path) -> None:
    report = run([videos / "anna", videos / "id7#v#0#30.mp4"], tmp_path / "data", split="clips", test_share=0.3)
    clips = {split: set(open_clips(tmp_path / "data", split).clip_ids) for split in ("train", "test")}
    # given itself, the folder is the root: its videos are people of their own
    assert clips["test"] == {"a.mp4/0002", "id7#v#0#30.mp4/0001"}
    assert clips["train"] == {"a.mp4/0000", "a.mp4/0001", "b.mp4/0000", "id7#v#0#30.mp4/0000"}
    assert report.splits["test"]["identities"] == ["a", "id7"]
    again = run([videos / "solo.mp4"], tmp_path / "data", split="clips", test_share=0.3)
    assert again.splits["test"] == report.splits["test"]
    assert again.splits["train"]["clips"] == 5


def test_what_gives_no_clip_is_reported(prepared: tuple[Path, PrepareReport]) -> None:
    _, report = prepared
    kinds = {skipped.path.name: skipped.kind for skipped in report.skipped}
    assert kinds == {
        "short.mp4": "too short",
        "empty.mp4": "empty",
        "text.mp4": "unreadable",
        "zeros.mkv": "unreadable",
        "solo.mp4": "duplicate",
    }
    text = report.text()
    assert "skipped 5 inputs: " in text
    assert "2 unreadable" in text
    assert "short.mp4: too short: no 16 frames; it has 15 frames" in text


def test_a_second_run_changes_nothing(videos: Path, prepared: tuple[Path, PrepareReport]) -> None:
    out, first = prepared
    before = contents(out)
    second = run([videos], out, workers=2)
    assert second.unchanged
    assert "nothing new" in second.text()
    assert contents(out) == before
    assert (second.digest, second.splits) == (first.digest, first.splits)
    assert sorted(skipped.path for skipped in second.skipped) == sorted(skipped.path for skipped in first.skipped)


def test_workers_change_nothing(videos: Path, prepared: tuple[Path, PrepareReport], tmp_path: Path) -> None:
    out, report = prepared
    again = run([videos], tmp_path / "data", workers=3)
    assert again.digest == report.digest
    for name in ("clips.json", "digest.json", "sources.json", "settings.json"):
        assert (tmp_path / "data" / name).read_bytes() == (out / name).read_bytes()


def test_other_settings_are_refused(videos: Path, prepared: tuple[Path, PrepareReport], tmp_path: Path) -> None:
    out, _ = prepared
    before = contents(out)
    with pytest.raises(UserError, match=r"was made with size 32, not size 48; use the same, or choose another --out"):
        run([videos], out, size=48)
    assert contents(out) == before
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty, and holds no dataset"):
        run([videos], tmp_path)
    with pytest.raises(UserError, match="cannot be used as a folder"):
        run([videos], tmp_path / "mine.txt")


def test_new_videos_extend_the_dataset(prepared: tuple[Path, PrepareReport], videos: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    shutil.copytree(videos, some, ignore=shutil.ignore_patterns("anna", "copy.mp4"))
    run([some], tmp_path / "data")
    assert "audio" not in open_clips(tmp_path / "data", "train").fields
    shutil.rmtree(some)
    shutil.copytree(
        videos, some, ignore=shutil.ignore_patterns("id7*", "solo.mp4", "copy.mp4")
    )  # the old are not needed
    longer = run([some], tmp_path / "data")
    assert not longer.unchanged
    records = [open_clips(tmp_path / "data", split) for split in ("train", "test")]
    names = {name for part in records for name in part.clip_ids}
    assert {name.rsplit("/", 1)[0] for name in names} == {"anna/a.mp4", "anna/b.mp4", "id7#v#0#30.mp4", "solo.mp4"}
    whole = tmp_path / "whole"
    shutil.copytree(videos, whole, ignore=shutil.ignore_patterns("copy.mp4"))
    assert run([whole], tmp_path / "fresh").digest == longer.digest
    write_video(some / "anna/a.mp4", moving_picture(30, seed=9))
    with pytest.raises(UserError, match=r"holds another video named 'anna/a\.mp4'"):
        run([some], tmp_path / "data")


def test_two_at_the_same_video_leave_one_whole_folder(videos: Path, tmp_path: Path) -> None:
    """As when a run is continued while a worker of the killed one is in its last half second."""
    video, folder = Video(videos / "anna/b.mp4", "anna/b.mp4", "anna"), tmp_path / "clips/0"
    first = cut(video, SETTINGS, folder)
    before = contents(folder)
    assert cut(video, SETTINGS, folder) == first
    assert first.clips == 1
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["0"]


def test_a_killed_run_continues(
    videos: Path, prepared: tuple[Path, PrepareReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    program = (
        "import sys; from pathlib import Path; from data_pipelines.prepare import prepare\n"
        f"prepare([Path(sys.argv[1])], Path(sys.argv[2]), size={SIZE}, faces='none', max_frames=20)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(videos), str(out)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (done := list(out.glob(".work/clips/*/outcome.json"))) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.001)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers_of_it = children.read_text().split() if children.exists() else []
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert done
    done = list(out.glob(".work/clips/*/outcome.json"))
    if not (out / "digest.json").exists():
        with pytest.raises(UserError, match="not a finished dataset"):
            open_clips(out, "train")
    cut: list[str] = []

    def noting(tasks, settings, count) -> Iterator:
        cut.extend(str(task.folder / "outcome.json") for task in tasks)
        return cut_all(tasks, settings, count)

    monkeypatch.setattr(preparing, "cut_all", noting)
    report = run([videos], out)
    assert report.digest == prepared[1].digest
    assert not set(cut) & {str(path) for path in done}
    assert not (out / building.WORK_FOLDER).exists()
    while any(Path(f"/proc/{pid}").exists() for pid in workers_of_it):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("moves", [0, 1, 4, 7])
def test_an_interrupted_publication_is_finished(
    prepared: tuple[Path, PrepareReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    source, report = prepared
    out, ready = tmp_path / "data", tmp_path / "data/.work/ready"
    shutil.copytree(source, ready)
    shutil.copytree(source, out, dirs_exist_ok=True)  # an older one
    (out / "video_folder-train.array_record-00001-of-00009").touch()
    (ready / "manifest.json").write_text(json.dumps(sorted(path.name for path in ready.iterdir())))
    real, left = os.replace, [moves]

    def failing(*paths) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*paths)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(KeyboardInterrupt):
        building.publish(out)
    monkeypatch.setattr(os, "replace", real)
    assert not (out / "digest.json").exists()
    building.publish(out)
    building.publish(out)
    assert {path.name for path in out.iterdir()} == {path.name for path in source.iterdir()}
    assert open_clips(out, "train").digest == report.digest
    assert open_clips(out, "train")[0]["frames"] == open_clips(source, "train")[0]["frames"]


class _Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_crash_costs_one_video(videos: Path, tmp_path: Path) -> None:
    good = Video(videos / "solo.mp4", "solo.mp4", "solo")
    deadly = Video(cast(Path, _Deadly()), "deadly.mp4", "deadly")
    tasks = [Task(deadly, tmp_path / "0"), Task(good, tmp_path / "1")]
    outcomes = {task.video.name: outcome for task, outcome in cut_all(tasks, SETTINGS, 1)}
    assert outcomes["deadly.mp4"].reason == "decoding it crashed (exit code 3)"
    assert outcomes["solo.mp4"].clips == 1


def test_what_cannot_be_written_is_raised(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    task = Task(Video(videos / "solo.mp4", "solo.mp4", "solo"), tmp_path / "file/clips")
    with pytest.raises(OSError, match="Not a directory"):
        list(cut_all([task], SETTINGS, 1))


def test_one_run_at_a_time(videos: Path, tmp_path: Path) -> None:
    with building.claimed(tmp_path, {}), pytest.raises(UserError, match="another run"):
        run([videos], tmp_path)


def test_nothing_usable_is_an_error(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no usable clip in 1 inputs; the first: .*short\.mp4"):
        run([videos / "short.mp4"], tmp_path / "data")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 5}, "size 5"),
        ({"faces": "mtcnn"}, "faces 'mtcnn'"),
        ({"min_frames": 30}, "clips of 30 to 20"),
        ({"workers": 0}, "workers 0"),
        ({"test_share": 1.0}, "test_share 1.0"),
        ({"split": "time"}, "split 'time'"),
    ],
)
def test_wrong_arguments_are_one_line(videos: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run([videos], tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


def test_workers_end_when_the_iterator_is_closed(videos: Path, tmp_path: Path) -> None:
    tasks = [Task(Video(videos / "solo.mp4", f"{k}", "solo"), tmp_path / f"{k}") for k in range(3)]
    outcomes = workers.cut_all(tasks, SETTINGS, 1)
    next(outcomes)
    outcomes.close()
    assert not list(tmp_path.glob("2/*"))
