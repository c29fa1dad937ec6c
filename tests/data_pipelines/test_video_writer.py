"""Written videos: sound without holes and beside the pictures, true colours, all or nothing."""

from fractions import Fraction

import av
import numpy as np
import pytest

from data_pipelines.media import AUDIO_RATE, iterate_frames, read_audio
from data_pipelines.video_writer import VideoWriter, whole, write_video
from reenax.core.errors import UserError

RATE = 44_100


def beeps(path, starts, length=0.25, seconds=0.25):
    """A file of nothing but sound: pieces of a tone, at times in seconds, with holes between them."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(length * RATE)) / RATE)
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start in starts:
            block = np.round(tone * 32767).astype(np.int16)[None]
            piece = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, round(start * RATE), Fraction(1, RATE)
            container.mux(sound.encode(piece))
    return path


def loud(samples):
    """Starts and ends, in seconds, of what can be heard."""
    heard = np.flatnonzero(np.abs(samples.astype(float)) > 2000) / AUDIO_RATE
    breaks = np.flatnonzero(np.diff(heard) > 0.05)
    return heard[np.r_[0, breaks + 1]], heard[np.r_[breaks, len(heard) - 1]]


def test_holes_in_the_sound_become_silence(tmp_path):
    starts = [0.0, 0.25, 1.5, 2.5]
    sound = beeps(tmp_path / "s.mkv", starts)
    with VideoWriter(tmp_path / "o.mp4", (16, 16), 25.0, sound) as writer:
        assert writer.has_sound
        for index in range(75):
            writer.write(np.zeros((16, 16, 3), np.uint8), index / 25)
    samples = read_audio(tmp_path / "o.mp4")
    assert samples is not None
    begins, ends = loud(samples)
    np.testing.assert_allclose(begins, [0.0, 1.5, 2.5], atol=0.03)
    np.testing.assert_allclose(ends, [0.5, 1.75, 2.75], atol=0.03)


def test_sound_and_pictures_lie_side_by_side(tmp_path):
    sound = beeps(tmp_path / "s.mkv", np.arange(0, 30, 0.25).tolist())
    with VideoWriter(tmp_path / "o.mp4", (16, 16), 25.0, sound) as writer:
        for index in range(750):
            writer.write(np.zeros((16, 16, 3), np.uint8), index / 25)
    with av.open(str(tmp_path / "o.mp4")) as container:
        places = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.pos is not None and packet.pts is not None:
                places[packet.stream.type].append((packet.pos, float(packet.pts * packet.time_base)))
    (at, times), (sound_at, sound_times) = (np.array(places[kind]).T for kind in ("video", "audio"))
    before = np.searchsorted(sound_at, at).clip(max=len(sound_at) - 1)
    assert np.abs(sound_times[before] - times).max() < 3


@pytest.mark.parametrize("colour", [(200, 60, 40), (30, 160, 70), (20, 40, 220)])
def test_colours_are_kept_and_named(colour, tmp_path):
    write_video(tmp_path / "o.mp4", np.full((2, 32, 32, 3), colour, np.uint8), 25.0)
    for frame in iterate_frames(tmp_path / "o.mp4"):
        np.testing.assert_allclose(frame.pixels.mean((0, 1)), colour, atol=3)
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert next(container.decode(video=0)).colorspace == 1  # BT.709


def test_odd_sides_lose_a_line(tmp_path):
    write_video(tmp_path / "o.mp4", np.full((2, 33, 47, 3), 90, np.uint8), 25.0)
    assert [f.pixels.shape for f in iterate_frames(tmp_path / "o.mp4")] == [(32, 46, 3)] * 2


def test_the_last_frame_lasts_as_long_as_the_others(tmp_path):
    write_video(tmp_path / "o.mp4", np.zeros((10, 16, 16, 3), np.uint8), 12.5)
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(0.8, abs=1e-3)


def test_a_bad_place_is_known_before_the_work(tmp_path):
    for place in (tmp_path / "no" / "o.mp4", tmp_path):
        with pytest.raises(UserError), whole(place):
            pytest.fail("the work began")


def test_an_encoder_that_fails_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="o.mp4 cannot be written"), whole(tmp_path / "o.mp4") as part:
        VideoWriter(part, (16, 70_000), 25.0).write(np.zeros((16, 70_000, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir())
