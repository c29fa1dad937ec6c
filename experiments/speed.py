"""How fast the parts are, measured on this machine.

    python experiments/speed.py animate | methods | data | render | scale

Ratios are of medians of interleaved rounds in one run, so that a busy machine slows both sides alike.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reenax.commands import positive, run_command


def interleaved_medians(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Median seconds of each function over rounds in which every one runs once, after one round to warm up."""
    for run in runs:
        run()
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, spent in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
    return [statistics.median(spent) for spent in seconds]


def animate(size: int = 256, batch_size: int = 4, rounds: int = 7) -> float:
    """Prints how fast First Order Motion (vox-256) animates by its plain forward and by the reenactor; their ratio.

    The plain forward gives the generator one copy of the source per driving frame, as the published code does; the
    keypoints of the source and of the first driving frame are found once on both sides.
    """
    import jax
    import jax.numpy as jnp

    from reenax import load_method
    from reenax.core.pictures import from_unit, to_unit
    from reenax.core.types import Source, VideoDrive
    from reenax.methods.fomm.reenact import relative_keypoints

    method: Any = load_method("fomm")()
    # noise in small blocks, in [-1, 1]: the keypoints of random weights spread over it
    blocks = jax.random.uniform(jax.random.key(0), (batch_size + 1, 8, 8, 3), minval=-1, maxval=1)
    pictures = jax.image.resize(blocks, (batch_size + 1, size, size, 3), "nearest")
    source, driving = pictures[:1], pictures[1:]
    variables = jax.jit(method.init)(jax.random.key(1), {"source": source, "driving": source})
    networks = method.game

    @jax.jit
    def detect(variables: Any, picture: Any) -> Any:
        return networks.kp_detector.apply(variables["kp_detector"], to_unit(picture), train=False)

    @jax.jit
    def forward(variables: Any, source: Any, kp_source: Any, kp_anchor: Any, driving: Any) -> Any:
        moved = relative_keypoints(kp_source, detect(variables, driving), kp_anchor)
        copies, kp_copies = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (driving.shape[0], *x.shape[1:])), (to_unit(source), kp_source)
        )
        made = networks.generator.apply(variables["generator"], copies, kp_copies, moved, train=False)
        return from_unit(made.prediction)

    kp_source, kp_anchor = detect(variables, source), detect(variables, driving[:1])
    reenact = method.reenactor(variables, Source(source), anchor=VideoDrive(driving[:1]))

    def plain() -> Any:
        return jax.block_until_ready(forward(variables, source, kp_source, kp_anchor, driving))

    def fast() -> Any:
        return jax.block_until_ready(reenact(VideoDrive(driving)))

    difference = float(jnp.abs(plain() - fast()).max())
    slow, quick = (seconds / batch_size for seconds in interleaved_medians(rounds, plain, fast))
    print(f"fomm vox-256 at {size}x{size}, batches of {batch_size}, {jax.devices()[0].device_kind}, {rounds} rounds")
    print(f"  plain forward  {1e3 * slow:8.1f} ms/frame  {1 / slow:7.2f} frames/s")
    print(f"  reenactor      {1e3 * quick:8.1f} ms/frame  {1 / quick:7.2f} frames/s")
    print(f"  ratio {slow / quick:.2f}, largest difference {difference:.1e}")
    return slow / quick


def methods(
    names: Sequence[str] = ("fomm", "monkey_net", "mraa", "face_vid2vid"),
    config: str = "synth64",
    batch_size: int = 8,
    rounds: int = 5,
    train: bool = True,
) -> dict[str, list[float]]:
    """Prints how fast methods animate and train by a config that all of them have, and the ratio to the first one.

    Weights are fresh, pictures are noise, frozen networks random; a training step is one of the first step's players.
    Returns seconds per picture by row, one per method.
    """
    made = [_prepared(name, config, batch_size, train) for name in names]
    rows = {"animate": interleaved_medians(rounds, *(animate for animate, _ in made))}
    if train:
        rows["train"] = interleaved_medians(rounds, *(step for _, step in made))
    import jax

    print(f"{config}, batches of {batch_size}, {jax.devices()[0].device_kind}, medians of {rounds} rounds")
    for row, spent in rows.items():
        rows[row] = [seconds / batch_size for seconds in spent]
        for name, seconds in zip(names, rows[row], strict=True):
            print(
                f"  {row:8} {name:14}{1e3 * seconds:9.1f} ms/picture{1 / seconds:9.2f} pictures/s"
                f"  {seconds / rows[row][0]:5.2f} x {names[0]}"
            )
    return rows


def _prepared(
    name: str, config_name: str, batch_size: int, train: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A method's animation of one batch and its training step, ready to be timed."""
    import jax
    import jax.numpy as jnp

    from data_pipelines.schema import FIELDS
    from reenax.core.pictures import as_float
    from reenax.core.step import create_state, train_step
    from reenax.core.types import Source, VideoDrive
    from reenax.train.config import load_config
    from reenax.train.frozen import load_frozen
    from reenax.train.optim import make_optimisers
    from reenax.train.runs import make_method

    config = load_config(f"configs/{name}.py:{config_name}")
    method, size = make_method(config), config.data.size
    rng = np.random.default_rng(0)
    # noise in small blocks: the keypoints of random weights spread over it
    blocks = rng.integers(0, 256, (2, batch_size, 8, 8, 3), dtype=np.uint8)
    pictures = blocks.repeat(size // 8, axis=2).repeat(size // 8, axis=3)
    roles = ("source", "driving")
    batch = dict(zip(roles, jnp.asarray(pictures), strict=True))
    for label in config.data.labels:
        shape = (batch_size, *map(int, FIELDS[label].shape[1:]))
        batch |= {f"{role}_{label}": jnp.asarray(rng.uniform(-0.5, 0.5, shape), "float32") for role in roles}
    players = method.players(make_optimisers(config.optim.to_dict(), 100, 1))
    state = jax.jit(lambda b: create_state(method, players, 0, b))(batch)
    source, drive = (as_float(batch[role]) for role in roles)
    reenact = method.reenactor(state.variables, Source(source[:1]), anchor=VideoDrive(drive[:1]))

    def animate() -> object:
        return jax.block_until_ready(reenact(VideoDrive(drive)))

    if not train:
        return animate, animate
    frozen = load_frozen(method, dict.fromkeys(method.frozen, "random"), name)
    active = tuple(p.name for p in players if p.when(0))
    step = jax.jit(lambda s, b, f: train_step(method, players, s, b, active, f))
    return animate, lambda: jax.block_until_ready(step(state, batch, frozen))


def data(
    folder: Path | None = None, size: int = 256, batch_size: int = 32, rounds: int = 7, batches_a_round: int = 6
) -> dict[str, float]:
    """Prints what feeding pairs costs: CPU time per frame and frames/s of one core, by the loader and by plain PIL.

    The plain way reads the record through TFDS and decodes its two frames with Pillow, one after the other. Without
    `folder` the clips are noise of the usual file size, 128 frames each. Returns milliseconds of the main process per
    frame by row, medians over rounds; the rows without workers are interleaved.
    """
    from data_pipelines.loader import batches, open_clips

    with tempfile.TemporaryDirectory() as made:
        clips = open_clips(noise_clips(Path(made), size) if folder is None else folder, "train")
        print(f"{clips}, {clips.size}x{clips.size}, batches of {batch_size} pairs, medians of {rounds} rounds")
        print(f"  {'':36}{'main ms/frame':>14}{'frames/s/core':>15}{'frames/s':>10}")
        each = 2 * batch_size * batches_a_round
        config = {"by_identity": True, "swap": True, "flip": True}
        jitter = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}
        common: Any = {"batch_size": batch_size, "seed": 0}

        def show(name: str, wall: float, cpu: float, core: bool) -> float:
            per_core = f"{1 / cpu:.0f}" if core else ""  # with workers the work is done in other processes
            print(f"  {name:36}{1e3 * cpu:14.4f}{per_core:>15}{1 / wall:10.0f}")
            return 1e3 * cpu

        alone = {
            "plain: TFDS record, PIL": (_plain_pairs(clips), each // 2),
            "loader, no threads": (batches(clips, config, threads=0, **common), batches_a_round),
            "loader, no threads, colour jitter": (
                batches(clips, {**config, "jitter": jitter}, threads=0, **common),
                batches_a_round,
            ),
        }
        spent = _seconds_per_frame(list(alone.values()), rounds, each)
        rows = {name: show(name, *seconds, core=True) for name, seconds in zip(alone, spent, strict=True)}
        for workers in (1, 2):
            with batches(clips, config, threads=2, workers=workers, **common) as fed:
                ((wall, cpu),) = _seconds_per_frame([(fed, batches_a_round)], rounds, each)
            rows[f"loader, {workers} workers"] = show(f"loader, {workers} workers", wall, cpu, core=False)
    return rows


def _seconds_per_frame(sources: list[tuple[Iterator[Any], int]], rounds: int, frames: int) -> list[tuple[float, float]]:
    """Median wall and CPU seconds per frame of iterators, of each so many items a round, interleaved."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in sources]
    for number in range(rounds + 1):
        for (source, items), spent in zip(sources, seconds, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(items):
                next(source)
            if number:  # the first warms up
                spent.append(((time.perf_counter() - wall) / frames, (time.process_time() - cpu) / frames))
    return [(statistics.median(w for w, _ in spent), statistics.median(c for _, c in spent)) for spent in seconds]


def _plain_pairs(clips: Any) -> Iterator[Any]:
    rng = np.random.default_rng(0)
    while True:
        record = clips[int(rng.integers(len(clips)))]
        chosen = np.sort(rng.integers(len(record["frames"]), size=2))
        yield [np.asarray(Image.open(io.BytesIO(record["frames"][k]))) for k in chosen]


def noise_clips(folder: Path, size: int, clips: int = 8, length: int = 128) -> Path:
    """A dataset of smooth noise: about 30 kB a frame at 256x256, as pictures of people have."""
    import simplejpeg

    from data_pipelines import building, schema

    def records() -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(0)
        for number in range(clips):
            jpegs = []
            for _ in range(length):
                small = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
                smooth = np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC), np.int16)
                noisy = np.clip(smooth + rng.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8)
                jpegs.append(simplejpeg.encode_jpeg(noisy, 95, "RGB", "444"))
            yield {
                "clip_id": f"{number}",
                "identity": f"{number}",
                "frames": jpegs,
                "fps": np.float32(25),
                "timestamps": np.arange(length) / 25,
                "bbox": np.array([0, 0, size, size], np.float32),
            }

    building.build(folder, {"train": records}, {}, size, schema.REQUIRED)
    return folder


def render(rounds: int = 15, batch_size: int = 8) -> dict[str, float]:
    """Prints how fast the synthetic head is drawn with all its labels, and its geometry alone; frames/s by row.

    Every row draws a new frame of another person each time, one per call but for the batch; ratios are to the picture
    of 128x128 pixels.
    """
    import itertools

    import jax
    import jax.numpy as jnp

    from reenax.geometry.camera import Camera
    from reenax.geometry.head.head import synthetic_head
    from reenax.geometry.head.parameters import neutral_parameters
    from reenax.geometry.head.pose import pose_vertices
    from reenax.geometry.head.render import render as draw

    head, camera = synthetic_head(), Camera()
    rng = np.random.default_rng(0)
    frames = [
        neutral_parameters().replace(
            identity=jnp.asarray(rng.normal(size=80), jnp.float32),
            expression=jnp.asarray(rng.uniform(0, 1, 52) * (rng.random(52) < 0.3), jnp.float32),
            rotation=jnp.asarray(rng.uniform(-1, 1, 3) * [0.4, 0.9, 0.4], jnp.float32),
        )
        for _ in range(batch_size)
    ]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *frames)
    many = jax.jit(jax.vmap(lambda head, frame: draw(head, frame, camera, size=128), in_axes=(None, 0)))
    pose = jax.jit(pose_vertices)

    def one(made: Callable[[Any], object]) -> Callable[[], object]:
        turn = itertools.cycle(frames)
        return lambda: jax.block_until_ready(made(next(turn)))

    rows = {
        "128x128": one(lambda frame: draw(head, frame, camera, size=128)),
        "128x128, 2x2 samples": one(lambda frame: draw(head, frame, camera, size=128, supersampling=2)),
        "64x64": one(lambda frame: draw(head, frame, camera, size=64)),
        "256x256": one(lambda frame: draw(head, frame, camera, size=256)),
        f"128x128, {batch_size} at once": lambda: jax.block_until_ready(many(head, batch)),
        "geometry alone": one(lambda frame: pose(head, frame)),
    }
    seconds = dict(zip(rows, interleaved_medians(rounds, *rows.values()), strict=True))
    seconds[f"128x128, {batch_size} at once"] /= batch_size
    print(f"synthetic head, {head.part.shape[0]} faces, {jax.devices()[0].device_kind}, {rounds} rounds")
    for name, spent in seconds.items():
        print(
            f"  {name:24}{1e3 * spent:8.1f} ms/frame{1 / spent:9.1f} frames/s  ratio {spent / seconds['128x128']:5.2f}"
        )
    return {name: 1 / spent for name, spent in seconds.items()}


def main() -> None:
    """Runs the measurement that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("animate", help="plain forward against the reenactor")
    command.add_argument("--size", type=int, default=256)
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--rounds", type=int, default=7)
    command = commands.add_parser("methods", help="animation and a training step of several methods")
    command.add_argument("--names", nargs="+", default=["fomm", "monkey_net", "mraa", "face_vid2vid"])
    command.add_argument("--config", default="synth64", help="one that every method has (synth64)")
    command.add_argument("--batch-size", type=int, default=8)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--animate-only", dest="train", action="store_false")
    command = commands.add_parser("data", help="the loader against plain decoding")
    command.add_argument("--data", dest="folder", type=Path, help="a prepared dataset (default: noise)")
    command.add_argument("--size", type=int, default=256, help="of the noise")
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument("--rounds", type=int, default=7)
    command = commands.add_parser("render", help="pictures and labels of the synthetic head")
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--batch-size", type=int, default=8)
    command = commands.add_parser("scale", help="several processes, saves and restarts of a training")
    command.add_argument("--parts", nargs="+", choices=("loader", "steps", "stall", "start"), help="default: all")
    command.add_argument("--data", type=Path, help="a prepared dataset (default: noise)")
    command.add_argument("--config", metavar="FILE:NAME", help="of steps and start (default: configs/fomm.py:smoke)")
    command.add_argument("--stall-config", metavar="FILE:NAME", help="default: configs/fomm.py:real64")
    command.add_argument("--steps", type=positive, help="of a training for steps and stall (default: 100)")
    command.add_argument("--processes", type=positive, nargs="+", help="default: 1 2 4")
    command.add_argument("--rounds", type=positive, help="default: 3")
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    named = {"animate": animate, "methods": methods, "data": data, "render": render, "scale": _scale}
    run: Callable[..., object] = named[options.pop("command")]

    def measure() -> None:
        run(**options)

    sys.exit(run_command(measure, name="speed"))


def _scale(**options: Any) -> None:
    from experiments.scale import scale

    scale(**options)


if __name__ == "__main__":
    main()
