"""`reenax prepare --layout` and `--openface` on the command line."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines.clips import open_clips
from reenax import cli
from tests.data_pipelines.layouts.folders import colour_of, write_picture
from tests.data_pipelines.openface_files import intensities_of, write_video_rows
from tests.data_pipelines.self_made_videos import moving_picture, write_video


def prepare(*arguments) -> int:
    return cli.main(["prepare", *(str(argument) for argument in arguments)])


def refused(capsys: pytest.CaptureFixture, *arguments) -> str:
    """The one line of a command that must fail with exit code 2."""
    capsys.readouterr()
    assert prepare(*arguments) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_layout_is_prepared_and_what_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(4):
        write_picture(tmp_path / "in" / "ab"[number % 2] / f"{number}.png", colour_of(number))
    common = ("--layout", "rafd", "--size", 16, "--out", tmp_path / "out")
    assert prepare(tmp_path / "in", *common, "--faces", "none", "--workers", 1) == 0
    assert "train: 3 clips, 3 frames, 3 identities" in capsys.readouterr().out
    assert prepare(tmp_path / "in", *common, "--faces", "none") == 0
    assert "nothing new, left as it is" in capsys.readouterr().out
    said = refused(capsys, tmp_path / "in", *common, "--faces", "none", "--test-share", 0.5)
    assert "was made with test_share 0.2, not test_share 0.5" in said
    assert "give the one folder of the data set, not 2" in refused(capsys, tmp_path, tmp_path, *common)
    assert "--max-frames: the pictures" in refused(capsys, tmp_path, *common, "--max-frames", 9)
    assert "--attributes: the layout rafd" in refused(capsys, tmp_path, *common, "--attributes", "Young")
    assert "--attributes: videos have none" in refused(capsys, tmp_path, "--out", tmp_path, "--attributes", "Young")
    with pytest.raises(SystemExit):
        prepare(tmp_path, "--layout", "voxceleb", "--out", tmp_path / "out")
    assert "invalid choice: 'voxceleb'" in capsys.readouterr().err


def test_videos_get_the_action_units_of_their_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truth = {name: intensities_of(40, seed) for seed, name in enumerate(("anna/a", "ben/b", "cleo/c"))}
    for seed, name in enumerate((*truth, "dora/d")):
        write_video(tmp_path / "in" / f"{name}.mp4", moving_picture(40, 32, 32, seed=seed))
    write_video_rows(tmp_path / "csv/anna/a.csv", truth["anna/a"], fps=25, lost=(3, 4))
    write_video_rows(tmp_path / "csv/b.csv", truth["ben/b"], fps=25, lost=range(25, 31))  # too many in the second clip
    write_video_rows(tmp_path / "csv/c.csv", truth["cleo/c"], fps=25, lost=range(1, 39))
    common = ("--out", tmp_path / "out", "--size", 16, "--faces", "none", "--max-frames", 20, "--test-share", 0)
    assert prepare(tmp_path / "in", *common, "--openface", tmp_path / "csv") == 0
    said = capsys.readouterr().out
    assert "2 unmeasured" in said
    assert "d.mp4: unmeasured: " in said
    clips = open_clips(tmp_path / "out", "train", ("action_units",))
    found = {clips.clip_ids[at]: clips[at]["action_units"] for at in range(len(clips))}
    assert list(found) == ["anna/a.mp4/0000", "anna/a.mp4/0001", "ben/b.mp4/0000"]
    np.testing.assert_allclose(found["anna/a.mp4/0001"], truth["anna/a"][20:], atol=0.006)
    np.testing.assert_allclose(found["ben/b.mp4/0000"], truth["ben/b"][:20], atol=0.006)
    between = truth["anna/a"][2] * [[2 / 3], [1 / 3]] + truth["anna/a"][5] * [[1 / 3], [2 / 3]]
    np.testing.assert_allclose(found["anna/a.mp4/0000"][3:5], between, atol=0.01)
    assert prepare(tmp_path / "in", *common, "--openface", tmp_path / "csv") == 0
    assert "nothing new, left as it is" in capsys.readouterr().out
    assert "was made with openface True, not openface None" in refused(capsys, tmp_path / "in", *common)
    write_video_rows(tmp_path / "csv/anna/a.csv", truth["ben/b"], fps=25)
    assert "holds another video named 'anna/a.mp4'" in refused(
        capsys, tmp_path / "in", *common, "--openface", tmp_path / "csv"
    )
