"""Finished clips on their way into a dataset: one file each, so that an interrupted run continues behind them."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import schema

ENDS = ".ends"  # behind a field's name: where each of its pictures ends


def write_part(path: Path, record: schema.Record) -> None:
    """Write a record, or a part of its fields, as a whole or not at all. Raises OSError."""
    arrays: dict[str, Any] = {}
    for name, value in record.items():
        if schema.FIELDS[name].kind == "pictures":
            arrays[name] = np.frombuffer(b"".join(value), np.uint8)
            arrays[name + ENDS] = np.cumsum([len(picture) for picture in value])
        else:
            arrays[name] = np.asarray(value)
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with aside.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(aside, path)


def read_part(path: Path) -> dict[str, Any]:
    """What `write_part` wrote. Raises OSError or ValueError when it cannot be read."""
    record: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            if name.endswith(ENDS):
                continue
            field = schema.FIELDS[name]
            if field.kind == "pictures":
                content, ends = stored[name].tobytes(), stored[name + ENDS].tolist()
                record[name] = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            elif field.kind == "text":
                record[name] = str(stored[name])
            else:
                value = stored[name]
                record[name] = value if field.shape else field.dtype(value)
    return record
