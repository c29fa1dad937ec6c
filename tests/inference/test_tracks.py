"""Drivers from texts and files: what is asked for, and every mistake in one line."""

import wave
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_pipelines.media import AUDIO_RATE, read_image
from reenax.core.errors import UserError
from reenax.core.types import ActionUnitDrive, AudioDrive, LabelDrive, PoseDrive
from reenax.geometry.head.action_units import ACTION_UNITS
from reenax.inference.animate import animate
from reenax.inference.tracks import action_unit_track, audio_track, label_track, pose_track
from tests.data_pipelines.self_made_videos import frames_of, write_video
from tests.inference.toys import SIZE, Tint, trained

SMILE = ACTION_UNITS.index("AU12")


def test_an_expression_leaves_what_it_does_not_name():
    drive = action_unit_track("AU12=1.0,au6=0.5", None, still=True).drive
    assert isinstance(drive, ActionUnitDrive)
    assert drive.amount is None
    named = {"AU12": 1.0, "AU06": 0.5}
    wanted = [[named.get(unit, np.nan) for unit in ACTION_UNITS]]
    np.testing.assert_allclose(drive.intensities, wanted)


def test_in_a_video_an_expression_is_what_the_source_turns_into():
    track = action_unit_track("AU12=1", 5, still=False)
    assert isinstance(track.drive, ActionUnitDrive)
    assert track.drive.amount is not None
    np.testing.assert_allclose(track.drive.amount, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(track.times, np.arange(5) / 25)
    assert track.count == 5


def test_a_range_runs_from_its_first_to_its_last_number():
    track = action_unit_track("AU12=0..1,AU04=0.2", 3, still=False)
    assert isinstance(track.drive, ActionUnitDrive)
    assert track.drive.amount is None
    np.testing.assert_allclose(track.drive.intensities[:, SMILE], [0, 0.5, 1])
    np.testing.assert_allclose(track.drive.intensities[:, ACTION_UNITS.index("AU04")], 0.2)
    turn = pose_track("yaw=-30..30", 3, still=False).drive
    assert isinstance(turn, PoseDrive)
    np.testing.assert_allclose(turn.angles[:, 1], np.deg2rad([-30, 0, 30]), atol=1e-7)
    assert np.isnan(np.asarray(turn.angles)[:, [0, 2]]).all()


def test_measurements_of_openface_are_divided_by_five(tmp_path):
    names = ["timestamp", "confidence", *(f"{unit}_r" for unit in ACTION_UNITS)]
    rows = [[0.5, 1.0, *[1.0] * 17], [0.7, 1.0, *[2.5] * 17]]
    text = "\n".join(", ".join(map(str, row)) for row in [names, *rows])
    (tmp_path / "units.csv").write_text(text)
    track = action_unit_track(str(tmp_path / "units.csv"), None, still=False)
    np.testing.assert_allclose(track.drive[0][:, 0], [0.2, 0.5])
    np.testing.assert_allclose(track.times, [0, 0.2], atol=1e-6)
    assert track.fps == pytest.approx(5)


def test_poses_of_a_file_are_in_degrees(tmp_path):
    path = tmp_path / "poses.csv"
    path.write_text("time,yaw,pitch\n0,10,0\n0.1,20,-5\n0.3,30,5\n")
    track = pose_track(str(path), None, still=False)
    np.testing.assert_allclose(np.rad2deg(track.drive[0][:, :2]), [[0, 10], [-5, 20], [5, 30]], atol=1e-4)
    np.testing.assert_allclose(track.times, [0, 0.1, 0.3])
    path.write_text("time,yaw\n0,10\n0,20\n")
    with pytest.raises(UserError, match="times must increase"):
        pose_track(str(path), None, still=False)
    path.write_text("yaw\n10\n9999\n")
    with pytest.raises(UserError, match="9999 is no angle"):
        pose_track(str(path), None, still=False)
    for gap in ("1e-300", "1e300", "1e5"):
        path.write_text(f"time,yaw\n0,10\n{gap},20\n")
        with pytest.raises(UserError, match="times are in seconds, from 0.001 to 3600"):
            pose_track(str(path), None, still=False)
    path.write_text("angle\n3\n")
    with pytest.raises(UserError, match="no rows with columns pitch, yaw, roll"):
        pose_track(str(path), None, still=False)


def test_speech_is_heard_whole_and_seen_at_25_frames(tmp_path):
    sound = 0.5 * np.sin(np.arange(16_000) / 10)
    video = write_video(tmp_path / "v.mp4", np.zeros((25, 32, 32, 3), np.uint8), sound=sound, sound_rate=16_000)
    track = audio_track(video)
    assert isinstance(track.drive, AudioDrive)
    assert abs(track.drive.waveform.size - 16_000) < 2000
    assert float(jnp.abs(track.drive.waveform).mean()) == pytest.approx(1 / np.pi, abs=0.03)
    assert abs(track.count - 25) < 4
    assert track.sound == video
    exact = tmp_path / "exact.wav"
    with wave.open(str(exact), "wb") as file:
        file.setparams((1, 2, AUDIO_RATE, 0, "NONE", ""))
        file.writeframes(np.full(29 * AUDIO_RATE // 25, 1000, np.int16).tobytes())
    assert audio_track(exact).count == 29
    with wave.open(str(exact), "wb") as file:
        file.setparams((1, 2, AUDIO_RATE, 0, "NONE", ""))
        file.writeframes(np.full(100, 1000, np.int16).tobytes())
    with pytest.raises(UserError, match="its sound is shorter than one frame of 40 ms"):
        audio_track(exact)
    silent = write_video(tmp_path / "s.mp4", np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match="no sound in it"):
        audio_track(silent)


def test_labels_are_a_class_or_attributes():
    names = ("neutral", "happy")
    np.testing.assert_array_equal(label_track("happy", names, "stargan").drive[0], [[np.nan, 1]])
    drive = label_track("NEUTRAL=1", names, "stargan").drive
    assert isinstance(drive, LabelDrive)
    np.testing.assert_array_equal(drive.labels, [[1, np.nan]])
    for value in ("0.5", "0..1"):
        with pytest.raises(UserError, match="a label of stargan is 0 or 1, and no range"):
            label_track(f"happy={value}", names, "stargan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: action_unit_track("AU3=1", None, True), "there is no 'AU03'; there are AU01, AU02"),
        (lambda: action_unit_track("AU12=2", None, True), "AU12 takes a number from 0 to 1, or a range"),
        (lambda: action_unit_track("AU12=a", None, True), "AU12 takes a number from 0 to 1"),
        (lambda: action_unit_track("AU12=1,AU12=0", None, True), "AU12 is given twice"),
        (lambda: action_unit_track("AU12=0..1", None, True), "is a range, a .png holds one picture"),
        (lambda: action_unit_track("AU12=1", 7, True), "--frames 7: a .png holds one"),
        (lambda: action_unit_track("AU12=0..1", 1, False), "--frames 1: a video of AU12=0..1 has at least 2"),
        (lambda: action_unit_track("AU12=1," * 2000, None, True), "AU12 is given twice"),
        (lambda: pose_track("y" * 5000, None, True), "there is no 'yyy"),
        (lambda: action_unit_track("nowhere.csv", None, True), "nowhere.csv"),
        (lambda: pose_track("yaw=10", None, False), "is one pose: give a range"),
        (lambda: pose_track("jaw=10", None, True), "there is no 'jaw'; there are pitch, yaw, roll"),
        (lambda: pose_track("nowhere.csv", None, True), "nowhere.csv: no such file"),
        (lambda: action_unit_track("AU12", None, True), "AU12: no such file; give .* or a text"),
        (lambda: pose_track("yaw=-30...30", None, False), "yaw takes a number from -180 to 180, or a range"),
        (lambda: label_track("sad", ("happy",), "stargan"), "there is no 'sad'; there are happy"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


class Smiling(Tint):
    """As bright as it is asked to smile."""

    max_sources = 2

    def reenactor(self, variables, source, *, anchor: Any = None, mode="relative", adapt_scale=False):
        assert anchor.intensities.shape == (1, 17)
        return lambda drive: jnp.broadcast_to(
            2 * drive.intensities[:, SMILE, None, None, None] - 1, (drive.intensities.shape[0], SIZE, SIZE, 3)
        )


@pytest.fixture
def portrait(tmp_path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(np.full((90, 120, 3), 100, np.uint8)).save(path)
    return path


def smiling():
    model = trained()
    object.__setattr__(model, "method", Smiling(drives=frozenset({"action_units"})))
    return model


def test_a_track_makes_a_video_beside_its_source(portrait, tmp_path):
    options = {"faces": "none", "credentials": False, "batch_size": 2}
    track = action_unit_track("AU12=0..1", 5, still=False)
    animate(smiling(), portrait, track, tmp_path / "o.mp4", compare=True, **options)
    made, times = frames_of(tmp_path / "o.mp4")
    assert made.shape == (5, SIZE, 2 * SIZE, 3)
    np.testing.assert_allclose(made[:, :, SIZE + 8 :].mean((1, 2, 3)), [0, 64, 128, 191, 255], atol=4)
    np.testing.assert_allclose(times, np.arange(5) / 25, atol=1e-4)
    animate(
        smiling(), [portrait], action_unit_track("AU12=0.5", None, True), tmp_path / "o.png", paste_back=True, **options
    )
    pasted = read_image(tmp_path / "o.png")
    assert pasted.shape == (90, 120, 3)
    np.testing.assert_allclose(pasted[45, 60], 128, atol=1)
    np.testing.assert_array_equal(pasted[:, :10], 100)


def test_drivers_and_sources_that_a_method_does_not_take_are_refused(portrait, tmp_path):
    options = {"faces": "none", "credentials": False}
    with pytest.raises(UserError, match=r"tint is not driven by pose but by action_units; methods driven by pose: "):
        animate(smiling(), portrait, pose_track("yaw=1", None, True), tmp_path / "o.png", **options)
    smile = action_unit_track("AU12=1", None, True)
    with pytest.raises(UserError, match="tint uses at most 2 pictures of the source, not 3"):
        animate(smiling(), [portrait] * 3, smile, tmp_path / "o.png", **options)
    with pytest.raises(UserError, match="tint needs --source"):
        animate(smiling(), [], smile, tmp_path / "o.png", **options)
