"""Processes that cut videos, one video at a time each; a file that kills its process costs that file alone."""

import contextlib
import multiprocessing
import signal
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.cutting import Outcome, Settings, cut
from data_pipelines.inputs import Video
from reenax.core.parents import die_with_parent


class Task(NamedTuple):
    """A video to cut, and the folder for its clips."""

    video: Video
    folder: Path


def cut_all(tasks: Sequence[Task], settings: Settings, workers: int) -> Generator[tuple[Task, Outcome], None, None]:
    """Cut videos in `workers` processes and give every outcome as it comes.

    Raises OSError when clips cannot be written. Closing the iterator ends the processes.
    """
    context = multiprocessing.get_context("spawn")  # the parent may run threads, which a fork would break
    waiting = iter(tasks)
    busy: dict[Connection, tuple[Any, Task]] = {}

    def employ() -> None:
        task = next(waiting, None)
        if task is not None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, settings), daemon=True)
            process.start()
            theirs.close()
            ours.send(task)
            busy[ours] = process, task

    try:
        for _ in range(workers):
            employ()
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, task = busy.pop(ready)
                try:
                    result = ready.recv()
                except (EOFError, OSError):  # the process has gone
                    process.join()
                    ready.close()
                    yield task, Outcome(0, 0, False, "unreadable", f"decoding it crashed ({_end(process.exitcode)})")
                    employ()
                    continue
                if isinstance(result, OSError):
                    raise result
                following = next(waiting, None)
                if following is not None:
                    ready.send(following)
                    busy[ready] = process, following
                else:
                    _dismiss(ready, process)
                yield task, result
    finally:
        for connection, (process, _) in busy.items():
            process.terminate()
            _dismiss(connection, process)


def _work(connection: Connection, settings: Settings) -> None:
    """A worker's life: videos come, outcomes go, None ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    die_with_parent()
    with contextlib.suppress(EOFError):
        while (task := connection.recv()) is not None:
            try:
                connection.send(cut(task.video, settings, task.folder))
            except OSError as error:
                connection.send(OSError(error.errno, error.strerror))
            except Exception as error:  # whatever a strange video does to us, the others go on
                connection.send(Outcome(0, 0, False, "unreadable", f"{type(error).__name__}: {error}"[:200]))


def _dismiss(connection: Connection, process: Any) -> None:
    with contextlib.suppress(OSError):
        connection.send(None)
    connection.close()
    process.join()


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
