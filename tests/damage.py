"""Toy damage: bytes of files that are flipped."""

from pathlib import Path

from data_pipelines import loader
from reenax.core.errors import UserError


def flip_bytes(folder: Path) -> None:
    """Flips the middle byte of every file that is large enough to hold arrays (parts of a file may be unused)."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            flip_byte(path, path.stat().st_size // 2)


def flip_byte(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0xFF
    path.write_bytes(bytes(raw))


def damage_record(dataset: Path, split: str = "train") -> int:
    """Flips a byte of a split so that one record of it cannot be read, and the others can; returns its number."""
    (path,) = dataset.glob(f"*{split}.array_record*")
    data = path.read_bytes().rstrip(b"\0")
    for position in range(len(data) // 3, len(data), 97):
        if data[position]:
            flip_byte(path, position)
            if len(broken := _unreadable(loader.open_clips(dataset, split))) == 1:
                return broken[0]
            flip_byte(path, position)
    raise AssertionError(f"no byte of {path} belongs to one record alone")


def _unreadable(clips: loader.Clips) -> list[int]:
    broken = []
    for index in range(len(clips)):
        try:
            clips[index]
        except UserError:
            broken.append(index)
    return broken
