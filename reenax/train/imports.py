"""`reenax import`: published files of other projects into what every command takes.

Checkpoints of networks become folders, like those of a run; licensed face models become one file each.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

import reenax
from reenax.core.errors import UserError
from reenax.interop import face_models, hopenet, torch, vgg
from reenax.train.config import load_config
from reenax.train.runs import make_method, save_imported

FROZEN_KINDS = ("vgg16", "vgg19", "vggface", "vggface11", "vggmface", "hopenet")


def import_file(
    kind: str,
    file: Path,
    out: Path,
    *,
    config_spec: str | None = None,
    landmarks: Path | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """Converts a published file; returns one line on what was made.

    Args:
        kind: a method's name, a frozen network's kind or a kind of face model.
        file: the published file, for some face models a folder; nothing in it is executed.
        out: a new folder; for a face model a new file, ``.npz``.
        config_spec: ``FILE:NAME`` of the config that a method's checkpoint was trained with.
        landmarks: where the landmarks of a face model are, see `reenax.interop.face_models.landmark_files`.
        overrides: ``--config.KEY=VALUE`` each, changes to that config.

    Raises:
        UserError: an unknown kind, an option of another kind, an unreadable or hostile file, numbers that do not fit.
    """
    is_face_model = kind in face_models.KINDS
    if landmarks is not None and not is_face_model:
        raise UserError(f"--landmarks is for face models ({', '.join(face_models.KINDS)}), not for {kind}")
    if (config_spec is not None or overrides) and (is_face_model or kind in FROZEN_KINDS):
        option = "--config" if config_spec is not None else overrides[0].split("=")[0]
        raise UserError(f"{option} is for methods, not for {kind}; leave it out")
    if is_face_model:
        return face_models.convert_face_model(kind, file, out, landmarks)
    return import_checkpoint(kind, file, config_spec, out, overrides)


def import_checkpoint(kind: str, file: Path, config_spec: str | None, out: Path, overrides: Sequence[str] = ()) -> str:
    """Converts a checkpoint of a network; returns one line on what was made.

    Args:
        kind: a method's name or a frozen network's kind.
        file: the checkpoint, for some methods a folder of several; only tensors and plain containers are read.
        config_spec: ``FILE:NAME`` of the config that a method's checkpoint was trained with.
        out: a new folder.
        overrides: ``--config.KEY=VALUE`` each, changes to that config.

    Raises:
        UserError: an unknown kind, a config that does not fit, an unreadable or hostile file, tensors that do not fit.
    """
    if kind in FROZEN_KINDS:
        content = torch.read_checkpoint(file)
        variables = hopenet.convert(content) if kind == "hopenet" else vgg.convert(content, kind)
        save_imported(out, ConfigDict({"frozen_kind": kind}), {kind: variables}, {})
        return f"{kind} written to {out}; use it with --config.frozen.{kind}={out}"
    if kind not in reenax.method_names():
        known = ", ".join((*reenax.method_names(), *FROZEN_KINDS, *face_models.KINDS))
        raise UserError(f"{kind!r} is neither a method nor a frozen network nor a face model; known are: {known}")
    if config_spec is None:
        raise UserError(f"importing {kind} needs --config configs/{kind}.py:NAME, the config that it was trained with")
    config = load_config(config_spec, overrides)
    if config.method != kind:
        raise UserError(f"{config_spec} is a config of {config.method}, not of {kind}")
    if importlib.util.find_spec(f"reenax.interop.{kind}") is None:
        raise UserError(f"{kind} has no published checkpoint to import; train it with `reenax train`")
    interop = importlib.import_module(f"reenax.interop.{kind}")
    method = make_method(config)
    read = getattr(interop, "read", torch.read_checkpoint)  # a method of several files has its own
    variables = interop.convert(read(file), method)
    size = config.data.size
    shapes = {name: [[1, size, size, 3], "uint8"] for name in ("source", "driving")}
    save_imported(out, config, variables, shapes)
    return f"{kind} written to {out}; use it with --checkpoint {out} or --warm-start {out}"
