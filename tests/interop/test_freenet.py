"""Published checkpoints of both stages, made up here from the method's own shapes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop.freenet import FILES, PLACES, convert, read, tensor_entries, variable_shapes
from reenax.interop.torch import to_state
from reenax.methods.freenet import FReeNet

BOTH = {"generator_start": 0}


def method_of(**values: Any) -> FReeNet:
    sizes = {
        "converter": {"width": 16, "depth": 3},
        "generator": {"features": 4, "blocks": 3, "landmark_features": 4},
        "discriminator": {"features": 4},
        "stages": BOTH,
    }
    return from_mapping(FReeNet, {**sizes, **values})


def published(method: FReeNet) -> tuple[dict[str, Any], Any]:
    """The contents of the files by their names without ending, and the variables in them."""
    random, shapes = np.random.default_rng(0), variable_shapes(method)
    variables = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    files: dict[str, Any] = {}
    for name, tensor in to_state(variables, tensor_entries(shapes)).items():
        network, rest = name.split(".", 1)
        file, part = PLACES[network]
        content = files.setdefault(file, {"epoch": 3} if part else {})
        (content.setdefault(part, {}) if part else content)[rest] = tensor
    return files, variables


def test_every_tensor_finds_its_place() -> None:
    method = method_of()
    files, variables = published(method)
    assert {f"{name}.pth" for name in files} == set(FILES)
    assert set(files["best"]) == {"net_G", "net_D", "net_Dr", "epoch"}
    assert {"emotion.0.weight", "calm.4.bias", "fusion_flow.4.weight"} < set(files["best"]["net_G"])
    assert {"layers1.0.weight", "layers2.4.bias", "layers3.4.weight"} < set(files["best"]["net_D"])
    assert {"layers.0.weight", "layers.10.bias"} < set(files["best"]["net_Dr"])
    generator = {
        *("model1.1.weight", "model1.4.bias", "model1.7.weight", "model_landmark_trans.6.weight"),
        *("model2.2.conv_block.1.weight", "model2.0.conv_block.6.bias", "model2.1.shortcut.0.weight"),
        *("model3.0.weight", "model3.3.bias", "model3.7.weight"),
    }
    assert generator < set(files["latest_net_G"])
    assert set(files["latest_net_D"]) == {f"model.{i}.{kind}" for i in (0, 2, 5, 8, 11) for kind in ("weight", "bias")}
    # transposed convolutions have their channels the other way round
    assert files["latest_net_G"]["model3.0.weight"].shape == (16, 8, 3, 3)
    jax.tree.map(np.testing.assert_array_equal, convert(files, method), variables)


def test_a_generator_without_dropout_has_other_names() -> None:
    method = method_of()
    files, variables = published(method)
    files["latest_net_G"] = {
        name.replace("conv_block.6.", "conv_block.5."): tensor for name, tensor in files["latest_net_G"].items()
    }
    jax.tree.map(np.testing.assert_array_equal, convert(files, method), variables)


def test_the_converters_file_is_enough_for_a_converter() -> None:
    method = method_of(stages={})
    files, variables = published(method)
    assert set(files) == {"best"}
    for checkpoint in (files, files["best"]):
        jax.tree.map(np.testing.assert_array_equal, convert(checkpoint, method), variables)
    with pytest.raises(UserError, match=r"needs latest_net_[GD]\.pth for its (generator|discriminator)"):
        convert(files["best"], method_of())


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UserError, match=r"none of best\.pth"):
        read(tmp_path)
    contents = {"best": {"net_G": {"a": torch.ones(2)}, "epoch": 1}, "latest_net_G": {"b": torch.zeros(1)}}
    for name, content in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
    assert set(read(tmp_path)) == set(contents)
    np.testing.assert_array_equal(read(tmp_path)["best"]["net_G"]["a"], np.ones(2))
    assert set(read(tmp_path / "best.pth")) == {"net_G", "epoch"}


def test_other_checkpoints_are_told() -> None:
    method = method_of()
    files, _ = published(method)
    with pytest.raises(UserError, match=r"needs best\.pth with net_G for its converter, and was given state_dict"):
        convert({"state_dict": {}}, method)
    with pytest.raises(UserError, match=r"latest_net_D\.pth for its discriminator"):
        convert({n: content for n, content in files.items() if n != "latest_net_D"}, method)
    del files["latest_net_G"]["model1.1.bias"]
    with pytest.raises(UserError, match=r"1 missing: generator\.model1\.1\.bias"):
        convert(files, method)
    with pytest.raises(UserError, match=r"centred=False"):
        convert(files, method_of(converter={"centred": True}))
