"""OpenFace's CSV files: every form that its tools give them, and everything that can be wrong with one."""

from pathlib import Path

import numpy as np
import pytest

from data_pipelines.openface import files_of, longest_gap, measured_files, on_frames, read_action_units, read_track
from reenax.core.errors import UserError
from reenax.geometry.head.action_units import ACTION_UNITS
from tests.data_pipelines.openface_files import intensities_of, write_picture, write_video_rows


def test_a_video_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    truth = intensities_of(6)
    times, found = read_action_units(write_video_rows(tmp_path / "a.csv", truth, fps=25))
    assert times is not None
    np.testing.assert_allclose(times, np.arange(6) / 25, atol=1e-3)
    np.testing.assert_allclose(found, truth, atol=0.006)
    assert (found.dtype, times.dtype) == (np.float32, np.float64)
    shuffled = write_video_rows(tmp_path / "b.csv", truth, fps=25, order=ACTION_UNITS[::-1], separator=",")
    np.testing.assert_array_equal(read_action_units(shuffled)[1], found)


def test_the_surest_face_of_a_frame_counts(tmp_path: Path) -> None:
    truth = intensities_of(3)
    path = write_video_rows(tmp_path / "a.csv", truth, fps=25)
    lines = path.read_text().splitlines()
    low, high = (f"2, 1, 0.04, {sure}, 1, 0.5, " + ", ".join([str(sure)] * 17) + ", 1.00" for sure in (0.3, 0.99))
    path.write_text("\n".join([lines[0], low, *lines[1:], high]) + "\n")
    found = read_action_units(path)[1]
    np.testing.assert_allclose(found[[0, 2]], truth[[0, 2]], atol=0.006)
    np.testing.assert_allclose(found[1], 0.99, atol=1e-6)
    picture = write_picture(tmp_path / "p.csv", [(0.4, truth[0]), (0.9, truth[1])])
    times, found = read_action_units(picture)
    assert times is None
    np.testing.assert_allclose(found, truth[1:2], atol=0.006)


def test_frames_without_a_face_lie_between_their_neighbours(tmp_path: Path) -> None:
    truth = intensities_of(5)
    path = write_video_rows(tmp_path / "a.csv", truth, fps=25, lost=(0, 2))
    track = read_track(path)
    np.testing.assert_array_equal(track.seen, [False, True, False, True, True])
    found = read_action_units(path)[1]
    np.testing.assert_allclose(found[2], (truth[1] + truth[3]) / 2, atol=0.01)
    np.testing.assert_allclose(found[0], truth[1], atol=0.006)
    assert [longest_gap(np.array(seen, bool)) for seen in ([1, 1], [0, 1, 0, 0], [0])] == [0, 2, 1]


def test_a_sequence_of_pictures_has_no_times(tmp_path: Path) -> None:
    path = write_video_rows(tmp_path / "a.csv", intensities_of(3), fps=0)
    assert read_action_units(path)[0] is None
    bare = tmp_path / "bare.csv"  # made by hand
    bare.write_text(",".join(f"{unit}_r" for unit in ACTION_UNITS) + "\n" + (",".join("1" * 17) + "\n") * 4)
    times, found = read_action_units(bare)
    assert times is None
    assert found.shape == (4, 17)


def test_a_track_is_laid_on_the_frames_of_its_video(tmp_path: Path) -> None:
    truth = intensities_of(10)
    track = read_track(write_video_rows(tmp_path / "a.csv", truth, fps=25, lost=(4,)))
    by_number, seen = on_frames(track, np.arange(10) / 24)  # the count agrees: the clock does not matter
    np.testing.assert_allclose(by_number[seen], truth[seen], atol=0.006)
    np.testing.assert_array_equal(np.flatnonzero(~seen), [4])
    by_time, seen = on_frames(track, np.arange(40) / 50 + 0.001)  # twice as many frames, beyond the track's end
    np.testing.assert_allclose(by_time[:8:2], truth[:4], atol=0.006)
    np.testing.assert_array_equal(np.flatnonzero(seen), [*range(0, 8, 2), *range(10, 20, 2)])
    timeless = track._replace(times=None)
    np.testing.assert_array_equal(on_frames(timeless, np.arange(40) / 50)[1].sum(), 9)


def test_files_are_found_by_path_and_by_name(tmp_path: Path) -> None:
    for name in ("anna/a.csv", "b.csv", "c.csv"):
        write_picture(tmp_path / name, [(1.0, intensities_of(1)[0])])
    files = measured_files(tmp_path)
    found = files_of(["anna/a", "ben/b", "cleo/c", "dora/c", "e"], files)
    assert found == {"anna/a": tmp_path / "anna/a.csv", "ben/b": tmp_path / "b.csv"}  # whose is c.csv?
    with pytest.raises(UserError, match="no such folder"):
        measured_files(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no CSV file in it; run OpenFace's FeatureExtraction"):
        measured_files(tmp_path / "empty")


HEADER = "frame, success, " + ", ".join(f"{unit}_r" for unit in ACTION_UNITS)
ZEROS = ", ".join(["0.0"] * 17)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("a, b\n1, 2\n", "no column of action units"),
        (HEADER.replace(", AU06_r", "") + "\n", "lacks the columns AU06_r"),
        (HEADER + "\n", "no face in its 0 frames"),
        (f"{HEADER}\n1, 0, {ZEROS}\n", "no face in its 1 frames"),
        (f"{HEADER}\n1, 1, 0.0\n", "line 2 has 3 columns of 19"),
        (f"{HEADER}\n1, 1, {ZEROS.replace('0.0', 'x')}\n", "line 2: au01_r is 'x', no number"),
        (f"{HEADER}\nnan, 1, {ZEROS}\n", "line 2: frame is nan"),
        (f"{HEADER}\n1, 1, {ZEROS.replace('0.0', '-nan(ind)')}\n", "no face in its 1 frames"),
        ("a" * 200_000, "cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="a.csv: ") as raised:
        read_action_units(path)
    assert words in str(raised.value)
    with pytest.raises(UserError, match="No such file"):
        read_action_units(tmp_path / "none.csv")


def test_what_lies_beyond_the_scale_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}\n1, 1, {ZEROS.replace('0.0', '5.3', 1)}\n2, 1, {ZEROS.replace('0.0', '-0.1', 1)}\n")
    np.testing.assert_array_equal(read_action_units(path)[1][:, 0], [5, 0])
