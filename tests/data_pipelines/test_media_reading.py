"""Reading media: times, rotation, sound, pictures, and files that are not what they say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines import media
from reenax.core.errors import UserError
from tests.data_pipelines.self_made_videos import moving_picture, write_video


def test_frames_and_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    frames = moving_picture(12)
    times = np.cumsum([0, 40, 90, 10, 40, 40, 200, 40, 30, 70, 40, 40]) / 1000
    read = list(media.iterate_frames(write_video(tmp_path / "v.mp4", frames, times)))
    np.testing.assert_allclose([frame.time for frame in read], times, atol=1e-6)
    decoded = np.stack([frame.pixels for frame in read]).astype(int)
    assert np.abs(decoded - frames).mean() < 3


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    frames = moving_picture(3, 48, 64)
    frames[:, :24, :32] = (250, 10, 10)  # the top left corner is red
    path = write_video(tmp_path / "v.mp4", frames, rotation=rotation)
    decoded = next(media.iterate_frames(path)).pixels
    expected = np.rot90(frames[0], rotation // 90)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 6
    info = media.probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert not info.has_audio


def test_sound_is_resampled_and_aligned(tmp_path: Path) -> None:
    time = np.arange(2 * 44_100) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time) * (time > 0.5)
    path = write_video(tmp_path / "v.mp4", moving_picture(50), sound=tone)
    assert media.probe(path).has_audio
    sound = media.read_audio(path)
    assert sound is not None
    assert sound.dtype == np.int16
    assert abs(sound.size - 32_000) < 2000
    assert np.abs(sound[: 16_000 // 2 - 800]).max() < 600
    onset = np.argmax(np.abs(sound) > 4000) / 16_000
    assert abs(onset - 0.5) < 0.05
    spectrum = np.abs(np.fft.rfft(sound[16_000:32_000].astype(float)))
    assert abs(np.argmax(spectrum) * 16_000 / 16_000 - 440) < 5
    piece = media.read_audio(path, 1.0, 1.5)
    assert piece is not None
    assert piece.size == 8000
    np.testing.assert_allclose(piece[100:-100], sound[16_100:23_900], atol=300)
    beyond = media.read_audio(path, 1.9, 5.0)
    assert beyond is not None
    assert beyond.size == round(3.1 * 16_000)


def test_no_sound_is_none(tmp_path: Path) -> None:
    assert media.read_audio(write_video(tmp_path / "v.mp4", moving_picture(3))) is None


def test_pictures(tmp_path: Path) -> None:
    pixels = np.zeros((6, 4, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn clockwise to show
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = media.read_image(tmp_path / "turned.png")
    assert turned.shape == (4, 6, 3)
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))
    rgba = np.dstack([pixels, np.full((6, 4), 7, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(media.read_image(tmp_path / "alpha.png"), pixels)
    Image.fromarray((np.arange(24).reshape(6, 4) * 2500).astype(np.uint16)).save(tmp_path / "deep.png")
    deep = media.read_image(tmp_path / "deep.png")
    assert (deep[0, 0, 0], deep[-1, -1, 0]) == (0, round(23 * 2500 / 257))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"this is no video at all" * 40),
        ("zeros.mov", bytes(5000)),
        ("box.mp4", b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"\xff" * 999),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        ("missing.mp4", None),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (media.probe, media.read_audio, media.read_image, lambda p: list(media.iterate_frames(p))):
        with pytest.raises(UserError, match=name) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_damaged_videos_never_crash(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", moving_picture(20), sound=np.zeros(44_100 // 2)).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.mp4"
    for trial in range(30):
        content = bytearray(good)
        if trial % 3 == 0:
            content = content[: rng.integers(1, len(good))]
        else:
            for at in rng.integers(0, len(good), 1 + trial):
                content[at] = rng.integers(256)
        path.write_bytes(content)
        for read in (lambda p: list(media.iterate_frames(p)), media.read_audio, media.probe):
            try:
                read(path)
            except UserError as error:
                assert str(path) in str(error)  # noqa: PT017 - both outcomes are fine, a crash is not


def test_sizes_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "v.mp4", moving_picture(2))
    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    monkeypatch.setattr(media, "MAX_PIXELS", 64 * 63)
    with pytest.raises(UserError, match="64x64 pixels"):
        list(media.iterate_frames(video))
    with pytest.raises(UserError, match="64x64 pixels"):
        media.read_image(tmp_path / "p.png")
