"""Published files of ReenactGAN, made up here from the method's own shapes."""

import logging
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop.reenactgan import COMPONENTS, convert, convert_network, convert_shape, read, tensor_entries
from reenax.interop.torch import to_state
from reenax.methods.reenactgan import ReenactGAN
from reenax.methods.reenactgan.shape import coordinates

VALUES: dict[str, Any] = {
    "size": 32,
    "encoder": {"stacks": 2, "depth": 2, "features": 4},
    "aligner": {"points": 106, "widths": (4, 4), "hidden": 8},
    "transformer": {"features": 4, "blocks": 9, "kernel_size": 3},
    "decoder": {"features": 4, "levels": 3, "dropout": ()},
    "stages": {"transformer_start": None, "decoder_start": None, "encoder_stop": None},
}
NETWORKS = ("encoder", "aligner", "transformer", "decoder")


def shapes_of(method: ReenactGAN) -> dict[str, Any]:
    batch = {"source": jnp.zeros((1, 32, 32, 3))}
    made: Any = jax.eval_shape(method.init, jax.random.key(0), batch)
    return {n: {k: c for k, c in v.items() if k != "shape"} for n, v in made.items()}


def published(method: ReenactGAN) -> tuple[dict[str, Any], dict[str, Any]]:
    """Files as they are published, and the variables in them."""
    random, shapes = np.random.default_rng(0), shapes_of(method)
    variables = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    files = {}
    for network in NETWORKS:
        state = to_state({network: variables[network]}, tensor_entries(network, shapes[network]))
        prefix = "module." if network == "aligner" else ""
        files[network] = {prefix + name: tensor for name, tensor in state.items()}
    files["encoder"]["model.0.bn1.num_batches_tracked"] = np.zeros((), np.int64)
    return files, variables


@pytest.fixture(scope="module")
def method() -> ReenactGAN:
    return from_mapping(ReenactGAN, VALUES)


def test_every_tensor_finds_its_place(method: ReenactGAN) -> None:
    files, variables = published(method)
    shapes = shapes_of(method)
    for network in NETWORKS:
        made = convert_network(network, files[network], shapes[network])
        jax.tree.map(np.testing.assert_array_equal, made, variables[network])


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("encoder", {"model.0.conv1.weight", "model.0.layer2.0.downsample.0.bias", "model.0.hg.1.hg.0.3.0.bn3.weight"}),
        ("encoder", {"model.0.fc.1.1.running_var", "model.0.fc_.0.weight", "model.0.score_.0.bias"}),
        ("aligner", {"module.model.6.0.downsample.1.bias", "module.mlp.5.weight", "module.model.5.1.bn2.running_mean"}),
        ("transformer", {"model.1.weight", "model.18.conv_block.6.bias", "model.22.weight", "model.26.bias"}),
        ("decoder", {"model.model.0.model.0.model.1.weight", "model.model.0.model.2.bias", "model.model.4.bias"}),
        ("decoder", {"model.model.2.model.3.model.3.weight", "model.model.2.model.6.running_mean"}),
    ],
)
def test_names_are_the_published_ones(method: ReenactGAN, network: str, names: set[str]) -> None:
    assert names < set(published(method)[0][network])


def test_discriminators_are_numbered() -> None:
    leaf = np.zeros((4, 4, 1, 1))
    params = {f"conv_{i}": {"kernel": leaf} for i in range(5)}
    names = [e.theirs for e in tensor_entries("discriminator", {"params": {**params, "norm_3": {"scale": leaf}}})]
    assert names == [f"model.{i}.weight" for i in (0, 2, 5, 8, 11, 9)]


def test_the_components_of_the_shape(method: ReenactGAN) -> None:
    """Whitened coordinates of the mean are 0; the first ones of a shape are those of the whole matrix."""
    random, size = np.random.default_rng(0), 212
    axes, _ = np.linalg.qr(random.normal(size=(size, size)))
    deviation, mean = np.linspace(90, 1, size), random.normal(size=size)
    weight = axes.T / deviation[:, None]
    arrays = {
        "weight_212": weight,
        "bias_212": -weight @ mean,
        "inverse_weight_212": axes * deviation[None],
        "inverse_bias_212": mean,
    }
    shape = convert_shape(arrays, method)
    points = random.normal(size=(2, size))
    found = coordinates(shape, jnp.asarray(points, jnp.float32).reshape(2, 106, 2))
    np.testing.assert_allclose(found, (points - mean) @ weight[:3].T, atol=1e-4)
    np.testing.assert_allclose(shape["covariance"], (axes * deviation**2) @ axes.T, rtol=1e-4, atol=1e-2)
    with pytest.raises(UserError, match=r"points=68 needs.*published ones are of 106"):
        convert_shape(arrays, from_mapping(ReenactGAN, {**VALUES, "aligner": {"points": 68}}))


def test_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Known by their names; text files of numbers; two transformers are one too many."""
    monkeypatch.setattr("reenax.interop.reenactgan.read_checkpoint", lambda path: {"file": path.name})
    with pytest.raises(UserError, match="lacks the encoder.*, the transformer.*, the decoder.*; it holds nothing"):
        read(tmp_path)
    for name in ("v8_net_boundary_detection.pth", "Trump_transformer.pth", "150_net_G.pth", "Align_40000.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"lacks the transformer \(\*_net_transformer\.pth or G_BA_\*\.pth\); it holds"):
        read(tmp_path)
    (tmp_path / "Trump_net_transformer.pth").write_bytes(b"")
    (tmp_path / "weight_212").write_text("1 2\n3 4\n")
    with pytest.raises(UserError, match="lacks bias_212, inverse_weight_212"):
        read(tmp_path)
    for name in COMPONENTS[1:]:
        (tmp_path / f"{name}.txt").write_text("0.5, 1e-3")
    monkeypatch.setattr(logging.getLogger("reenax"), "propagate", True)  # commands switch it off
    with caplog.at_level(logging.INFO, "reenax"):
        content = read(tmp_path)
    assert [r.message for r in caplog.records] == [
        "ignored, since no network's files are called so: Trump_transformer.pth"
    ]
    assert {n: c["file"] for n, c in content.items() if n != "shape"} == {
        "encoder": "v8_net_boundary_detection.pth",
        "transformer": "Trump_net_transformer.pth",
        "decoder": "150_net_G.pth",
        "aligner": "Align_40000.pth",
    }
    np.testing.assert_array_equal(content["shape"]["weight_212"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(content["shape"]["bias_212"], [0.5, 1e-3])
    (tmp_path / "G_BA_500000.pth").write_bytes(b"")
    with pytest.raises(UserError, match="G_BA_500000.pth, Trump_net_transformer.pth, all of the transformer"):
        read(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        read(tmp_path / "G_BA_500000.pth")


def test_what_has_no_file_begins_fresh_and_is_named(
    method: ReenactGAN, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files, variables = published(method)
    fresh = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype),
        jax.eval_shape(method.init, jax.random.key(0), {"source": jnp.zeros((1, 32, 32, 3))}),
    )
    monkeypatch.setattr("jax.jit", lambda f: lambda *arguments: fresh)
    monkeypatch.setattr(logging.getLogger("reenax"), "propagate", True)  # commands switch it off
    with caplog.at_level(logging.INFO, "reenax"):
        made: Any = convert({n: files[n] for n in ("encoder", "aligner")}, method)
    assert "without files, so fresh: decoder, transformer, components of the shape" in caplog.messages
    jax.tree.map(np.testing.assert_array_equal, made["encoder"], variables["encoder"])
    assert set(made["aligner"]) == {"params", "batch_stats", "shape"}
    assert not any(x.any() for x in jax.tree.leaves(made["decoder"]))


def test_problems_name_the_network(method: ReenactGAN) -> None:
    files, _ = published(method)
    state = {re.sub(r"model\.26", "model.27", name): tensor for name, tensor in files["transformer"].items()}
    with pytest.raises(UserError, match=r"^transformer: the checkpoint does not fit.*missing.*model\.26"):
        convert_network("transformer", state, shapes_of(method)["transformer"])
