"""`reenax quickstart`: the whole road in a few minutes, on talking heads that it renders itself.

Renders people who never lived, trains a small First Order Motion on them, makes people whom it never saw do what others
do, measures that against the exact truth, and leaves a page that shows all of it.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from data_pipelines.builders.synthetic_heads import plan, prepare_synthetic
from data_pipelines.loader import open_clips
from data_pipelines.synthetic.clips import Settings
from reenax.inference.evaluate import evaluate
from reenax.inference.protocols import Trials
from reenax.inference.sheet import draw_sheet, examples, save_picture
from reenax.quickstart.demo import make_demo
from reenax.quickstart.page import Clip, write_page
from reenax.train.config import load_config
from reenax.train.loop import Preempted
from reenax.train.run import resume, train
from reenax.train.runs import load_trained, write_json

log = logging.getLogger("reenax")

CONFIG = "configs/fomm.py:synth64"
SHORT: tuple[str, ...] = ("--config.eval_every=0", "--config.sample_every=0", "--config.save_every=115")
PEOPLE, SECONDS, FPS, TEST_SHARE, SIZE, SEED = 120, 3.0, 4.0, 0.05, 64, 0
"""Of the dataset. Few frames a second: what is learnt from is how different the frames are, not how many."""

DEMOS, DEMO_SECONDS, DEMO_FPS, EXAMPLES = 2, 2.0, 25.0, 4
STAGES = 4


class Quickstart:
    """The stages, each of which is skipped when its result is there.

    Args:
        out: folder for all that is made.
    """

    def __init__(self, out: Path):
        self.out, self.data, self.run = out, out / "data", out / "run"
        self.evaluation = out / "evaluation.json"
        self.sheet = out / "sheet.png"
        self.demos = [out / f"demo{number + 1}" for number in range(DEMOS)]
        self.seconds: dict[str, float] = {}
        self.stage = ""

    def all(self) -> None:
        """Everything; the page is written whatever happens.

        Raises:
            UserError: anything that the user can mend.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        try:
            with self._stage(f"rendering {PEOPLE} people"):
                log.info("%s", self._prepare())
            with self._stage(f"training {CONFIG}, about three minutes on two CPU cores"):
                self._train()
            trained = load_trained(self.run)
            with self._stage("measuring on people that training has not seen, against the exact truth"):
                self._evaluate(trained)
            with self._stage("animating some of them"):
                crosses = plan(PEOPLE, 1, SEED, TEST_SHARE)["cross"]
                for folder, cross in zip(self.demos, crosses, strict=False):
                    make_demo(trained, folder, cross, Settings(SEED, DEMO_SECONDS, DEMO_FPS, SIZE, 2))
            self.stage = ""
            self.seconds["all"] = time.monotonic() - began
        finally:
            self._page()

    @contextmanager
    def _stage(self, what: str) -> Iterator[None]:
        self.stage = what
        log.info("%d/%d %s", len(self.seconds) + 1, STAGES, what)
        began = time.monotonic()
        yield
        self.seconds[what.split(",")[0]] = time.monotonic() - began

    def _prepare(self) -> str:
        cores = os.cpu_count() or 1
        return prepare_synthetic(
            self.data,
            identities=PEOPLE,
            seconds=SECONDS,
            fps=FPS,
            size=SIZE,
            seed=SEED,
            test_share=TEST_SHARE,
            workers=min(cores, 8),
        )

    def _train(self) -> None:
        if (self.run / "facts.json").exists():
            resume(self.run)
        else:
            train(load_config(CONFIG, SHORT), self.data, self.run)

    def _evaluate(self, trained: Any) -> None:
        if self.evaluation.exists() and self.sheet.exists():
            return
        tests = open_clips(self.data, "test")
        result = evaluate(trained, tests, batch_size=16)
        picked = examples(trained, Trials.open("cross", tests), EXAMPLES, batch_size=16)
        save_picture(self.sheet, draw_sheet(picked))
        write_json(self.evaluation, result.to_json())
        print(result.summary())

    def commands(self) -> list[str]:
        """What the stages are, as commands of their own."""
        return [
            f"reenax prepare synthetic --identities {PEOPLE} --seconds {SECONDS:g} --fps {FPS:g} --size {SIZE} "
            f"--test-share {TEST_SHARE:g} --workers {min(os.cpu_count() or 1, 8)} --out {self.data}",
            f"reenax train --config {CONFIG} {' '.join(SHORT)} --data {self.data} --run {self.run}",
            f"reenax evaluate --run {self.run} --data {self.data}",
            f"reenax animate --run {self.run} --source {self.out}/demo1/source.png --driving "
            f"{self.out}/demo1/driving.mp4 --out {self.out}/demo1/animated.mp4 --mode absolute --faces none",
        ]

    def _page(self) -> None:
        clips = [
            Clip(
                "source | driving | generated | truth", json.loads((demo / "about.json").read_text())["caption"], video
            )
            for demo in self.demos
            if (video := demo / "compare.mp4").exists() and (demo / "about.json").exists()
        ]
        page = self.out / "index.html"
        write_page(
            page,
            clips=clips,
            evaluation=json.loads(self.evaluation.read_text()) if self.evaluation.exists() else None,
            history=self._history(),
            sheet=self.sheet if self.sheet.exists() else None,
            commands=self.commands(),
            facts=self._facts(),
            unfinished=self.stage,
        )
        log.info("%s", f"stopped; what there is: {page}" if self.stage else f"done: open {page}")

    def _history(self) -> list[dict[str, Any]]:
        metrics, rows = self.run / "metrics.jsonl", []
        for line in metrics.read_text().splitlines() if metrics.exists() else ():
            with suppress(ValueError):  # a killed run can leave half a line
                rows.append(json.loads(line))
        return rows

    def _facts(self) -> dict[str, str]:
        packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax"))
        return {
            **{f"seconds {what}": f"{seconds:.0f}" for what, seconds in self.seconds.items()},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}",
            "versions": f"reenax {version('reenax')}, {packages}, Python {platform.python_version()}",
        }


def quickstart(out: Path) -> None:
    """Renders, trains, measures and animates; a second call continues where one was cut off.

    Args:
        out: folder for all that is made.

    Raises:
        UserError: anything that the user can mend.
        KeyboardInterrupt: it was stopped; what there is stays, and the page shows it.
    """
    use_all_cores()
    try:
        Quickstart(out).all()
    except Preempted as stopped:
        raise KeyboardInterrupt from stopped


def use_all_cores() -> None:
    """Two devices on a CPU: XLA then computes two halves of a batch at once, which is quicker than one whole."""
    if (os.cpu_count() or 1) > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        try:
            jax.config.update("jax_num_cpu_devices", 2)
        except RuntimeError:
            log.debug("devices are in use already")
