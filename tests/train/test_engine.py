"""The engine carries every kind of game, on any number of devices, through a checkpoint and out again."""

import gc
import itertools
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reenax.core.errors import UserError
from reenax.core.step import check_players, due
from reenax.core.types import Every, LossOut, Player
from reenax.core.updates import GaussNewton, Gradient
from reenax.train.checkpoint import Checkpoints
from reenax.train.engine import Engine
from reenax.train.runs import abstract_variables, batch_shapes
from reenax.train.sharding import make_mesh, put_batch
from tests.damage import flip_byte, flip_bytes
from tests.train.toys import TOYS, Fit, Regression, optimisers

STEPS = 10


@pytest.fixture
def _collected():
    """Orbax leaves coroutines behind when files are damaged; they warn when they are collected."""
    yield
    gc.collect()


def damaging(test):
    """A test that damages checkpoints."""
    test = pytest.mark.usefixtures("_collected")(test)
    return pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(test)


def build(name, data=1, fsdp=1, accumulate=1, method=None, **kwargs):
    toy, batches = TOYS[name]
    method = method or toy
    players = method.players(optimisers(), accumulate)
    mesh = make_mesh(data, fsdp, jax.devices()[: data * fsdp])
    return Engine.build(method, players, mesh, batches(0), seed=5, **kwargs), batches


def advance(engine, batches, state, steps):
    rows = []
    for i in steps:
        state, metrics = engine.step(state, put_batch(batches(i), engine.mesh), i)
        rows.append({k: float(v) for k, v in metrics.items()})
    return state, rows


def run(name, steps=STEPS, **kwargs):
    engine, batches = build(name, **kwargs)
    return (engine, *advance(engine, batches, engine.fresh_state(batches(0)), range(steps)))


def host(tree):
    raw = jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
    return jax.tree.map(np.asarray, raw)


def assert_rows_close(a, b, atol):
    assert len(a) == len(b)
    for row, other in zip(a, b, strict=True):
        assert row.keys() == other.keys()
        for key in row:
            np.testing.assert_allclose(row[key], other[key], rtol=atol, atol=atol, err_msg=key)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("shape", [(8, 1), (2, 4)], ids=["data8", "data2-fsdp4"])
def test_many_devices_equal_one(name, shape):
    _, one, rows_one = run(name)
    _, many, rows_many = run(name, data=shape[0], fsdp=shape[1])
    assert_rows_close(rows_one, rows_many, 2e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5), host(one), host(many))


@pytest.mark.parametrize("name", TOYS)
def test_each_player_moves_only_what_it_owns(name):
    engine, batches = build(name)
    toy, _ = TOYS[name]
    players = {p.name: p for p in engine.players}
    for step in range(6):
        if step == 0:
            state = engine.fresh_state(batches(0))
        before = host(state.params)
        active = due(engine.players, step)
        state, _ = engine.step(state, put_batch(batches(step), engine.mesh), step)
        after = host(state.params)
        owned = set(itertools.chain.from_iterable(players[a].owns for a in active))
        for network, params in before.items():
            moved = any(
                not np.array_equal(a, b)
                for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after[network]), strict=True)
            )
            assert moved == (network in owned), (network, active)
    assert int(state.step) == 6
    assert toy.ema.keys() == state.ema_params.keys()


@pytest.mark.parametrize("name", TOYS)
def test_saved_on_eight_continues_on_four_and_one(name, tmp_path):
    engine, state, _ = run(name, steps=4, data=2, fsdp=4)
    shapes = batch_shapes(TOYS[name][1](0))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, shapes)
        checkpoints.wait()
    saved = host(state)
    _, rows = advance(engine, TOYS[name][1], state, range(4, 8))
    for shape in ((2, 2), (1, 1)):
        other, batches = build(name, data=shape[0], fsdp=shape[1])
        with Checkpoints(tmp_path / "c") as checkpoints:
            restored = checkpoints.restore(other.abstract)
        assert restored is not None
        jax.tree.map(np.testing.assert_array_equal, saved, host(restored))
        _, continued = advance(other, batches, restored, range(4, 8))
        assert_rows_close(rows, continued, 2e-5)


def test_sharding_rules_cut_the_table_and_large_leaves():
    engine, batches = build("table", data=2, fsdp=4)
    state = engine.fresh_state(batches(0))
    embedding = state.params["table"]["embedding"]
    assert embedding.sharding.shard_shape(embedding.shape) == (16, 6)
    moments = [x for x in jax.tree.leaves(state.opt_states) if x.shape == (64, 6)]
    assert moments
    assert all(x.sharding.shard_shape(x.shape) == (16, 6) for x in moments)


def test_schedule_of_the_critic_game():
    engine, _ = build("wgan")
    names = [due(engine.players, i) for i in range(6)]
    assert names == 2 * [("critic", "penalty"), ("critic", "penalty"), ("critic", "penalty", "generator")]
    _, state, _ = run("wgan", steps=3)
    counts = [int(x) for x in jax.tree.leaves(state.opt_states["critic"]) if x.dtype == jnp.int32]
    assert counts == [6], "critic and penalty step one optimiser in turn"
    assert set(state.opt_states) == {"critic", "generator"}


def test_stages_follow_each_other():
    _, state, rows = run("stages", steps=6)
    assert [sorted(r)[0].split("/")[0] for r in rows] == ["first"] * 4 + ["second"] * 2
    counts = {n: [int(x) for x in jax.tree.leaves(s) if x.dtype == jnp.int32] for n, s in state.opt_states.items()}
    assert counts == {"first": [4], "second": [2]}


def test_pool_keeps_the_newest_pictures():
    engine, batches = build("pairs")
    state = engine.fresh_state(batches(0))
    pools = []
    for i in range(3):
        state, _ = engine.step(state, put_batch(batches(i), engine.mesh), i)
        pools.append(np.asarray(state.collections["pool"]["pictures"]["kept"]))
    np.testing.assert_array_equal(pools[1][:16], pools[2][16:])
    assert np.abs(pools[2][:16] - pools[2][16:]).max() > 1e-3


def test_warm_start_replaces_the_fresh_variables():
    _, trained, _ = run("regression", steps=3)
    variables = host(trained.averaged())
    engine, batches = build(
        "regression", warm_start=lambda fresh: jax.tree.map(lambda _, v: jnp.asarray(v), dict(fresh), variables)
    )
    state = engine.fresh_state(batches(0))
    jax.tree.map(np.testing.assert_array_equal, host(state.variables), variables)
    jax.tree.map(np.testing.assert_array_equal, host(state.ema_params["painter"]), variables["painter"]["params"])


def test_gauss_newton_finds_the_least_squares_solution():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=20).astype(np.float32)

    def residuals(variables, batch):
        return batch["a"] @ variables["x"]["params"]["x"] - batch["b"], {}

    update = GaussNewton(residuals, 3, damping=0.0)
    batch = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
    variables = {"x": {"params": {"x": jnp.zeros(3)}}}
    params, _, out = update(variables, ("x",), (), batch, jax.random.key(0), step=jnp.int32(0), shared=None)
    np.testing.assert_allclose(params["x"]["x"], np.linalg.lstsq(a, b)[0], atol=1e-5)
    assert float(out.metrics["loss"]) < float(out.metrics["first_energy"])
    _, _, rows = run("fit", steps=1)
    assert rows[0]["fit/loss"] < 0.9999 * rows[0]["fit/first_energy"]


@pytest.mark.parametrize("data", [1, 2])
def test_accumulation_gives_the_mean_gradient(data):
    def loss(variables, batch, rng, *, step, shared):
        made = batch["x"] @ variables["w"]["params"]["w"]
        seen = variables["w"]["seen"]["count"] + 1
        return LossOut(
            jnp.mean((made - shared["y"]) ** 2), {"made": made.mean()}, {"w": {"seen": {"count": seen}}}, {"made": made}
        )

    rng = np.random.default_rng(1)
    batch = {"x": jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)}
    shared = {"y": jnp.asarray(rng.normal(size=8), jnp.float32)}
    variables = {"w": {"params": {"w": jnp.ones(3)}, "seen": {"count": jnp.zeros(())}}}
    results = []
    for accumulate in (1, 4):
        update = Gradient(loss, optax.sgd(0.1), accumulate)
        results.append(
            update(
                variables,
                ("w",),
                update.init(variables["w"]["params"]),
                batch,
                jax.random.key(0),
                step=jnp.int32(0),
                shared=shared,
            )
        )
    (whole, _, out), (parts, _, out_parts) = results
    np.testing.assert_allclose(whole["w"]["w"], parts["w"]["w"], rtol=1e-6)
    np.testing.assert_allclose(out.shared["made"], out_parts.shared["made"], rtol=1e-6)
    np.testing.assert_allclose(out.metrics["loss"], out_parts.metrics["loss"], rtol=1e-6)
    assert float(out_parts.mutated["w"]["seen"]["count"]) == 4


def test_bfloat16_computes_low_and_keeps_state_high():
    _, state, rows = run("regression", method=Regression(dtype="bfloat16"))
    _, _, exact = run("regression")
    assert {str(x.dtype) for x in jax.tree.leaves((state.params, state.collections, state.ema_params))} == {"float32"}
    moments = {str(x.dtype) for x in jax.tree.leaves(state.opt_states)}
    assert moments == {"float32", "int32"}
    assert rows[-1]["painter/mse"] == pytest.approx(exact[-1]["painter/mse"], rel=0.02)
    assert rows != exact


def test_same_seed_same_numbers_other_seed_others():
    _, _, first = run("regression", steps=3)
    _, _, again = run("regression", steps=3)
    assert first == again
    toy, batches = TOYS["regression"]
    engine = Engine.build(toy, toy.players(optimisers()), make_mesh(1, 1, jax.devices()[:1]), batches(0), seed=6)
    _, other = advance(engine, batches, engine.fresh_state(batches(0)), range(3))
    assert first != other


@damaging
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(damage, tmp_path, caplog):
    engine, batches = build("pairs")
    shapes = batch_shapes(batches(0))
    state = engine.fresh_state(batches(0))
    with Checkpoints(tmp_path / "c") as checkpoints:
        for i in range(2):
            state, _ = advance(engine, batches, state, [i])
            if i == 0:
                first = host(state)
            checkpoints.save(state, shapes)
        checkpoints.wait()
    victim = tmp_path / "c" / "00000002"
    if damage == "flip":
        flip_bytes(victim)
    else:
        for path in (victim / "variables").rglob("*"):
            if path.is_file() and path.stat().st_size > 2000:
                path.unlink() if damage == "delete" else path.write_bytes(path.read_bytes()[:1000])
    with Checkpoints(tmp_path / "c") as checkpoints, caplog.at_level(logging.WARNING, "reenax"):
        restored = checkpoints.restore(engine.abstract)
        assert restored is not None
        assert int(restored.step) == 1
        jax.tree.map(np.testing.assert_array_equal, first, host(restored))
        assert checkpoints.latest_step() == 1
        assert "checkpoint of step 2 is damaged" in caplog.text
        assert (tmp_path / "set_aside" / "00000002").is_dir()
        state, _ = advance(engine, batches, restored, [1])
        checkpoints.save(state, shapes)
        checkpoints.wait()
        assert checkpoints.latest_step() == 2


@damaging
def test_no_flipped_byte_is_ever_restored(tmp_path):
    engine, batches = build("regression")
    state, _ = advance(engine, batches, engine.fresh_state(batches(0)), [0])
    with Checkpoints(tmp_path / "whole") as checkpoints:
        checkpoints.save(state, batch_shapes(batches(0)))
        checkpoints.wait()
    saved = host(state)
    rng = np.random.default_rng(0)
    files = sorted(p.relative_to(tmp_path) for p in (tmp_path / "whole").rglob("*") if p.is_file())
    sizes = np.array([(tmp_path / f).stat().st_size for f in files])
    detected = 0
    for trial in range(25):
        shutil.copytree(tmp_path / "whole", tmp_path / str(trial) / "whole")
        victim = rng.choice(len(files), p=sizes / sizes.sum())
        flip_byte(tmp_path / str(trial) / files[victim], int(rng.integers(sizes[victim])))
        try:
            with Checkpoints(tmp_path / str(trial) / "whole") as checkpoints:
                restored = checkpoints.restore(engine.abstract)
        except UserError:
            detected += 1
            continue
        assert restored is not None
        jax.tree.map(np.testing.assert_array_equal, saved, host(restored))  # the byte was one that nobody reads
    assert detected >= 5


def test_no_whole_checkpoint_is_an_error_and_none_is_none(tmp_path):
    engine, state, _ = run("regression", steps=1)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore(engine.abstract) is None
        checkpoints.save(state, batch_shapes(TOYS["regression"][1](0)))
        checkpoints.wait()
    shutil.rmtree(tmp_path / "c" / "00000001" / "variables")
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(UserError, match="no checkpoint .* is whole"):
        checkpoints.restore(engine.abstract)


def test_checkpoint_of_another_model_is_refused_and_kept(tmp_path):
    engine, state, _ = run("regression", steps=1)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, batch_shapes(TOYS["regression"][1](0)))
        checkpoints.wait()
        other, _ = build("table")
        with pytest.raises(UserError, match="of another model: .* arrays differ"):
            checkpoints.restore(other.abstract)
        assert checkpoints.latest_step() == 1


def test_newest_and_best_are_kept(tmp_path):
    engine, batches = build("regression")
    state = engine.fresh_state(batches(0))
    scores = [0.5, 0.2, 0.3, None, 0.4, 0.6]
    with Checkpoints(tmp_path / "c", keep_latest=2, keep_best=1) as checkpoints:
        for i, score in enumerate(scores):
            state, _ = advance(engine, batches, state, [i])
            checkpoints.save(state, batch_shapes(batches(0)), score)
        checkpoints.wait()
        assert checkpoints.best_step() == 2
        assert checkpoints.latest_step() == 6
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["00000002", "00000005", "00000006"]


def test_variables_are_restored_without_the_optimiser(tmp_path):
    engine, state, _ = run("regression", steps=3)
    shapes = batch_shapes(TOYS["regression"][1](0))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, shapes)
        checkpoints.wait()
        meta = checkpoints.meta(3)
        variables = checkpoints.restore_variables(3, abstract_variables(engine.method, meta["batch"]))
    jax.tree.map(np.testing.assert_array_equal, host(variables), host(state.averaged()))


def test_errors_of_mesh_and_batch():
    with pytest.raises(UserError, match=r"config.mesh.fsdp=3 does not divide the 8 devices"):
        make_mesh(-1, 3)
    with pytest.raises(UserError, match="asks for data=16 x fsdp=1 devices, this run has 8"):
        make_mesh(16, 1)
    toy, batches = TOYS["regression"]
    with pytest.raises(UserError, match="config.batch_size=16 cannot be cut over 3 devices"):
        Engine.build(toy, toy.players(optimisers()), make_mesh(3, 1), batches(0), seed=0)


def test_impossible_games_are_refused():
    method = Fit()
    (player,) = method.players({})
    variables = {"coefficients": {"params": {}}}
    with pytest.raises(ValueError, match="two players are called 'fit'"):
        check_players(method, (player, player), variables)
    with pytest.raises(ValueError, match="names network 'nobody'"):
        check_players(method, (Player("a", ("nobody",), player.update),), variables)
    with pytest.raises(ValueError, match="needs a player 'b'"):
        check_players(method, (Player("a", ("coefficients",), player.update, state_of="b"),), variables)
    with pytest.raises(ValueError, match="offset"):
        Every(2, offset=2)
