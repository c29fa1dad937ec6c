"""Cutting by the face's track, with a detector that the test scripts; the crop rule; dlib on real clips if there."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import faces, media, tracking
from data_pipelines.faces import Face, FaceDetector, enlarged_square, overlap
from data_pipelines.media import Frame
from reenax.core.errors import UserError

SAMPLES = Path(__file__).parents[3] / "shared/samples"
HEIGHT, WIDTH = 120, 200


class Scripted(FaceDetector):
    """Says where the face of every frame is; the frame's number is its first pixel."""

    def __init__(self, script: dict[int, float]) -> None:
        self.script = script
        self.looked: list[int] = []

    def search(self, picture, side, threshold=0.0):
        del side, threshold
        index = int(picture[0, 0, 0])
        self.looked.append(index)
        if index not in self.script:
            return []
        x = self.script[index]
        landmarks = np.linspace([x, 40], [x + 40, 80], 68, dtype=np.float32)
        return [Face((x, 40, x + 40, 80), landmarks, 1.0)]

    def near(self, picture, box):
        found = self.search(picture, 0)
        return found[0] if found and overlap(found[0].box, box) > 0.2 else None


def frames(count: int, bright: range = range(0)):
    for index in range(count):
        pixels = np.full((HEIGHT, WIDTH, 3), 255 if index in bright else 0, np.uint8)
        pixels[0, 0] = index
        yield Frame(pixels, index / 10)


def cuts(script: dict[int, float], count: int, longest: int = 1000, **options) -> list[tuple[int, int]]:
    track = tracking.follow(frames(count, **options), Scripted(script))
    clips = tracking.face_clips(track, 8, longest)
    for clip in clips:
        assert clip.landmarks is not None
        assert clip.landmarks.shape == (len(clip.times), 68, 2)
        assert np.isfinite(clip.landmarks).all()
        assert clip.times[0] == clip.first / 10
        x0, y0, x1, y1 = clip.box
        assert x1 - x0 == y1 - y0
        assert min(x0, y0) >= 0
        assert x1 <= WIDTH
        assert y1 <= HEIGHT
    return [(clip.first, len(clip.times)) for clip in clips]


def test_a_still_face_is_one_clip_of_pieces() -> None:
    script = dict.fromkeys(range(50), 80.0)
    assert cuts(script, 50) == [(0, 50)]
    assert cuts(script, 50, longest=20) == [(0, 16), (16, 17), (33, 17)]


def test_a_face_that_leaves_its_box_is_cut() -> None:
    found = cuts({index: 40.0 + index for index in range(60)}, 60)  # a third of the width is an overlap of 1/2
    assert [first for first, _ in found] == [0, *np.cumsum([count for _, count in found])[:-1]]
    assert all(13 <= count <= 16 for _, count in found[:-1])
    assert cuts({index: 80.0 + 4 * (index % 2) for index in range(40)}, 40) == [(0, 40)]  # trembles


def test_short_gaps_are_bridged_and_long_ones_cut() -> None:
    script = {index: 80.0 for index in range(60) if not 20 <= index < 24 and not 40 <= index < 50}
    assert cuts(script, 60) == [(0, 40), (50, 10)]


def test_landmarks_in_gaps_are_between() -> None:
    script = {index: 80.0 + index for index in range(12) if index != 5}
    track = tracking.follow(frames(12), Scripted(script))
    (clip,) = tracking.face_clips(track, 8, 100)
    assert clip.landmarks is not None
    np.testing.assert_allclose(clip.landmarks[:, 0, 0], 80 + np.arange(12), atol=1e-5)


def test_a_change_of_scene_is_cut() -> None:
    script = dict.fromkeys(range(40), 80.0)
    assert cuts(script, 40, bright=range(15, 25)) == [(0, 15), (15, 10), (25, 15)]


def test_short_and_faceless_videos_give_nothing() -> None:
    assert cuts(dict.fromkeys(range(7), 80.0), 7) == []
    detector = Scripted({})
    track = tracking.follow(frames(100), detector)
    assert tracking.face_clips(track, 8, 100) == []
    assert len(detector.looked) < 35  # most frames of an empty scene are not searched


def test_whole_clips_show_the_centre() -> None:
    track = tracking.follow(frames(50), None)
    clips = tracking.whole_clips(track, 8, 25)
    assert [(clip.first, len(clip.times)) for clip in clips] == [(0, 25), (25, 25)]
    assert clips[0].box == (40, 0, 160, 120)
    assert clips[0].landmarks is None


@pytest.mark.parametrize(
    "box", [(90, 50, 110, 70), (0, 0, 20, 20), (190, 110, 200, 120), (0, 0, 200, 120), (-30, -9, 5, 5)]
)
def test_squares_lie_within_the_picture(box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = enlarged_square(box, (HEIGHT, WIDTH))
    assert x1 - x0 == y1 - y0 == min(HEIGHT, round(1.9 * max(box[2] - box[0], box[3] - box[1])))
    assert min(x0, y0) >= 0
    assert x1 <= WIDTH
    assert y1 <= HEIGHT


def test_landmarks_point_at_the_same_place_after_cropping() -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[60:64, 100:104] = 255
    points = np.full((68, 2), (101.5, 61.5), np.float32)
    for box, size in (
        ((80.0, 40.0, 120.0, 80.0), 80),
        ((60.0, 20.0, 140.0, 100.0), 40),
        ((90.0, 50.0, 140.0, 100.0), 50),
    ):
        square = faces.crop_and_resize(picture, box, size)[..., 0].astype(float)
        x, y = ((faces.landmarks_in_square(points, box, size)[0] + 1) / 2 * (size - 1)).tolist()
        rows, columns = np.indices(square.shape)
        assert abs((columns * square).sum() / square.sum() - x) < 0.05
        assert abs((rows * square).sum() / square.sum() - y) < 0.05


def test_crops_beyond_the_edge_repeat_it() -> None:
    picture = np.full((10, 10, 3), 50, np.uint8)
    picture[:, 0] = 200
    square = faces.crop_and_resize(picture, (-10, 0, 0, 10), 10)
    assert square.shape == (10, 10, 3)
    np.testing.assert_array_equal(square, 200)


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"reenax\[faces\].*--faces none"):
        faces.FaceDetector()


@pytest.fixture(scope="module")
def detector() -> faces.FaceDetector:
    if not SAMPLES.is_dir():
        pytest.skip("the sample media (../shared/samples) are not there")
    try:
        return faces.FaceDetector()
    except UserError as error:
        pytest.skip(str(error))


def test_dlib_finds_painted_faces(detector: faces.FaceDetector) -> None:
    for name in ("s3", "s7", "s9", "s10"):
        (face,) = detector.detect(media.read_image(SAMPLES / f"source/{name}.jpg"))
        assert face.landmarks.shape == (68, 2)
        assert overlap(face.box, faces.hull([(x, y, x + 1, y + 1) for x, y in face.landmarks.tolist()])) > 0.99
    assert detector.detect(np.full((300, 300, 3), 90, np.uint8)) == []


def test_dlib_follows_a_real_face(detector: faces.FaceDetector) -> None:
    def first(count: int):
        for index, frame in enumerate(media.iterate_frames(SAMPLES / "driving/d3.mp4")):
            if index == count:
                return
            yield frame

    track = tracking.follow(first(24), detector)
    assert all(face is not None for face in track.faces)
    (clip,) = tracking.face_clips(track, 8, 100)
    assert clip.landmarks is not None
    steps = np.abs(np.diff(clip.landmarks, axis=0)).mean()
    assert steps < 8
