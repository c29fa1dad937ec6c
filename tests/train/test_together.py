"""Several processes train as one does, on any split of the devices, and continue each other's runs."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from data_pipelines import building, schema
from tests.train.running import (
    REAL,
    TOYS,
    Process,
    World,
    checkpoint_steps,
    finish,
    free_port,
    rows,
    together,
    world,
)

__all__ = ["world"]

STEPS, HALF, SIZE = 20, 10, 64
SHAPES = {"1x4": (1, 4), "2x2": (2, 2), "4x1": (4, 1)}
"""Processes and devices of each. One process gets a coordinator too, so that all add up gradients in the same order:
rounding grows a thousandfold in twenty steps of these methods, and would hide mistakes."""

SMALLER = {
    "fomm": (
        "--config.model.num_kp=2",
        "--config.model.kp_detector.num_blocks=1",
        "--config.model.generator.dense_motion.num_blocks=1",
    )
}
"""What makes the smallest config of a method smaller still: twelve processes compile it."""


def pictures(seed: int, count: int) -> list[bytes]:
    """Smooth noise, encoded."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8).repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
    return [simplejpeg.encode_jpeg(picture, 95, "RGB", "444") for picture in np.ascontiguousarray(blocks)]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with what FOMM and GANimation read."""

    def records() -> Iterator[dict[str, Any]]:
        for number in range(4):
            rng = np.random.default_rng(number)
            yield {
                "clip_id": f"{number}",
                "identity": f"person{number}",
                "frames": pictures(number, 6),
                "fps": np.float32(25),
                "timestamps": np.arange(6) / 25,
                "bbox": np.array([0, 0, SIZE, SIZE], np.float32),
                "action_units": rng.uniform(0, 5, (6, 17)).astype(np.float32),
            }

    out = tmp_path_factory.mktemp("faces") / "data"
    building.build(out, {"train": records}, {}, SIZE, schema.REQUIRED | {"action_units"})
    return out


def command(name: str, world: World, faces: Path, run: Path) -> tuple[Sequence[str], list[str]]:
    """The program that trains a method of that name, and its arguments."""
    every = (f"--config.steps={STEPS}", "--config.log_every=1", f"--config.save_every={HALF}")
    few = ("--config.eval_every=0", "--config.sample_every=0", "--config.data.threads=2")
    if name == "table":
        return TOYS, [
            *world.words(name, run.name, *every),
            "--config.eval_every=10",
            "--config.sample_every=10",
            "--config.mesh.fsdp=2",
        ]
    words = ["train", "--config", f"configs/{name}.py:smoke", "--data", str(faces), "--run", str(run), "--or-resume"]
    return REAL, [*words, *every, *few, *SMALLER.get(name, ())]


def train(name: str, world: World, faces: Path, run: Path, processes: int, devices: int, *more: str) -> None:
    program, words = command(name, world, faces, run)
    logs = run.with_name(f"{run.name}_{processes}x{devices}")
    finish(together([*words, *more], logs, processes, devices, program))


def slurm(index: int, port: int) -> dict[str, str]:
    """What SLURM's srun tells a task that is alone on its node."""
    # the port follows from the number of the job
    job = {"SLURM_JOB_ID": str(4096 + port - 61440), "SLURM_NTASKS": "2", "SLURM_PROCID": str(index)}
    return {**job, "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "localhost,node2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}


def job_set(index: int, port: int) -> dict[str, str]:
    """What the pods of a JobSet find in their environment."""
    names = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    return {**names, "JOB_COMPLETION_INDEX": str(index), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(("environment", "source"), [(slurm, "slurm"), (job_set, "jax")])
def test_processes_find_each_other_by_what_a_cluster_tells_them(environment: Any, source: str, world: World) -> None:
    port = 61440 + free_port() % 4096 if environment is slurm else free_port()
    words = world.words("painting", source, "--config.steps=3")
    logs = [world.folder / f"{source}{k}.txt" for k in range(2)]
    processes = [Process(words, log, **environment(k, port)) for k, log in enumerate(logs)]
    finish(processes)
    assert f"process 0 of 2 ({source}), found at localhost:{port}" in processes[0].text
    assert "on 2 x cpu (data=2 x fsdp=1)" in processes[0].text
    assert max(rows(world.folder / source)) == 3


def assert_same_losses(some: dict[int, dict[str, float]], other: dict[int, dict[str, float]], tolerance: float) -> None:
    assert some.keys() == other.keys()
    for step, values in some.items():
        assert values.keys() == other[step].keys()
        for term, value in values.items():
            np.testing.assert_allclose(other[step][term], value, tolerance, tolerance, err_msg=f"step {step}, {term}")


def samples(run: Path) -> dict[str, bytes]:
    """The sheets and clips of a run."""
    return {path.name: path.read_bytes() for path in (run / "samples").iterdir()}


@pytest.mark.parametrize("name", ["table", "ganimation", "fomm"])
def test_processes_and_devices_in_any_number_give_the_same_losses(name: str, world: World, faces: Path) -> None:
    runs = {shape: world.folder / f"{name}_{shape}" for shape in SHAPES}
    for shape, (processes, devices) in SHAPES.items():
        train(name, world, faces, runs[shape], processes, devices)
    whole = rows(runs["1x4"])
    assert set(whole) == set(range(1, STEPS + 1))
    assert sum(len(values) for values in whole.values()) >= 2 * STEPS
    for shape in ("2x2", "4x1"):
        assert_same_losses(whole, rows(runs[shape]), 1e-5)
        assert samples(runs[shape]) == samples(runs["1x4"]), "one process draws, from parts that all hold"
    assert len(samples(runs["1x4"])) == (5 if name == "table" else 0)
    # what two processes saved, four and one continue
    for processes, devices in ((4, 1), (1, 1)):
        continued = world.folder / f"{name}_continued_by_{processes}"
        shutil.copytree(runs["2x2"], continued)
        shutil.rmtree(continued / f"checkpoints/{STEPS:08d}")
        alone = ("--config.mesh.data=1", "--config.mesh.fsdp=1") if processes * devices == 1 else ()
        train(name, world, faces, continued, processes, devices, *alone)
        assert checkpoint_steps(continued)[-1] == STEPS
        late = {step: values for step, values in rows(continued).items() if step > HALF}
        if processes == 1 and name == "fomm":  # one device adds up in another order, on which its gradients lean hard
            late = {s: {k: v for k, v in late[s].items() if "grad_norm" not in k} for s in range(HALF + 1, HALF + 6)}
        assert_same_losses(late, {s: {k: whole[s][k] for k in late[s]} for s in late}, 1e-5)
