"""Published checkpoints of both stages, made up here from the method's own shapes."""

from typing import Any

import jax
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop.mraa import convert, module_name
from reenax.interop.published import blur_kernel, tensor_entries, variable_shapes
from reenax.interop.torch import to_state
from reenax.methods.mraa import MotionRepresentations

HOURGLASS = {"block_expansion": 4, "num_blocks": 1, "max_features": 8, "scale_factor": 0.25}


def method_of(bg_type: str = "affine") -> MotionRepresentations:
    return from_mapping(
        MotionRepresentations,
        {
            "num_regions": 3,
            "region_predictor": HOURGLASS,
            "bg_predictor": {"block_expansion": 4, "num_blocks": 1, "bg_type": bg_type},
            "generator": {
                "block_expansion": 4,
                "num_down_blocks": 1,
                "num_bottleneck_blocks": 1,
                "pixelwise_flow_predictor": HOURGLASS,
            },
            "avd_network": {"widths": (8, 16)},
        },
    )


def published(method: MotionRepresentations) -> tuple[dict[str, Any], dict[str, Any]]:
    """A checkpoint as it is published, and the variables in it."""
    random, shapes = np.random.default_rng(0), variable_shapes(method)
    variables = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    checkpoint: dict[str, Any] = {"epoch": 99, "optimizer_reconstruction": {}, "optimizer_avd": {}}
    for name, tensor in to_state(variables, tensor_entries(shapes, module_name)).items():
        network, rest = name.split(".", 1)
        checkpoint.setdefault(network, {})[rest] = tensor
    blur = np.broadcast_to(blur_kernel(0.25), (3, 1, 13, 13)).astype(np.float32)
    checkpoint["region_predictor"]["down.weight"] = blur
    checkpoint["generator"]["pixelwise_flow_predictor.down.weight"] = blur
    checkpoint["avd_network"]["id_encoder.1.num_batches_tracked"] = np.zeros((), np.int64)
    return checkpoint, variables


def test_layers_of_perceptrons_are_numbered() -> None:
    names = ["dense_0", "norm_0", "dense_1", "norm_1", "dense_2", "norm_2", "dense_3"]
    assert [module_name(n) for n in names] == ["0", "1", "3", "4", "6", "7", "9"]
    assert module_name("bottleneck_2") == "bottleneck.r2"


def test_every_tensor_finds_its_place() -> None:
    method = method_of()
    checkpoint, variables = published(method)
    assert {"generator", "region_predictor", "bg_predictor", "avd_network"} < set(checkpoint)
    assert {"id_encoder.0.weight", "pose_encoder.4.running_var", "decoder.6.bias"} < set(checkpoint["avd_network"])
    assert {"fc.weight", "encoder.down_blocks.0.norm.running_mean"} < set(checkpoint["bg_predictor"])
    assert {"regions.weight", "predictor.decoder.up_blocks.0.conv.weight"} < set(checkpoint["region_predictor"])
    jax.tree.map(np.testing.assert_array_equal, convert(checkpoint, method), variables)


def test_a_checkpoint_of_the_first_stage_gets_a_fresh_avd_network() -> None:
    method = method_of()
    checkpoint, variables = published(method)
    del checkpoint["avd_network"]
    made: Any = convert(checkpoint, method)
    jax.tree.map(np.testing.assert_array_equal, made["generator"], variables["generator"])
    fresh = made["avd_network"]
    assert set(fresh) == {"params", "batch_stats"}
    assert float(np.abs(fresh["params"]["decoder"]["dense_0"]["kernel"]).max()) > 0
    for name, norm in fresh["batch_stats"]["decoder"].items():
        assert (norm["mean"] == 0).all(), name
        assert (norm["var"] == 1).all(), name


def test_a_method_without_background_has_no_such_network() -> None:
    method = method_of("zero")
    checkpoint, variables = published(method)
    assert "bg_predictor" not in checkpoint
    jax.tree.map(np.testing.assert_array_equal, convert({**checkpoint, "bg_predictor": {}}, method), variables)
    with pytest.raises(UserError, match="bg_predictor is unknown"):
        convert({**checkpoint, "bg_predictor": {"fc.bias": np.zeros(6, np.float32)}}, method)


def test_another_config_is_told() -> None:
    method = method_of()
    checkpoint, _ = published(method)
    del checkpoint["bg_predictor"]
    with pytest.raises(UserError, match="no checkpoint of mraa: it has no bg_predictor"):
        convert(checkpoint, method)
    checkpoint, _ = published(method)
    checkpoint["region_predictor"]["down.weight"] = np.ones((3, 1, 13, 13), np.float32)
    with pytest.raises(UserError, match=r"region_predictor\.down\.weight is not the blur of scale_factor=0\.25"):
        convert(checkpoint, method)
