"""Which files are taken, whose they are, and who is tested."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.inputs import find_videos, fingerprint, split_clips, split_identities
from reenax.core.errors import UserError


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_identities_from_folders_and_names(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a/one.mp4",
        "a/anna/x.mp4",
        "a/anna/deep/x.MOV",
        "a/id10280#v#001#090.mp4",
        "a/ben/id7#v#1#2.mkv",
        "a/notes.txt",
        "a/.hidden.mp4",
        "a/.cache/y.mp4",
        "b/two.webm",
        "odd.bin",
    )
    videos, skipped = find_videos([tmp_path / "a", tmp_path / "b", tmp_path / "odd.bin", tmp_path / "a/one.mp4"])
    assert {video.name: video.identity for video in videos} == {
        "one.mp4": "one",
        "anna/x.mp4": "anna",
        "anna/deep/x.MOV": "anna",
        "id10280#v#001#090.mp4": "id10280",
        "ben/id7#v#1#2.mkv": "id7",
        "two.webm": "two",
        "odd.bin": "odd",
    }
    assert [video.name for video in videos] == sorted(video.name for video in videos)
    assert not skipped


def test_equal_names_are_reported(tmp_path: Path) -> None:
    make(tmp_path, "a/x.mp4", "b/x.mp4")
    videos, skipped = find_videos([tmp_path / "a", tmp_path / "b"])
    assert len(videos) == 1
    assert skipped[0].kind == "duplicate"
    assert skipped[0].path == tmp_path / "b/x.mp4"


def test_a_missing_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.mp4: no such file"):
        find_videos([tmp_path / "nothing.mp4"])


def test_fingerprint_sees_begin_middle_and_end(tmp_path: Path) -> None:
    content = bytearray(5 << 20)
    path = tmp_path / "v.mp4"
    seen = set()
    for at in (None, 0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        if at is not None:
            changed[at] = 1
        path.write_bytes(changed)
        seen.add(fingerprint(path))
    path.write_bytes(content + b"\0")
    assert len({*seen, fingerprint(path)}) == 5


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text(min_size=1), min_size=2, max_size=40), st.floats(0.01, 0.99), st.randoms())
def test_split_is_stable_and_never_empty(names: set[str], share: float, random) -> None:
    split = split_identities(names, share)
    shuffled = list(names)
    random.shuffle(shuffled)
    assert split == split_identities(shuffled, share)
    assert set(split) == names
    tested = sum(where == "test" for where in split.values())
    assert 1 <= tested <= len(names) - 1
    assert abs(tested - share * len(names)) <= 1


def test_split_of_one_or_without_test() -> None:
    assert split_identities(["a"], 0.5) == {"a": "train"}
    assert set(split_identities(["a", "b", "c"], 0.0).values()) == {"train"}


def test_split_of_others_changes_no_one_else() -> None:
    names = [f"id{k}" for k in range(1000)]
    before, after = split_identities(names, 0.2), split_identities([*names, *(f"new{k}" for k in range(50))], 0.2)
    assert sum(before[name] != after[name] for name in names) < 20


def test_split_of_clips_tests_the_last_of_every_person() -> None:
    owners = {("a", k): "anna" for k in range(10)} | {("b", k): "ben" for k in range(2)} | {("c", 0): "cleo"}
    split = split_clips(owners, 0.2)
    assert [clip for clip, where in split.items() if where == "test"] == [("a", 8), ("a", 9), ("b", 1)]
    assert set(split) == set(owners)
    assert set(split_clips(owners, 0.0).values()) == {"train"}
