"""A plan reads from the compiled program what devices hold and exchange; and this is no more than it must be."""

import dataclasses
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reenax.cli import main
from reenax.core.errors import UserError
from reenax.core.types import Every, LossOut, Player
from reenax.core.updates import Gradient
from reenax.train.accelerators import ACCELERATORS, Accelerator, find_accelerators
from reenax.train.config import load_config
from reenax.train.engine import Engine
from reenax.train.hlo import Collective
from reenax.train.plan import Held, Plan, Step, due_sets, expect, inspect, make_plan, speed
from reenax.train.plan_report import describe_plan
from reenax.train.sharding import FSDP_MIN_BYTES, batch_sharding, make_mesh
from tests.train.toys import Regression, Toy, optimisers

BATCH, SIDE, WIDTH = 16, 32, 1536
SCALARS = 16 * 4  # bytes: losses, metrics and norms of gradients


class Plain(nn.Module):
    """Layers without statistics, one of them large enough to be cut over fsdp, in both forms of a kernel."""

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Conv(8, (3, 3))(x))
        y = nn.relu(nn.Conv(3, (3, 3))(y)).mean((1, 2))
        y = nn.relu(nn.Dense(WIDTH)(y))
        y = nn.relu(nn.Dense(WIDTH)(y))
        return x + nn.Dense(3)(y)[:, None, None]


@dataclasses.dataclass(frozen=True)
class Plainly(Toy):
    """One player, one network, one use of it."""

    def init(self, rng, batch):
        return {"painter": Plain().init(rng, batch["source"])}

    def players(self, optim, accumulate=1):
        return (Player("painter", ("painter",), Gradient(self.loss, optim["painter"], accumulate)),)

    def loss(self, variables, batch, rng, *, step, shared):
        made: Any = Plain().apply(variables["painter"], batch["source"])
        loss = jnp.mean((made - batch["driving"]) ** 2)
        return LossOut(loss, {"mse": loss})


def build(method, data, fsdp=1, accumulate=1):
    """The engine and the shapes of a batch."""
    mesh = make_mesh(data, fsdp, jax.devices()[: data * fsdp])
    picture = np.broadcast_to(np.uint8(0), (BATCH, SIDE, SIDE, 3))
    batch = {"source": picture, "driving": picture}
    engine = Engine.build(method, method.players(optimisers(), accumulate), mesh, batch, seed=0)
    cut = batch_sharding(mesh)
    return engine, {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=cut) for k, v in batch.items()}


def nbytes(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def moved(step: Step) -> int:
    return sum(c.times * c.payload for c in step.collectives)


def not_compiled(players, share=1.0, activations=1000) -> Step:
    return Step(players, share, activations, 0, 1e9, 1e6, ())


def test_data_parallel_devices_exchange_the_gradients_once_and_nothing_else():
    engine, batch = build(Plainly(), data=8)
    step = inspect(engine, batch, ("painter",))
    params = nbytes(engine.abstract.params)
    assert {c.kind for c in step.collectives} == {"all-reduce"}
    assert all(c.certain and c.times == 1 and c.group == tuple(range(8)) for c in step.collectives)
    assert params <= moved(step) <= params + SCALARS


def test_accumulating_devices_exchange_the_gradients_of_every_piece():
    once, (engine, batch) = inspect(*build(Plainly(), data=8), ("painter",)), build(Plainly(), data=8, accumulate=2)
    step = inspect(engine, batch, ("painter",))
    params = nbytes(engine.abstract.params)
    assert {c.kind for c in step.collectives} == {"all-reduce"}
    assert all(c.certain for c in step.collectives)
    assert 2 * params <= moved(step) <= 2 * (params + SCALARS), "XLA does not take the sum out of the loop"
    assert step.flops == pytest.approx(once.flops, rel=0.1), "pieces of half the size, twice"


@pytest.mark.parametrize("fsdp", [2, 8])
def test_every_device_holds_its_part_of_what_is_large(fsdp):
    engine, batch = build(Plainly(), data=8 // fsdp, fsdp=fsdp)
    compiled = engine.lower(engine.abstract, batch, ("painter",)).compile()
    given, _ = compiled.input_shardings[0][:2]
    leaves = list(zip(jax.tree.leaves(engine.abstract), jax.tree.leaves(given), strict=True))
    large = [(x, s) for x, s in leaves if x.ndim and x.size * x.dtype.itemsize >= FSDP_MIN_BYTES]
    assert len(large) == 3, "a kernel and its two moments"
    for leaf, sharding in large:
        assert np.prod(sharding.shard_shape(leaf.shape)) == leaf.size // fsdp
    everything = 3 * nbytes(engine.abstract.params)
    cut = sum(leaf.size * leaf.dtype.itemsize for leaf, _ in large)
    counters, key, rows = 2 * 4, 8, sum(nbytes(x) for x in batch.values()) // 8
    step = inspect(engine, batch, ("painter",))
    assert step.arguments == cut // fsdp + everything - cut + counters + key + rows
    assert step.arguments - rows < 1.05 * everything / fsdp
    after = compiled.output_shardings[0]
    jax.tree.map(
        lambda s, t, x: np.testing.assert_equal(s.is_equivalent_to(t, x.ndim), True), given, after, engine.abstract
    )


def test_batch_statistics_are_all_that_is_exchanged_beside_gradients():
    engine, batch = build(Regression(), data=8)
    step = inspect(engine, batch, ("painter",))
    params, statistics = nbytes(engine.abstract.params), 4 * 8 * 4  # two sums forward and back, 8 channels
    assert {c.kind for c in step.collectives} == {"all-reduce"}
    assert params < moved(step) <= params + statistics + SCALARS
    pictures = BATCH // 8 * SIDE * SIDE * 3 * 4
    assert max(c.payload for c in step.collectives) < pictures / 10


def test_frozen_networks_are_held_whole_by_every_device(monkeypatch):
    monkeypatch.setattr("reenax.train.plan.inspect", lambda engine, batch, active, share: not_compiled(active, share))
    config = load_config("configs/fomm.py:smoke", ["--config.model.losses.perceptual=(1.0, 1.0, 1.0, 1.0, 1.0)"])
    for devices in (2, 4):
        held = make_plan(config, make_mesh(1, devices, jax.devices()[:devices])).held
        assert held.frozen > 4 * 12e6, "VGG-19 as far as it is used"
        assert held.batch == 2 * config.batch_size // devices * config.data.size**2 * 3


@pytest.mark.parametrize(
    ("whens", "steps", "shares"),
    [
        ((Every(),), None, {("a",): 1.0}),
        ((Every(), Every(5, offset=4)), None, {("a",): 0.8, ("a", "b"): 0.2}),
        ((Every(2), Every(3)), None, {("a", "b"): 1 / 6, (): 1 / 3, ("a",): 1 / 3, ("b",): 1 / 6}),
        ((Every(stop=30), Every(start=30)), 100, {("a",): 0.3, ("b",): 0.7}),
        ((Every(stop=30), Every(2, start=30)), 40, {("a",): 0.75, ("b",): 0.125, (): 0.125}),
        ((Every(stop=30), Every(start=30)), 20, {("a",): 1.0}),
    ],
)
def test_sets_of_players_and_their_shares(whens, steps, shares):
    def nothing(variables, batch, rng, *, step, shared):
        return LossOut(jnp.zeros(()))

    update = Gradient(nothing, optimisers()["painter"])
    players = tuple(Player(name, (), update, when) for name, when in zip("ab", whens, strict=False))
    found = due_sets(players, steps)
    assert found == pytest.approx(shares)


PEAKS = Accelerator(bfloat16=2e12, float32=1e12, memory=1e9, bandwidth=1e11, link=1e10, island=4, network=1e9)


def test_the_slowest_link_of_a_group_counts():
    assert speed((0, 1, 2, 3), PEAKS) == 1e10
    assert speed((0, 4), PEAKS) == 1e9, "each by its own share of the network"
    assert speed((0, 2, 4, 6), PEAKS) == 2e9, "two members in every island"
    assert speed(tuple(range(8)), dataclasses.replace(PEAKS, network=9e9)) == 1e10, "no faster than the links"


def test_the_roofline_is_the_sum_that_it_says():
    ring = Collective("all-reduce", 40_000, 40_000, (0, 1, 2, 3), 2, True, "")
    step = Step((), 1.0, 0, 0, 4e9, 1e8, (ring, dataclasses.replace(ring, kind="all-gather")))
    seconds = expect(step, PEAKS, "float32")
    assert seconds.compute == pytest.approx(4e-3)
    assert seconds.memory == pytest.approx(1e-3)
    assert seconds.communication == pytest.approx((2 * 0.75 + 0.75) * 80_000 / 1e10)
    assert seconds.total == pytest.approx(4e-3 + seconds.communication)
    assert expect(step, PEAKS, "bfloat16").compute == pytest.approx(2e-3)


def test_accelerators_are_found_by_name():
    assert find_accelerators(None) == ACCELERATORS
    assert list(find_accelerators("H200")) == ["h200"]
    with pytest.raises(UserError, match="--accelerator gtx is unknown; use one of h100, h200, v5e, v5p"):
        find_accelerators("gtx")
    for accelerator in ACCELERATORS.values():
        assert accelerator.float32 <= accelerator.bfloat16
        assert accelerator.network < accelerator.link < accelerator.bandwidth


@pytest.fixture
def _same_devices(monkeypatch):
    """The command sets these for a process of its own; this one keeps its eight devices."""
    assert jax.device_count() == 8
    for name in ("XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.setenv(name, os.environ[name])


@pytest.mark.usefixtures("_same_devices")
def test_a_plan_of_a_config_adds_up_and_is_what_the_command_prints(capsys):
    config = load_config("configs/ganimation.py:smoke")
    plan = make_plan(config, make_mesh(4, 1, jax.devices()[:4]))
    assert [(s.players, s.share) for s in plan.steps] == [
        (("critic", "penalty"), 0.5),
        (("critic", "penalty", "generator"), 0.5),
    ]
    pictures = config.batch_size // 4 * config.data.size**2 * 3 * 4
    for step in plan.steps:
        assert step.arguments == plan.held.total
        assert {c.kind for c in step.collectives} == {"all-reduce"}
        assert max(c.largest for c in step.collectives) < pictures / 2, "what else than kernels is exchanged?"
        uses = 4 * plan.params["critic"] + 2 * plan.params["generator"] * ("generator" in step.players)
        assert moved(step) <= 4 * uses + SCALARS, "of every use of a network its gradient"
    assert plan.held.params == 4 * sum(plan.params.values())
    assert plan.memory == plan.held.total + max(s.activations for s in plan.steps)
    assert main(["plan", "--config", "configs/ganimation.py:smoke", "--mesh", "data=4"]) == 0
    assert "--xla_force_host_platform_device_count=4" in os.environ["XLA_FLAGS"].split()
    out = capsys.readouterr().out
    assert out == describe_plan(plan, ACCELERATORS) + "\n"
    for words in (
        "4 devices (data=4, fsdp=1), 8 examples per step, float32",
        "optimiser state",
        "activations: critic + penalty + generator",
        "critic + penalty: 50% of the steps",
        "all-reduce",
        *ACCELERATORS,
        "do not reach the peaks",
    ):
        assert words in out
    assert "does not fit" not in out


def test_what_does_not_fit_is_said_with_its_cures():
    config = load_config("configs/fomm.py:smoke", ["--config.dtype=bfloat16", "--config.remat=True"])
    steps = (not_compiled(("a",), 0.75), not_compiled(("a", "b"), 0.25, activations=2000))
    plan = Plan(config, make_mesh(1, 1, jax.devices()[:1]), {"net": 250}, Held(1000, 2000, 0, 0, 500), steps)
    assert plan.memory == 5500
    said = describe_plan(plan, {"tiny": PEAKS, "tinier": dataclasses.replace(PEAKS, memory=5e3)})
    (line,) = (line for line in said.splitlines() if line.startswith("does not fit"))
    assert line.startswith("does not fit tinier: ")
    for fix in ("config.accumulate", "config.remat=True", "config.dtype=bfloat16", "config.mesh.fsdp"):
        assert fix in line
    for words in (
        "8 examples per step, bfloat16, remat",
        "NO, 110%",
        "mean",
        "a + b: 25% of the steps",
        "nothing is mo",
    ):
        assert words in said


@pytest.mark.usefixtures("_same_devices")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "data=two"], "--mesh data=two: data=two is no number of devices; give a whole number from 1"),
        (["--mesh", "data=0"], "--mesh data=0: data=0 is no number of devices"),
        (["--mesh", "data=-1"], "data=-1 is no number of devices"),
        (["--mesh", "model=2"], "--mesh model=2: 'model' is no axis of the mesh; the axes are data and fsdp"),
        (["--mesh", "data=2,data=4"], "'data' is there twice; write it as data=64,fsdp=4"),
        (["--mesh", ""], "'' is no axis of the mesh"),
        (["--accelerator", "a100"], "--accelerator a100 is unknown; use one of h100, h200, v5e, v5p"),
        (["--config.mesh.fsdp=0"], "config.mesh needs fsdp >= 1"),
        (["--config.accumulate=0"], "config.accumulate=0: it must be at least 1"),
        (["--config.modle=1"], "config.modle is no key of the config"),
        (
            ["--mesh", "data=3"],
            "config.batch_size=8 is no multiple of config.accumulate=1 x 3 devices; the next one is "
            "--config.batch_size=9, or take fewer devices (--mesh)",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert main(["plan", "--config", "configs/fomm.py:smoke", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out
