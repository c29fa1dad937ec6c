"""Pairs of published files, and names of layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.interop.label_networks import module_names, read_pair

torch = pytest.importorskip("torch")


def save(folder: Path, *names: str) -> None:
    for name in names:
        torch.save({"conv1.weight": torch.full((1,), float(len(name)))}, folder / name)


def test_either_file_finds_the_other(tmp_path: Path) -> None:
    save(tmp_path, "net_epoch_30_id_G.pth", "net_epoch_30_id_D.pth", "opt_epoch_30_id_G.pth", "opt_epoch_30_id_D.pth")
    for path in (tmp_path, tmp_path / "net_epoch_30_id_G.pth", tmp_path / "net_epoch_30_id_D.pth"):
        found = read_pair(path)
        assert set(found) == {"G", "D"}
        assert found["D"]["conv1.weight"] == np.float32(21)


def test_a_generator_can_come_alone(tmp_path: Path) -> None:
    save(tmp_path, "200000-G.ckpt", "mine.pth")
    assert set(read_pair(tmp_path)) == set(read_pair(tmp_path / "mine.pth")) == {"G"}
    save(tmp_path, "100-D.ckpt")
    with pytest.raises(UserError, match=r"100-D.ckpt is a critic, and its generator 100-G.ckpt is not beside it"):
        read_pair(tmp_path / "100-D.ckpt")


def test_a_folder_must_say_which(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must hold one file of a generator .* found: none"):
        read_pair(tmp_path)
    save(tmp_path, "1-G.ckpt", "2-G.ckpt")
    with pytest.raises(UserError, match=r"found: 1-G.ckpt, 2-G.ckpt. Name one"):
        read_pair(tmp_path)


def test_layers_are_counted_with_their_norms_and_activations() -> None:
    module: Any = module_names(blocks=6)
    names = ("first", "down_1", "down_norm_1", "residual_5", "up_0", "up_norm_1", "conv_5", "scores", "label")
    published = ("main.0", "main.6", "main.7", "main.14", "main.15", "main.19", "main.10", "conv1", "conv2")
    assert tuple(map(module, names)) == published
