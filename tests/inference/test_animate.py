"""Real files in, real files out: sizes, times, sound, layout, signature, and every mistake in one line."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.faces import Face, FaceDetector
from data_pipelines.media import AUDIO_RATE, iterate_frames, probe, read_audio, read_image
from reenax import __version__
from reenax.core.errors import UserError
from reenax.inference import provenance
from reenax.inference.animate import animate, normalised
from reenax.inference.portrait import open_portrait, paste, soft_mask
from tests.data_pipelines.self_made_videos import frames_of, write_video
from tests.inference.toys import SIZE, trained

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="the sample media (../shared/samples) are not here")
VARYING = np.array([0.0, 0.04, 0.1, 0.13, 0.3, 0.31, 0.5])


def brightening(count, height=96, width=80):
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = np.linspace(60, 180, count)[:, None, None, None]
    return frames


@pytest.fixture
def portrait(tmp_path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(np.full((90, 120, 3), 100, np.uint8)).save(path)
    return path


def run(portrait, driving, out, model=None, **options):
    options = {"faces": "none", "credentials": False, "batch_size": 3} | options
    return animate(model or trained(), portrait, driving, out, **options)


def test_frame_times_are_those_of_the_driver(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(7), VARYING)
    report = run(portrait, driving, tmp_path / "o.mp4")
    made, times = frames_of(tmp_path / "o.mp4")
    np.testing.assert_allclose(times, VARYING, atol=1e-4)
    assert report.frames == 7
    assert made.shape == (7, SIZE, SIZE, 3)
    np.testing.assert_allclose(made.mean((1, 2, 3)), 100 + brightening(7)[:, 0, 0, 0].astype(float) - 60, atol=3)


def test_absolute_mode_reaches_the_method(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(2))
    run(portrait, driving, tmp_path / "o.mp4", options={"mode": "absolute"})
    made, _ = frames_of(tmp_path / "o.mp4")
    np.testing.assert_allclose(made.mean((1, 2, 3)), [100 + 60 - 127.5, 100 + 180 - 127.5], atol=3)


@pytest.mark.parametrize("rate", [44_100, 11_025])
def test_sound_is_carried_over_in_time(rate, portrait, tmp_path):
    seconds = np.arange(int(2.0 * rate)) / rate
    tone = np.where((seconds > 1.0) & (seconds < 1.5), np.sin(2 * np.pi * 440 * seconds), 0) * 0.5
    driving = write_video(tmp_path / "d.mp4", brightening(50), sound=tone, sound_rate=rate)
    report = run(portrait, driving, tmp_path / "o.mp4")
    assert report.sound
    assert "with the driver's sound" in report.text()
    sound = read_audio(tmp_path / "o.mp4")
    original = read_audio(driving)
    assert sound is not None
    assert original is not None
    assert abs(len(sound) - len(original)) < 0.1 * AUDIO_RATE
    loud = np.flatnonzero(np.abs(sound.astype(float)) > 3000) / AUDIO_RATE
    assert loud[0] == pytest.approx(1.0, abs=0.03)
    assert loud[-1] == pytest.approx(1.5, abs=0.03)


def test_rotation_of_the_driver_is_applied(portrait, tmp_path):
    frames = np.full((3, 64, 64, 3), 60, np.uint8)
    frames[:, :32] = 200
    driving = write_video(tmp_path / "d.mp4", frames, rotation=90)
    run(portrait, driving, tmp_path / "o.mp4", compare=True)
    made, _ = frames_of(tmp_path / "o.mp4")
    shown = made[0][:, SIZE : 2 * SIZE].astype(float)
    assert abs(shown[:32].mean() - shown[32:].mean()) < 10
    assert abs(shown[:, :32].mean() - shown[:, 32:].mean()) > 100


def test_compare_shows_source_driving_and_result(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(4))
    run(portrait, driving, tmp_path / "o.mp4", compare=True)
    made, _ = frames_of(tmp_path / "o.mp4")
    assert made.shape == (4, SIZE, 3 * SIZE, 3)
    parts = [made[3][:, i * SIZE : (i + 1) * SIZE].mean() for i in range(3)]
    np.testing.assert_allclose(parts, [100, 180, 220], atol=3)


def test_paste_back_touches_nothing_outside_of_the_square(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(2))
    run(portrait, driving, tmp_path / "o.mp4", paste_back=True)
    made, _ = frames_of(tmp_path / "o.mp4")
    assert made.shape == (2, 90, 120, 3)
    assert abs(made[1][:, :10].astype(float) - 100).max() < 4
    assert made[1][45, 60].mean() == pytest.approx(220, abs=4)


def test_pasting_is_exact_outside_and_soft_at_the_border():
    picture = np.full((100, 100, 3), 50, np.uint8)
    box = (20.0, 20.0, 80.0, 80.0)
    pasted = paste(picture, np.full((16, 16, 3), 250, np.uint8), box, soft_mask(box, (100, 100)))
    outside = np.ones((100, 100), bool)
    outside[21:79, 21:79] = False
    np.testing.assert_array_equal(pasted[outside], 50)
    np.testing.assert_array_equal(pasted[50, 50], 250)
    row = pasted[50, 20:50, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 90


def test_there_is_no_fading_at_the_border_of_the_picture_itself():
    box = (0.0, 0.0, 60.0, 60.0)
    mask = soft_mask(box, (60, 100))
    assert mask[:, :45].min() > 0.999
    np.testing.assert_array_equal(mask[:, -1], 0)
    pasted = paste(np.full((60, 100, 3), 50, np.uint8), np.full((16, 16, 3), 250, np.uint8), box, mask)
    np.testing.assert_array_equal(pasted[:, :45], 250)
    np.testing.assert_array_equal(pasted[:, 59:], 50)


def test_a_driving_picture_gives_a_picture_and_a_folder_a_video(portrait, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(brightening(3)):
        Image.fromarray(frame).save(folder / f"{i}.png")
    run(portrait, folder / "2.png", tmp_path / "o.png")
    assert read_image(tmp_path / "o.png").shape == (SIZE, SIZE, 3)
    report = run(portrait, folder, tmp_path / "o.mp4")
    assert report.frames == 3
    assert not report.sound
    assert probe(tmp_path / "o.mp4").fps == pytest.approx(25)


def test_the_batch_size_changes_nothing(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(7))
    made = []
    for size in (1, 4, 16):
        run(portrait, driving, tmp_path / "o.mp4", batch_size=size)
        made.append(frames_of(tmp_path / "o.mp4")[0])
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


@pytest.mark.parametrize("name", ["o.mp4", "o.png"])
def test_outputs_are_signed_as_made_by_ai(name, portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(1 if name == "o.png" else 3))
    report = run(portrait, driving, tmp_path / name, credentials=True)
    assert "signed as made by AI" in report.text()
    said = provenance.read(tmp_path / name)
    assert said == {
        "state": "Valid",
        "made_by_ai": True,
        "method": "tint",
        "version": __version__,
        "source": "picture",
        "driving": "video",
    }
    assert oct(os.stat(provenance.credentials_folder() / "signer.pem").st_mode & 0o777) == "0o600"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["d.mp4", name, "portrait.png"])
    raw = bytearray((tmp_path / name).read_bytes())
    middle = raw.index(b"IDAT") + 20 if name == "o.png" else raw.index(b"mdat") + 200
    raw[middle] ^= 0xFF
    changed = tmp_path / f"changed_{name}"
    changed.write_bytes(bytes(raw))
    said = provenance.read(changed)
    assert said is not None
    assert said["state"] == "Invalid"


def test_without_credentials_the_report_says_what_that_means(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(2))
    report = run(portrait, driving, tmp_path / "o.mp4")
    assert "NOT signed" in report.text()
    assert provenance.read(tmp_path / "o.mp4") is None


def test_mistakes_are_named_and_leave_nothing_behind(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(2))
    out = tmp_path / "o.mp4"
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text.mp4").write_text("hello")
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    still = {"mode": "absolute", "adapt_scale": "yes"}
    cases = [
        ((tmp_path / "nobody.png", driving, out), {}, "nobody.png"),
        ((portrait, tmp_path / "none.mp4", out), {}, "none.mp4"),
        ((portrait, tmp_path / "text.mp4", out), {}, "text.mp4"),
        ((portrait, empty, out), {}, "holds no pictures"),
        ((portrait, driving, tmp_path / "o.avi"), {}, "cannot write .avi"),
        ((portrait, driving, tmp_path / "o"), {}, "without a suffix"),
        ((portrait, driving, tmp_path / "o.png"), {}, "has several frames, a .png holds one"),
        ((portrait, driving, folder), {}, "is a folder; give --out the name of a file"),
        ((portrait, driving, Path("/proc/o.mp4")), {}, "/proc/o.mp4 cannot be written"),
        ((portrait, driving, tmp_path / "no" / "o.mp4"), {}, "is no folder"),
        ((portrait, driving, driving), {}, "is the driving file itself"),
        ((portrait, portrait, portrait), {}, "is the source file itself"),
        ((portrait, driving, out), {"options": {"mode": "relativ"}}, "mode must be"),
        ((portrait, driving, out), {"options": still}, "adapt_scale is about relative motion"),
        ((portrait, driving, out), {"best_frame": True}, "--best-frame compares faces"),
        ((portrait, driving, out), {"paste_back": True, "compare": True}, "choose one"),
        ((portrait, driving, out), {"model": trained(drives=frozenset({"audio"}))}, "not driven by video but by audio"),
    ]
    for paths, options, message in cases:
        with pytest.raises(UserError, match=message):
            run(*paths, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_failure_in_the_middle_keeps_the_earlier_output(portrait, tmp_path, monkeypatch):
    driving = write_video(tmp_path / "d.mp4", brightening(5))
    out = tmp_path / "o.mp4"
    run(portrait, driving, out)
    before = out.read_bytes()

    def full(self, frame, time):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data_pipelines.video_writer.VideoWriter.write", full)
    with pytest.raises(UserError, match="the disk that should hold .* is full"):
        run(portrait, driving, out)
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.mp4", "o.mp4", "portrait.png"]


class Detector(FaceDetector):
    """Finds in every picture a face as wide as the picture is bright, and none in dark ones."""

    def __init__(self):
        pass

    def detect(self, picture):
        width = 0.1 * picture.mean()
        if width < 5:
            return []
        angles = np.linspace(0, 2 * np.pi, 68)
        points = np.stack([40 + width * np.cos(angles), 45 + 15 * np.sin(angles)], axis=1).astype(np.float32)
        return [Face((40 - width, 30.0, 40 + width, 60.0), points, 1.0)]

    def search(self, picture, side, threshold=0.0):
        return self.detect(picture)

    def near(self, picture, box):
        return next(iter(self.detect(picture)), None)


def test_motion_is_measured_from_the_frame_that_is_most_like_the_source(portrait, tmp_path, monkeypatch):
    monkeypatch.setattr("reenax.inference.animate.FaceDetector", Detector)
    driving = write_video(tmp_path / "d.mp4", brightening(7))
    report = run(portrait, driving, tmp_path / "o.mp4", faces="dlib", best_frame=True)
    assert report.first == 2
    assert "motion measured from driving frame 2" in report.text()
    made, _ = frames_of(tmp_path / "o.mp4")
    np.testing.assert_allclose(made.mean((1, 2, 3)), 100 + np.arange(-2, 5) * 20, atol=3)


def test_the_source_is_cut_with_the_margin_that_is_asked_for(portrait, monkeypatch):
    monkeypatch.setattr("reenax.inference.animate.FaceDetector", Detector)
    tight = open_portrait(portrait, SIZE, Detector(), 0.0).box
    wide = open_portrait(portrait, SIZE, Detector(), 0.5).box
    assert tight == (25.0, 30.0, 55.0, 60.0)
    assert wide == (10.0, 15.0, 70.0, 75.0)
    assert open_portrait(portrait, SIZE, Detector()).box not in (tight, wide)


@pytest.mark.parametrize(
    ("margin", "faces", "message"),
    [(0.0, "none", "--margin 0 is of the square around"), (-1.0, "dlib", "--margin -1: it is a share")],
)
def test_a_margin_needs_a_face_and_has_bounds(margin, faces, message, portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(2))
    with pytest.raises(UserError, match=message):
        run(portrait, driving, tmp_path / "o.mp4", faces=faces, margin=margin)


def test_pictures_and_videos_without_a_face_are_refused(portrait, tmp_path, monkeypatch):
    monkeypatch.setattr("reenax.inference.animate.FaceDetector", Detector)
    dark = write_video(tmp_path / "dark.mp4", brightening(3) // 10)
    with pytest.raises(UserError, match=r"dark.mp4: no face found; .*--faces none"):
        run(portrait, dark, tmp_path / "o.mp4", faces="dlib")
    with pytest.raises(UserError, match=r"dark.mp4: no face found; .*--faces none"):
        run(dark, portrait, tmp_path / "o.mp4", faces="dlib")


def test_models_that_read_landmarks_need_a_detector_that_finds_as_many(portrait, tmp_path):
    driving = write_video(tmp_path / "d.mp4", brightening(2))
    with pytest.raises(UserError, match="tint needs the landmarks of faces, and --faces none looks for none"):
        run(portrait, driving, tmp_path / "o.mp4", trained(reads=frozenset({"landmarks"})))
    with pytest.raises(UserError, match="reads landmarks_106, and only 68 landmarks can be found in pictures"):
        run(portrait, driving, tmp_path / "o.mp4", trained(reads=frozenset({"landmarks_106"})), faces="dlib")
    assert not (tmp_path / "o.mp4").exists()


def test_a_gif_is_a_video(portrait, tmp_path):
    pictures = [Image.fromarray(frame) for frame in brightening(4)]
    pictures[0].save(tmp_path / "d.gif", save_all=True, append_images=pictures[1:], duration=80)
    run(portrait, tmp_path / "d.gif", tmp_path / "o.mp4")
    made, times = frames_of(tmp_path / "o.mp4")
    np.testing.assert_allclose(times, np.arange(4) * 0.08, atol=1e-4)
    np.testing.assert_allclose(made.mean((1, 2, 3)), 100 + np.arange(4) * 40, atol=4)


def test_normalised_landmarks_ignore_place_and_size():
    points = np.random.default_rng(0).normal(size=(68, 2))
    np.testing.assert_allclose(normalised(points), normalised(3 * points + 7), atol=1e-12)


@needs_samples
def test_faces_of_samples_are_found_and_the_best_frame_is_chosen(tmp_path):
    pytest.importorskip("dlib", reason="the faces extra is not installed")
    report = animate(
        trained(), SAMPLES / "source" / "s9.jpg", SAMPLES / "driving" / "d18.mp4", tmp_path / "o.mp4", best_frame=True
    )
    made, times = frames_of(tmp_path / "o.mp4")
    driving = [f.time for f in iterate_frames(SAMPLES / "driving" / "d18.mp4")]
    np.testing.assert_allclose(times, driving, atol=1e-4)
    assert 0 <= report.first < len(driving)
    assert provenance.read(tmp_path / "o.mp4") is not None


@needs_samples
def test_a_picture_without_a_face_is_refused(portrait, tmp_path):
    pytest.importorskip("dlib", reason="the faces extra is not installed")
    with pytest.raises(UserError, match="portrait.png: no face found; use another picture, or --faces none"):
        run(portrait, SAMPLES / "driving" / "d18.mp4", tmp_path / "o.mp4", faces="dlib")
