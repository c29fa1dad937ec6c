"""Published files of X2Face, made up here from the method's own shapes."""

from typing import Any

import jax
import numpy as np
import pytest

from reenax.core.config import from_mapping
from reenax.core.errors import UserError
from reenax.interop.torch import to_state
from reenax.interop.x2face import convert, joined, tensor_entries, variable_shapes
from reenax.methods.x2face import X2Face

METHOD = from_mapping(X2Face, {"size": {"features": 4, "levels": 3, "vector": 8}})
INNER = "pix2pixSampler.netG.model.submodule.submodule"
State = dict[str, Any]


def published() -> tuple[State, Any]:
    """All tensors under their published names, and the variables that they are."""
    random, shapes = np.random.default_rng(0), variable_shapes(METHOD)
    variables = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
    return to_state(variables, tensor_entries(shapes, 3)), variables


def main_file(state: State) -> dict[str, Any]:
    """The file without maps, as it is published."""
    kept = {n: v for n, v in state.items() if not any(part in n for part in ("frombottle", "frompose", "linear"))}
    return {"epoch": 3000, "optimizer": {}, "state_dict": {**kept, f"{INNER}.up.3.num_batches_tracked": np.zeros(())}}


def test_names_follow_the_nested_blocks() -> None:
    state, _ = published()
    names = set(state)
    assert {
        "pix2pixUnwrapped.netG.model.down.0.weight",
        "pix2pixUnwrapped.netG.model.up.2.weight",
        "pix2pixUnwrapped.netG.model.submodule.down.1.weight",
        "pix2pixUnwrapped.netG.model.submodule.down.2.running_var",
        "pix2pixUnwrapped.netG.model.submodule.up.3.bias",
        f"{INNER}.down.1.weight",
        f"{INNER}.up.3.running_mean",
        f"{INNER}.posefrombottle.bias",
        f"{INNER}.bottlefrompose.0.weight",
        f"{INNER}.bottlefrompose.1.running_mean",
        "linearregression.coef",
    } < names
    assert f"{INNER}.down.2.weight" not in names
    assert state[f"{INNER}.posefrombottle.weight"].shape == (3, 8)
    assert state[f"{INNER}.bottlefrompose.0.weight"].shape == (8, 3)
    assert state["linearregression.coef"].shape == (8, 256)


def test_every_tensor_finds_its_place() -> None:
    """But the map of sound, which reads features that are not those of here: it is fresh."""
    state, variables = published()
    made = dict(convert({"state_dict": state}, METHOD))
    assert not np.any(made.pop("vector_from_audio")["params"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, made, {n: v for n, v in variables.items() if n in made})
    assert made.keys() == variables.keys() - {"vector_from_audio"}


def test_maps_that_are_not_there_are_fresh() -> None:
    state, variables = published()
    made: Any = convert(main_file(state), METHOD)
    jax.tree.map(np.testing.assert_array_equal, made["driver"], variables["driver"])
    assert not np.any(made["pose_from_vector"]["params"]["kernel"])
    assert not np.any(made["vector_from_audio"]["params"]["kernel"])
    assert not np.any(made["vector_from_pose"]["params"]["dense"]["kernel"])
    assert (made["vector_from_pose"]["batch_stats"]["norm"]["var"] == 1).all()


def test_files_of_the_maps_join_that_of_the_networks() -> None:
    state, variables = published()
    pose = {n: state[f"{INNER}.posefrombottle.{n}"] for n in ("weight", "bias")}
    back = {
        n.removeprefix(f"{INNER}.bottlefrompose."): v for n, v in state.items() if n.startswith(f"{INNER}.bottlefrom")
    }
    assert set(back) == {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    files = [
        main_file(state),
        {"state_dict": {f"posefrombottle.{n}": v for n, v in pose.items()}},
        {"state_dict": back},
    ]
    made: Any = convert(joined(files), METHOD)
    for name in ("driver", "pose_from_vector", "vector_from_pose"):
        jax.tree.map(np.testing.assert_array_equal, made[name], variables[name])
    with pytest.raises(UserError, match=r"two of the files hold posefrombottle\.bias, posefrombottle\.weight"):
        joined([files[1], files[1]])


def test_other_files_are_refused() -> None:
    state, _ = published()
    with pytest.raises(UserError, match=r"no checkpoint of x2face: it has no pix2pixUnwrapped\.netG\.model"):
        convert({"state_dict": {"fc.weight": np.zeros((2, 2), np.float32)}}, METHOD)
    wider = from_mapping(X2Face, {"size": {"features": 8, "levels": 3, "vector": 8}})
    with pytest.raises(UserError, match="of another shape"):
        convert({"state_dict": state}, wider)
