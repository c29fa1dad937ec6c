"""How fast the parts are, measured on this machine: ``python experiments/speed.py animate | data``.

Ratios are of medians of interleaved rounds in one run, so that a busy machine slows both sides alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any


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
    from reenax.core.types import Source, VideoDrive
    from reenax.methods.fomm.game import from_unit, to_unit
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


def main() -> None:
    """Runs the measurement that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("animate", help="plain forward against the reenactor")
    command.add_argument("--size", type=int, default=256)
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--rounds", type=int, default=7)
    options = vars(parser.parse_args())
    {"animate": animate}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
