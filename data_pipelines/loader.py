"""Batches for training: deterministic for any number of threads, worker processes and hosts, resumed by the step.

Keys of a data config:

sampler      "pair": two frames of one clip; "labelled": one frame; "window": consecutive frames; "people": a frame
             of everybody; "acted": frames of two people who do the same (`data_pipelines.samplers` and
             `data_pipelines.acted` explain the next ten)
by_identity, swap, flip, jitter, resize, labels, targets, frames, people, audio_window
size           side of the frames; must be the dataset's
threads        reading threads of a process (default 4)
workers        worker processes (default 0: threads of this process do the work)
damaged        what a record that cannot be read does: "stop" (default) ends the training and names it, "skip" draws
               another item in its place
damaged_share  share of the records that may be skipped before the training ends all the same (default 0.01)
"""

import functools
import logging
import operator
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

import grain
import numpy as np
from absl import flags
from jaxtyping import Shaped

from data_pipelines.clips import Clips, DamagedRecordError, decode_clip, open_clips
from data_pipelines.samplers import Sampler, make_sampler
from reenax.core.errors import UserError
from reenax.core.parents import die_with_parent

__all__ = ["Batches", "Clips", "DamagedRecordError", "batches", "decode_clip", "items_per_epoch", "open_clips"]

log = logging.getLogger("reenax.data")  # of its own, since every process reads other records

KEYS = frozenset(
    {"sampler", "by_identity", "swap", "flip", "jitter", "resize", "labels", "targets", "frames", "people"}
    | {"audio_window", "size", "threads", "workers", "damaged", "damaged_share"}
)
OWN_KEYS = frozenset({"damaged", "damaged_share"})  # that no sampler needs to know
NO_RECORD = -1
DRAWS = 20
"""After so many damaged records in a row there is nothing to be skipped to."""

BUFFERED_EXAMPLES = 64
"""Examples that the threads of a process prepare ahead."""

BUFFERED_BATCHES = 4
"""Batches that every worker process prepares ahead."""

DAMAGED = "damaged_records"
"""Of every example the records that it stands in for, and `NO_RECORD`; on its way through grain's processes only."""

Batch = dict[str, Shaped[np.ndarray, "b ..."]]


def items_per_epoch(clips: Clips, data_config: Mapping[str, Any]) -> int:
    """Examples in which every item (clip or identity, as the sampler says) comes once. Raises UserError."""
    return len(_sampler(clips, data_config))


class Batches(Iterator[Batch]):
    """Endless batches; `close` (or leaving a `with` block) ends the worker processes and threads."""

    def __init__(self, examples: Iterator[Batch], clips: Clips, allowed: float) -> None:
        self._held = [examples]
        self._clips, self._allowed = clips, allowed
        # At exit too, and then nothing may hold grain's iterator: its own clean-up comes too late, and complains.
        self.close = weakref.finalize(self, _release, self._held)
        """Ends the workers; no batch comes after it."""

    def __next__(self) -> Batch:
        if not self._held:
            raise StopIteration
        batch = next(self._held[0])
        for record in {int(n) for n in np.ravel(batch.pop(DAMAGED, ()))} - self._clips.left_out - {NO_RECORD}:
            self._skip(record)
        return batch

    def _skip(self, record: int) -> None:
        self._clips.left_out.add(record)
        count, all_of_them = len(self._clips.left_out), len(self._clips)
        known = f"{self._clips.where(record)} is damaged and left out ({count} of {all_of_them} so far)"
        if count / all_of_them > self._allowed:
            raise UserError(
                f"{known}: more than data.damaged_share={self._allowed:g}; prepare the dataset again, or allow more"
            )
        log.warning("%s", known)

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
    rows: Sequence[int] | None = None,
    threads: int = 4,
    workers: int = 0,
) -> Batches:
    """Batches of examples from step `start` on, for ever; every epoch is a fresh permutation of the items.

    batch_size: of the whole step, over all processes of a training.
    seed: of the order and of every draw.
    start: the step to begin with; its batch is the one that an uninterrupted run would have had.
    rows: the places in the step's batch that are wanted here, when several processes share it; None for all. An example
        does not depend on how many processes there are.
    threads, workers: change the speed and nothing else. With workers, batches are made in that many processes and
        arrive through shared memory; the main program must then be importable (`if __name__ == "__main__":`).

    Raises UserError for a wrong config, and later when a record turns out to be damaged.
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} examples: give at least one")
    chosen = tuple(range(batch_size)) if rows is None else tuple(rows)
    if not chosen or not set(chosen) <= set(range(batch_size)):
        raise UserError(f"rows {chosen} of a batch of {batch_size}: give some of 0 to {batch_size - 1}")
    if seed < 0 or seed >= 2**32:
        raise UserError(f"seed {seed}: give a number from 0 to {2**32 - 1}")
    if workers < 0 or threads < 0 or start < 0:
        raise UserError(f"workers {workers}, threads {threads}, start {start}: none may be negative")
    sampler = _sampler(clips, data_config)
    skip, allowed = _damage_policy(data_config)
    # The draw comes before the choice of rows: grain keys its randomness by the index seen there.
    drawn = grain.MapDataset.source(_Order(len(sampler), seed)).seed(seed).random_map(_Draw(sampler, skip))
    steps: Any = _Rows(drawn, batch_size, chosen).batch(len(chosen))[start:]
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, BUFFERED_EXAMPLES // len(chosen)))
    dataset = steps.to_iter_dataset(ahead)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain's processes read absl's flags, which only absl.app.run parses
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BUFFERED_BATCHES)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_begin_worker)
    return Batches(iter(dataset), clips, allowed)


def _release(held: list[Any]) -> None:
    if (close := getattr(held.pop(), "close", None)) is not None:
        close()


def _damage_policy(config: Mapping[str, Any]) -> tuple[bool, float]:
    """Whether damaged records are skipped, and the share that may be."""
    policy, share = config.get("damaged", "stop"), float(config.get("damaged_share", 0.01))
    if policy not in ("stop", "skip"):
        raise UserError(f"data.damaged={policy!r}: there are 'stop' and 'skip'")
    if not 0 <= share <= 1:
        raise UserError(f"data.damaged_share={share}: give a share of the records, from 0 to 1")
    return policy == "skip", share


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


class _Rows(grain.MapDataset):
    """Of every batch_size examples those at certain places (grain slices by a stride alone)."""

    def __init__(self, parent: Any, batch_size: int, rows: tuple[int, ...]) -> None:
        super().__init__(parent)
        self._batch_size, self._rows = batch_size, rows

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        step, place = divmod(index, len(self._rows))
        return self._parent[step * self._batch_size + self._rows[place]]


class _Draw(grain.transforms.RandomMap):
    """Example of an item, for grain; of another item where a damaged record is to be skipped."""

    def __init__(self, sampler: Sampler, skip: bool) -> None:
        self._sampler, self._skip = sampler, skip

    def random_map(self, element: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        if not self._skip:
            return self._sampler(int(element), rng)
        found = np.full(DRAWS, NO_RECORD)
        for draw in range(DRAWS):
            try:
                return {**self._sampler(int(element), rng), DAMAGED: found}
            except DamagedRecordError as error:
                if draw == DRAWS - 1:
                    raise
                found[draw], element = error.record, int(rng.integers(len(self._sampler)))
        raise AssertionError("the last draw returns or raises")


def _sampler(clips: Clips, data_config: Mapping[str, Any]) -> Sampler:
    if unknown := sorted(set(data_config.keys()) - KEYS):
        raise UserError(f"data.{unknown[0]}: no such key; there are {', '.join(sorted(KEYS))}")
    return make_sampler(clips, {k: v for k, v in data_config.items() if k not in OWN_KEYS})


def _begin_worker(worker: int, workers: int) -> None:
    """A worker of a killed parent would live for ever, and keep its shared memory."""
    del worker, workers
    die_with_parent()
