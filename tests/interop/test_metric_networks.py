"""Published files of the networks behind metrics: every tensor finds its place, and wrong files are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.core.errors import UserError
from reenax.interop import inception, lpips, syncnet
from reenax.interop.torch import flat_tensors, leaves
from reenax.metrics.lpips import TRUNKS, frozen_lpips
from reenax.metrics.sync import frozen_syncnet
from reenax.nn.inception import frozen_inception

# `features` of torchvision's networks: position and shape of the convolutions' kernels
ALEXNET = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192)}
FIRES |= {10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}
VGG16 = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
VGG16 |= {17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}


def kernels(net):
    """Name and shape of every kernel of a trunk in torchvision's file."""
    if net == "alex":
        return {f"features.{i}": shape for i, shape in ALEXNET.items()}
    if net == "vgg":
        return {f"features.{i}": (*shape, 3, 3) for i, shape in VGG16.items()}
    found: dict[str, tuple[int, ...]] = {"features.0": (64, 3, 3, 3)}
    for i, (width, squeezed, expanded) in FIRES.items():
        found[f"features.{i}.squeeze"] = (squeezed, width, 1, 1)
        found[f"features.{i}.expand1x1"] = (expanded, squeezed, 1, 1)
        found[f"features.{i}.expand3x3"] = (expanded, squeezed, 3, 3)
    return found


def files(net):
    """The trunk's and the linear layers' file with other numbers in every tensor."""
    rng = np.random.default_rng(0)
    trunk = {}
    for name, shape in kernels(net).items():
        trunk[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        trunk[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    trunk["classifier.1.weight"] = rng.normal(size=(10, 10)).astype(np.float32)
    widths = TRUNKS[net].widths
    lins = {f"lin{i}.model.1.weight": rng.uniform(size=(1, n, 1, 1)).astype(np.float32) for i, n in enumerate(widths)}
    return trunk, lins


def kernel_sums(variables):
    """Sums over the kernels' windows: the same in both layouts up to the order of channels."""
    return sorted(float(np.asarray(v, np.float64).sum()) for _, v in leaves(variables))


@pytest.mark.parametrize("net", TRUNKS)
def test_every_tensor_of_lpips_finds_its_place(net):
    trunk, lins = files(net)
    variables = lpips.convert(trunk, net, lins)
    shapes = jax.eval_shape(frozen_lpips(net).init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda s: s.shape, shapes)
    used = {n: v for n, v in (trunk | lins).items() if not n.startswith("classifier")}
    np.testing.assert_allclose(
        kernel_sums(variables), sorted(float(v.astype(np.float64).sum()) for v in used.values()), rtol=1e-9
    )
    np.testing.assert_array_equal(variables["params"]["lin1"], lins["lin1.model.1.weight"][0, :, 0, 0])


def test_convolutions_of_lpips_go_where_their_position_says():
    trunk, lins = files("squeeze")
    params = lpips.convert(trunk, "squeeze", lins)["params"]["trunk"]
    np.testing.assert_array_equal(
        params["fire7"]["expand3x3"]["kernel"], trunk["features.10.expand3x3.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(params["conv1"]["bias"], trunk["features.0.bias"])
    trunk, lins = files("alex")
    params = lpips.convert(trunk, "alex", lins)["params"]["trunk"]
    np.testing.assert_array_equal(params["conv4"]["kernel"], trunk["features.8.weight"].transpose(2, 3, 1, 0))


def test_a_state_of_the_whole_package_is_read_too():
    trunk, lins = files("alex")
    whole = {n.replace("features.", "net.slice2."): v for n, v in trunk.items() if n.startswith("features.")}
    whole |= lins | {n.replace("lin", "lins.", 1): v for n, v in lins.items()}
    whole["scaling_layer.shift"] = np.zeros((1, 3, 1, 1), np.float32)
    jax.tree.map(np.testing.assert_array_equal, lpips.convert(whole, "alex"), lpips.convert(trunk, "alex", lins))


def test_lpips_from_files(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
    trunk, lins = files("squeeze")
    for name, state in (("trunk", trunk), ("lins", lins)):
        torch.save({n: torch.from_numpy(v) for n, v in state.items()}, tmp_path / f"{name}.pth")
    made = lpips.load("squeeze", tmp_path / "trunk.pth", tmp_path / "lins.pth")
    jax.tree.map(np.testing.assert_array_equal, made, lpips.convert(trunk, "squeeze", lins))


def test_wrong_files_of_lpips_are_named():
    trunk, lins = files("alex")
    with pytest.raises(UserError, match=r"no linear layers of LPIPS; give the lpips package's weights/v0.1/alex\.pth"):
        lpips.convert(trunk, "alex")
    with pytest.raises(UserError, match="no negative weights, lin2.model.1.weight has"):
        lpips.convert(trunk, "alex", lins | {"lin2.model.1.weight": -lins["lin2.model.1.weight"]})
    with pytest.raises(UserError, match=r"the checkpoint does not fit the model; tensors \d+ missing"):
        lpips.convert(files("vgg")[0], "alex", lins)
    with pytest.raises(UserError, match=r"of another shape: lin1\.model\.1\.weight \[128\] instead of \[192\]"):
        lpips.convert(trunk, "alex", files("squeeze")[1])
    with pytest.raises(UserError, match="no network 'resnet'"):
        lpips.convert(trunk, "resnet", lins)


@pytest.fixture(scope="module")
def published_inception():
    """The published file with other numbers in every tensor."""
    rng = np.random.default_rng(1)
    shapes = {"x": jax.eval_shape(frozen_inception().init, jax.random.key(0))}
    state = {}
    for (_, collection, *modules, leaf), value in leaves(shapes):
        shape = value.shape if leaf != "kernel" else tuple(value.shape[i] for i in (3, 2, 0, 1))
        theirs = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(leaf, leaf)
        assert collection in ("params", "batch_stats")
        state[".".join([*modules, theirs])] = rng.normal(size=shape).astype(np.float32)
    return state


def test_the_two_namings_of_inception_are_one(published_inception):
    plain = inception.convert(published_inception | {"fc.weight": np.zeros((1008, 2048), np.float32)})
    assert "Mixed_7c.branch3x3dbl_3b.bn.running_var" in published_inception
    np.testing.assert_array_equal(
        plain["params"]["Mixed_6c"]["branch7x7_2"]["conv"]["kernel"],
        published_inception["Mixed_6c.branch7x7_2.conv.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        plain["batch_stats"]["Conv2d_4a_3x3"]["bn"]["var"], published_inception["Conv2d_4a_3x3.bn.running_var"]
    )
    numbered = {}
    for name, value in published_inception.items():
        module, _, rest = name.partition(".")
        block, index = next((b, m.index(module)) for b, m in enumerate(inception.BLOCKS) if module in m)
        numbered[f"blocks.{block}.{index}.{rest}"] = value
    numbered["blocks.0.0.bn.num_batches_tracked"] = np.zeros((), np.int64)
    jax.tree.map(np.testing.assert_array_equal, plain, inception.convert(numbered))


def test_wrong_files_of_inception_are_named(published_inception):
    some = dict(list(published_inception.items())[3:])
    with pytest.raises(UserError, match="tensors 3 missing: "):
        inception.convert(some)
    with pytest.raises(UserError, match=r"torchvision's inception_v3; FID needs pt_inception-2015-12-05"):
        inception.convert(published_inception | {"AuxLogits.conv0.conv.weight": np.zeros(1, np.float32)})
    with pytest.raises(UserError, match=r"not the Inception network of FID: it holds features\.0\.weight"):
        inception.convert(files("alex")[0])
    with pytest.raises(UserError, match="it holds no tensors"):
        inception.convert({})


def syncnet_file():
    rng = np.random.default_rng(2)
    audio = {0: (64, 1), 4: (192, 64), 8: (384, 192), 11: (256, 384), 14: (256, 256)}
    convolutions = {f"netcnnaud.{i}": (*s, 3, 3) for i, s in audio.items()} | {"netcnnaud.18": (512, 256, 5, 4)}
    convolutions |= {"netcnnlip.0": (96, 3, 5, 7, 7), "netcnnlip.4": (256, 96, 1, 5, 5)}
    convolutions |= {f"netcnnlip.{i}": (256, 256, 1, 3, 3) for i in (8, 11, 14)}
    convolutions |= {"netcnnlip.18": (512, 256, 1, 6, 6)}
    dense = {f"{n}.{i}": shape for n in ("netfcaud", "netfclip") for i, shape in ((0, (512, 512)), (3, (1024, 512)))}
    state = {}
    for name, shape in (convolutions | dense).items():
        state[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        state[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
        network, position = name.split(".")
        if position != "3":
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                state[f"{network}.{int(position) + 1}.{leaf}"] = rng.normal(size=shape[:1]).astype(np.float32)
            state[f"{network}.{int(position) + 1}.num_batches_tracked"] = np.zeros((), np.int64)
    return state


def test_syncnet_with_time_as_channels():
    state = syncnet_file()
    variables = syncnet.convert(state)
    shapes = jax.eval_shape(frozen_syncnet().init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda s: s.shape, shapes)
    assert sum(v.size for v in jax.tree.leaves(variables["params"])) == 13_631_616
    # one position of the first convolution over a window of frames
    window = np.random.default_rng(3).normal(size=(5, 7, 7, 3))
    kernel = np.asarray(variables["params"]["lip_net"]["conv1"]["conv"]["kernel"])
    stacked = np.moveaxis(window, 0, 2).reshape(7, 7, 15)
    wanted = np.einsum("ocijk,ijkc->o", state["netcnnlip.0.weight"], window)
    np.testing.assert_allclose(np.einsum("ijco,ijc->o", kernel, stacked), wanted, rtol=1e-4, atol=1e-3)
    params = variables["params"]["audio_net"]
    np.testing.assert_array_equal(params["conv5"]["bn"]["scale"], state["netcnnaud.15.weight"])
    np.testing.assert_array_equal(params["head"]["out"]["kernel"], state["netfcaud.3.weight"].T)


def test_wrong_files_of_syncnet_are_named():
    with pytest.raises(UserError, match="the file is not SyncNet: it holds features"):
        syncnet.convert(files("alex")[0])
    state = flat_tensors(syncnet_file())
    del state["netfclip.3.bias"]
    with pytest.raises(UserError, match=r"1 missing: netfclip\.3\.bias"):
        syncnet.convert(state)
