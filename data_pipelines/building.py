"""Writing the dataset: TFDS files built aside, read back, and put into place so that no moment shows half of them.

A dataset folder holds, beside TFDS's own files:

digest.json    digest, size, fields, counts, versions; written last, so its presence says that the dataset is whole
clips.json     for every record its clip_id, identity, number of frames and the fields that it lacks
sources.json   for every input its identity, content and clips, or why it was skipped
settings.json  what the dataset is made with; another run over the folder must agree
.work          while a run is under way: finished clips of single videos, the dataset that is being built
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_pipelines import schema
from data_pipelines.clips import DIGEST_FILE, INDEX_FILE, Clips
from reenax.core.errors import UserError

WORK_FOLDER = ".work"
SOURCES_FILE = "sources.json"
SETTINGS_FILE = "settings.json"
MANIFEST_FILE = "manifest.json"
PACKAGES = ("array-record", "av", "dlib-bin", "numpy", "pillow", "simplejpeg", "tensorflow-datasets")

Records = Callable[[], Iterator[dict[str, Any]]]


@contextlib.contextmanager
def claimed(out: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    """The output folder, ours alone while we work, and made with these settings. Raises UserError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{out}: cannot be used as a folder ({error.strerror}); choose another --out") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{out}: another run is preparing this folder; wait for it to end") from error
        _agree(out, settings)
        yield out
    finally:
        os.close(held)


def _agree(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / SETTINGS_FILE
    if not path.is_file():
        if any(child.name != f"{path.name}.new" for child in out.iterdir()):
            raise UserError(f"{out}: not empty, and holds no dataset of ours; choose another --out")
        try:
            write_json(path, settings)
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror})") from error
        return
    try:
        there = json.loads(path.read_text("utf-8"))
        differing = [key for key in {**settings, **there} if there.get(key) != settings.get(key)]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read; choose another --out") from error
    if differing:
        here, asked = (", ".join(f"{key} {of.get(key)}" for key in differing) for of in (there, settings))
        raise UserError(f"{out}: was made with {here}, not {asked}; use the same, or choose another --out")


def build(
    out: Path,
    splits: Mapping[str, Records],
    sources: Mapping[str, Any],
    size: int,
    fields: frozenset[str],
    builder: Callable[..., Any] | None = None,
) -> None:
    """Build the dataset of some records and put it in the place of the one that `out` may hold.

    builder: the TFDS builder (`data_pipelines.builders`), by default that of clips cut from videos.

    Raises UserError when it cannot be written or reads back differently, and leaves what was there.
    """
    work = out / WORK_FOLDER
    building, ready = work / "build", work / "ready"
    shutil.rmtree(building, ignore_errors=True)
    try:
        folder, written = _write(building, splits, fields, builder)
        about, index = _read_back(folder, written, size, fields)
        write_json(folder / INDEX_FILE, index)
        write_json(folder / SOURCES_FILE, sources)
        write_json(folder / DIGEST_FILE, about)
        names = sorted(path.name for path in folder.iterdir())
        write_json(folder / MANIFEST_FILE, names)
        folder.rename(ready)
    except UserError:
        raise
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as RuntimeError
        raise UserError(
            f"{out}: the dataset cannot be written ({_line(error)}); free space and run the same command to continue"
        ) from error
    publish(out)


def publish(out: Path) -> None:
    """Put a dataset that is ready into place; does nothing without one. Finishes what was interrupted."""
    ready = out / WORK_FOLDER / "ready"
    if (ready / MANIFEST_FILE).is_file():
        names = json.loads((ready / MANIFEST_FILE).read_text("utf-8"))
        if (ready / DIGEST_FILE).is_file():
            (out / DIGEST_FILE).unlink(missing_ok=True)  # from here to the end the folder is no dataset
        for stale in set(out.glob("*.array_record-*")) - {out / name for name in names}:
            stale.unlink()
        for name in sorted(names, key=lambda name: name == DIGEST_FILE):
            with contextlib.suppress(FileNotFoundError):  # moved before an interruption
                os.replace(ready / name, out / name)
        shutil.rmtree(out / WORK_FOLDER)


def write_json(path: Path, content: Any) -> None:
    """Write a file as a whole or not at all."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(aside, path)


def _write(
    building: Path, splits: Mapping[str, Records], fields: frozenset[str], builder: Callable[..., Any] | None
) -> tuple[Path, dict[str, list[str]]]:
    """Run TFDS; gives the dataset's folder and the digests of the records of every split in their order."""
    import tensorflow_datasets as tfds

    from data_pipelines.builders.video_folder import VideoFolder

    written: dict[str, list[str]] = {split: [] for split in splits}

    def noting(split: str) -> Iterator[dict[str, Any]]:
        for record in splits[split]():
            chosen = {name: value for name, value in record.items() if name in fields}
            written[split].append(schema.record_digest(chosen))
            yield chosen

    tfds.disable_progress_bar()
    building.mkdir(parents=True)
    made = (builder or VideoFolder)(
        data_dir=building, fields=fields, splits={split: lambda split=split: noting(split) for split in splits}
    )
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        made.download_and_prepare()
    return Path(made.data_path), written


def _read_back(
    folder: Path, written: Mapping[str, list[str]], size: int, fields: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What digest.json and clips.json say, taken from the files themselves."""
    about: dict[str, Any] = {"digest": "", "size": size, "fields": sorted(fields), "splits": {}}
    index: dict[str, list[Any]] = {}
    keyed: list[tuple[str, str]] = []
    for split, digests in written.items():
        clips = Clips(folder, split, about, [(at, ("?", "?", 0, [])) for at in range(len(digests))])
        rows = []
        for at, digest in enumerate(digests):
            record = clips[at]
            if schema.record_digest(record) != digest:
                raise UserError(
                    f"{folder}: {record['clip_id']} reads back differently from what was written; check the disk"
                )
            lacking = [name for name in ("audio",) if name in fields and not record[name].size]
            rows.append([record["clip_id"], record["identity"], len(record["frames"]), lacking])
            keyed.append((f"{split} {record['clip_id']}", digest))
        index[split] = rows
        about["splits"][split] = {
            "clips": len(rows),
            "frames": sum(row[2] for row in rows),
            "identities": sorted({row[1] for row in rows}),
        }
    return {**about, "digest": schema.combined_digest(keyed), "versions": _versions()}, index


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
