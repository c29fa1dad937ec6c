"""Published checkpoints: the way there and back, and every way in which a file can be wrong."""

import pathlib
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop import fomm, vgg
from reenax.interop.published import blur_kernel, tensor_entries, variable_shapes
from reenax.interop.torch import Entry, flat_tensors, read_checkpoint, to_state
from reenax.methods.fomm import FirstOrderMotion
from reenax.nn.vgg import frozen_vgg, layer_names

TINY = {
    "num_kp": 3,
    "kp_detector": {"block_expansion": 2, "num_blocks": 1, "max_features": 4},
    "generator": {
        "block_expansion": 2,
        "max_features": 4,
        "num_bottleneck_blocks": 1,
        "dense_motion": {"block_expansion": 2, "num_blocks": 1, "max_features": 4},
    },
    "discriminator": {"block_expansion": 2, "num_blocks": 2, "max_features": 4, "scales": (1.0, 0.5)},
}
METHOD = from_mapping(FirstOrderMotion, TINY)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")


@pytest.fixture(scope="module")
def variables():
    """Every leaf different, so that no two can be swapped unseen."""
    shapes = variable_shapes(METHOD)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)


@pytest.fixture
def checkpoint(variables):
    """A checkpoint as the published code saves it, with everything that is to be left out."""
    state = to_state(variables, tensor_entries(variables))
    content: dict = {name: {} for name in ("generator", "kp_detector", "discriminator")}
    for name, value in state.items():
        network, _, rest = name.partition(".")
        content[network][rest] = value
    content["generator"]["first.norm.num_batches_tracked"] = np.array(7)
    blur = np.broadcast_to(blur_kernel(0.25), (3, 1, 13, 13)).astype(np.float32)
    content["generator"]["dense_motion_network.down.weight"] = blur
    content["kp_detector"]["down.weight"] = blur
    content["optimizer_generator"] = {"state": {0: {"step": 3, "exp_avg": np.zeros(2, np.float32)}}}
    content["epoch"] = 99
    return content


def saved(torch, content, path: pathlib.Path, **options) -> pathlib.Path:
    def tensors(value):
        if isinstance(value, dict):
            return {k: tensors(v) for k, v in value.items()}
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value

    torch.save(tensors(content), path, **options)
    return path


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_there_and_back(torch, tmp_path, variables, checkpoint, zipped):
    path = saved(torch, checkpoint, tmp_path / "vox.pth.tar", _use_new_zipfile_serialization=zipped)
    converted = fomm.convert(read_checkpoint(path), METHOD)
    assert jax.tree.structure(converted) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, converted, variables)


def test_names_are_the_published_ones(variables):
    state = to_state(variables, tensor_entries(variables))
    for name, shape in {
        "generator.dense_motion_network.hourglass.encoder.down_blocks.0.conv.weight": (4, 16, 3, 3),
        "generator.dense_motion_network.hourglass.decoder.up_blocks.0.norm.running_var": (2,),
        "generator.bottleneck.r0.conv2.bias": (4,),
        "generator.up_blocks.1.norm.weight": (2,),
        "generator.final.weight": (3, 2, 7, 7),
        "kp_detector.predictor.encoder.down_blocks.0.norm.running_mean": (4,),
        "kp_detector.jacobian.bias": (12,),
        "discriminator.discs.1.down_blocks.1.conv.weight_orig": (4, 4, 4, 4),
        "discriminator.discs.0-5.conv.weight_u": (1,),
        "discriminator.discs.1.down_blocks.1.norm.bias": (4,),
    }.items():
        assert state[name].shape == shape, name


def test_missing_v_is_computed(checkpoint, variables):
    for name in list(checkpoint["discriminator"]):
        if name.endswith("_v"):
            del checkpoint["discriminator"][name]
    converted = fomm.convert(checkpoint, METHOD)
    spectral = converted["discriminator"]["spectral"]["discs_1"]["down_blocks_0"]["conv"]
    kernel = np.asarray(variables["discriminator"]["params"]["discs_1"]["down_blocks_0"]["conv"]["kernel"])
    expected = np.asarray(spectral["u"]) @ kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)
    np.testing.assert_allclose(spectral["v"], expected / np.linalg.norm(expected), rtol=1e-5)


def test_misfits_are_named_in_one_line(checkpoint):
    state = checkpoint["generator"]
    state["final.weight"] = state["final.weight"][:, :, :3]
    del state["first.conv.bias"]
    state["second.conv.bias"] = np.zeros(2, np.float32)
    state["final.bias"] = np.full(3, np.nan, np.float32)
    with pytest.raises(UserError) as error:
        fomm.convert(checkpoint, METHOD)
    text = one_line(error)
    assert "1 missing: generator.first.conv.bias" in text
    assert "1 unknown: generator.second.conv.bias" in text
    assert "generator.final.weight [3, 2, 3, 7] instead of [3, 2, 7, 7]" in text
    assert "1 not finite: generator.final.bias" in text


def test_many_misfits_stay_short(checkpoint):
    checkpoint["kp_detector"] = {f"layer{i}.weight": np.zeros(1, np.float32) for i in range(400)}
    with pytest.raises(UserError) as error:
        fomm.convert(checkpoint, METHOD)
    assert "and 395 more" in one_line(error)


def test_another_models_file(checkpoint):
    with pytest.raises(UserError) as error:
        fomm.convert({"state_dict": checkpoint["generator"]}, METHOD)
    assert "no checkpoint of fomm" in one_line(error)
    assert "kp_detector" in one_line(error)
    with pytest.raises(UserError) as error:
        fomm.convert({**checkpoint, "he_estimator": checkpoint["generator"]}, METHOD)
    assert "he_estimator" in one_line(error)


def test_wrong_blur(checkpoint):
    checkpoint["kp_detector"]["down.weight"] = np.zeros((3, 1, 13, 13), np.float32)
    with pytest.raises(UserError) as error:
        fomm.convert(checkpoint, METHOD)
    assert "kp_detector.down.weight" in one_line(error)


class Hostile:
    """Unpickling it would write a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_hostile_files_run_nothing(torch, tmp_path):
    mark = tmp_path / "ran"
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps({"generator": Hostile(str(mark))}))
    torch.save({"generator": Hostile(str(mark))}, tmp_path / "zip.pth")
    torch.save({"generator": Hostile(str(mark))}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("plain.pth", "zip.pth", "old.pth"):
        with pytest.raises(UserError) as error:
            read_checkpoint(tmp_path / name)
        assert name in one_line(error)
    assert not mark.exists()
    with pytest.raises(UserError, match="objects other than tensors"):
        read_checkpoint(tmp_path / "zip.pth")


def test_damaged_and_foreign_files(torch, tmp_path, checkpoint):
    for zipped in (True, False):
        whole = saved(torch, checkpoint, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped).read_bytes()
        for share in (0.02, 0.5, 0.99):
            cut = tmp_path / "cut.pth"
            cut.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(UserError) as error:
                read_checkpoint(cut)
            assert "truncated or damaged" in one_line(error)
    for content in (b"", b"hello, I am a text file", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        other = tmp_path / "other.pth"
        other.write_bytes(content)
        with pytest.raises(UserError) as error:
            read_checkpoint(other)
        assert "is no PyTorch checkpoint" in one_line(error)
    with pytest.raises(UserError, match="is not a file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="is not a file"):
        read_checkpoint(tmp_path)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(UserError, match="holds a ndarray"):
        read_checkpoint(tmp_path / "tensor.pth")


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "some.pth").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"reenax\[torch\]"):
        read_checkpoint(tmp_path / "some.pth")


def test_half_precision_becomes_float32(torch, tmp_path):
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16), "b": [torch.ones(1), 3]}, tmp_path / "half.pth")
    content = read_checkpoint(tmp_path / "half.pth")
    assert content["a"].dtype == np.float32
    assert content["b"][1] == 3


def test_layouts():
    value = np.arange(24.0).reshape(1, 2, 3, 4)
    entry = Entry("x", ("a",), "conv")
    assert entry.to_theirs(value).shape == (4, 3, 1, 2)
    np.testing.assert_array_equal(entry.to_ours(entry.to_theirs(value)), value)
    assert set(flat_tensors({"a": {"b": value}, "epoch": 3})) == {"a.b"}


def vgg_state(arch: str, scale: float = 1.0) -> dict[str, np.ndarray]:
    params = jax.eval_shape(frozen_vgg(arch).init, jax.random.key(0))["params"]
    state: dict[str, np.ndarray] = {"classifier.0.weight": np.zeros((4, 4), np.float32)}
    for i, name in enumerate(layer_names(arch)):
        if name.startswith("conv"):
            kernel = params[name]["kernel"].shape
            state[f"features.{i}.weight"] = np.full(np.array(kernel)[[3, 2, 0, 1]], scale * i, np.float32)
            state[f"features.{i}.bias"] = np.full(kernel[3], i, np.float32)
    return state


def test_vgg():
    params = vgg.convert(vgg_state("vgg19"), "vgg19")["params"]
    shapes = jax.eval_shape(frozen_vgg("vgg19").init, jax.random.key(0))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    assert float(params["conv5_4"]["bias"][0]) == 34


def test_vgg_refuses_others(checkpoint):
    with pytest.raises(UserError, match="torchvision's vgg16, and vgg19 is asked for"):
        vgg.convert(vgg_state("vgg16"), "vgg19")
    with pytest.raises(UserError, match="not torchvision's vgg19"):
        vgg.convert(checkpoint, "vgg19")
    state = vgg_state("vgg19")
    del state["features.5.bias"]
    with pytest.raises(UserError, match=r"1 missing: features\.5\.bias"):
        vgg.convert(state, "vgg19")


def test_the_face_trunk_is_read_by_name():
    params = jax.eval_shape(frozen_vgg("vggface").init, jax.random.key(0))["params"]
    rng, state = np.random.default_rng(0), {"fc6.weight": np.zeros((4, 4), np.float32)}
    for name, leaves in params.items():
        state[f"{name}.weight"] = rng.normal(size=leaves["kernel"].shape).astype(np.float32).transpose(3, 2, 0, 1)
        state[f"{name}.bias"] = rng.normal(size=leaves["bias"].shape).astype(np.float32)
    made = vgg.convert(state, "vggface")["params"]
    np.testing.assert_array_equal(made["conv3_2"]["kernel"], state["conv3_2.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(made["conv5_3"]["bias"], state["conv5_3.bias"])
    with pytest.raises(UserError, match=r"not VGG-Face: it has no conv1_1.weight; it holds features.0.weight"):
        vgg.convert({"features.0.weight": np.zeros((64, 3, 3, 3), np.float32)}, "vggface")
