"""Batches for training: deterministic for any number of threads, worker processes and hosts, resumed by the step.

Keys of a data config:

sampler      "pair": two frames of one clip; "labelled": one frame; "window": consecutive frames; "people": a frame
             of everybody; "acted": frames of two people who do the same (`data_pipelines.samplers` and
             `data_pipelines.acted` explain the next ten)
by_identity, swap, flip, jitter, resize, labels, targets, frames, people, audio_window
size         side of the frames; must be the dataset's
threads      reading threads of a process (default 4)
workers      worker processes (default 0: threads of this process do the work)
"""

import functools
import operator
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

import grain
import numpy as np
from absl import flags
from jaxtyping import Shaped

from data_pipelines.clips import Clips, decode_clip, open_clips
from data_pipelines.samplers import Sampler, make_sampler
from reenax.core.errors import UserError

__all__ = ["Batches", "Clips", "batches", "decode_clip", "items_per_epoch", "open_clips"]

KEYS = frozenset(
    {"sampler", "by_identity", "swap", "flip", "jitter", "resize", "labels", "targets", "frames", "people"}
    | {"audio_window", "size", "threads", "workers"}
)

BUFFERED_EXAMPLES = 64
"""Examples that the threads of a process prepare ahead."""

BUFFERED_BATCHES = 4
"""Batches that every worker process prepares ahead."""

Batch = dict[str, Shaped[np.ndarray, "b ..."]]


def items_per_epoch(clips: Clips, data_config: Mapping[str, Any]) -> int:
    """Examples in which every item (clip or identity, as the sampler says) comes once. Raises UserError."""
    return len(_sampler(clips, data_config))


class Batches(Iterator[Batch]):
    """Endless batches; `close` (or leaving a `with` block) ends the worker processes and threads."""

    def __init__(self, examples: Iterator[Batch]) -> None:
        self._held = [examples]
        # At exit too, and then nothing may hold grain's iterator: its own clean-up comes too late, and complains.
        self.close = weakref.finalize(self, _release, self._held)
        """Ends the workers; no batch comes after it."""

    def __next__(self) -> Batch:
        if not self._held:
            raise StopIteration
        return next(self._held[0])

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batches(
    clips: Clips,
    data_config: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    threads: int = 4,
    workers: int = 0,
) -> Batches:
    """Batches of examples from step `start` on, for ever; every epoch is a fresh permutation of the items.

    batch_size: of the whole step, over all processes; a process gets batch_size / processes examples, the k-th of
        process p being the example k * processes + p of the step.
    seed: of the order and of every draw.
    start: the step to begin with; its batch is the one that an uninterrupted run would have had.
    process: index and number of the hosts' processes.
    threads, workers: change the speed and nothing else. With workers, batches are made in that many processes and
        arrive through shared memory; the main program must then be importable (`if __name__ == "__main__":`).

    Raises UserError for a wrong config, and later when a record turns out to be damaged.
    """
    index, count = process
    if not 0 <= index < count or batch_size < 1 or batch_size % count:
        raise UserError(f"a batch of {batch_size} examples cannot be shared by {count} processes; choose a multiple")
    if seed < 0 or seed >= 2**32:
        raise UserError(f"seed {seed}: give a number from 0 to {2**32 - 1}")
    if workers < 0 or threads < 0 or start < 0:
        raise UserError(f"workers {workers}, threads {threads}, start {start}: none may be negative")
    sampler = _sampler(clips, data_config)
    # The draw comes before the slice by process: grain keys its randomness by the index seen there.
    drawn = grain.MapDataset.source(_Order(len(sampler), seed)).seed(seed).random_map(_Draw(sampler))
    steps: Any = drawn[index::count].batch(batch_size // count)[start:]
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, BUFFERED_EXAMPLES * count // batch_size))
    dataset = steps.to_iter_dataset(ahead)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain's processes read absl's flags, which only absl.app.run parses
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BUFFERED_BATCHES)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_die_with_parent)
    return Batches(iter(dataset))


def _release(held: list[Any]) -> None:
    if (close := getattr(held.pop(), "close", None)) is not None:
        close()


class _Order:
    """Items in a fresh permutation every epoch, for ever.

    grain's own shuffle walks through 2**16 places to find the next one: 5 ms an item for a handful of clips.
    """

    def __init__(self, items: int, seed: int) -> None:
        self._items, self._seed = items, seed

    def __len__(self) -> int:
        return 2**48 // self._items * self._items

    def __getitem__(self, index: SupportsIndex) -> int:
        epoch, place = divmod(operator.index(index), self._items)
        return int(_permutation(self._items, self._seed, epoch)[place])


@functools.lru_cache(maxsize=8)
def _permutation(items: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(items)


class _Draw(grain.transforms.RandomMap):
    """Example of an item, for grain."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def random_map(self, element: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        return self._sampler(int(element), rng)


def _sampler(clips: Clips, data_config: Mapping[str, Any]) -> Sampler:
    if unknown := sorted(set(data_config.keys()) - KEYS):
        raise UserError(f"data.{unknown[0]}: no such key; there are {', '.join(sorted(KEYS))}")
    return make_sampler(clips, data_config)


def _die_with_parent(worker: int, workers: int) -> None:
    """A worker of a killed parent would live for ever, and keep its shared memory."""
    del worker, workers
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
