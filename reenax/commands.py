"""What all command lines share: how they end, what they print, how programs are kept. Imports nothing heavy."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
FAKE_DEVICES = "--xla_force_host_platform_device_count"


def run_command(command: Callable[[], int | None], *, debug: bool = False, name: str = "reenax") -> int:
    """Runs a command; what its user can mend ends in one line on standard error and exit code 2.

    Args:
        command: does the work and returns its exit code, None for 0.
        debug: let such errors through, with their traceback.
        name: what the line begins with.
    """
    from reenax.core.errors import UserError

    def refuse(message: str) -> int:
        print(f"{name}: error: {' '.join(message.split())}", file=sys.stderr)
        return EXIT_USER_ERROR

    try:
        return command() or 0
    except UserError as error:
        if debug:
            raise
        return refuse(str(error))
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug or error.errno is None:
            raise
        return refuse(_os_error(error))
    except MemoryError:
        return refuse("out of memory: lower the batch size or the number of workers")
    except RuntimeError as error:
        if debug or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return refuse("the device is out of memory: lower the batch size")


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    fix = "; free some space and run the same command again" if error.errno == 28 else ""
    return f"{where}{error.strerror}{fix}"


class _Lines(logging.Handler):
    """Bare lines on the standard error of the moment; warnings say that they are."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(prefix + record.getMessage(), file=sys.stderr)


def start_logging(*, quiet: bool = False) -> None:
    """Shows the library's log as bare lines on standard error; when quiet, what only this process can know."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what orbax logs of a failed save it raises too
    log = logging.getLogger("reenax")
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    logging.getLogger("reenax.data").setLevel(logging.WARNING)
    log.propagate = False
    log.handlers = [_Lines()]


def keep_programs() -> None:
    """Keeps compiled programs between commands and processes, so that the second start is quick."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = {
        "jax_compilation_cache_dir": os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(home / "reenax" / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    import jax

    for name, value in kept.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # for worker processes


def with_fake_devices(flags: str, count: int) -> str:
    """XLA_FLAGS with which jax finds so many devices on a CPU, in place of as many as it would have found."""
    kept = [flag for flag in flags.split() if flag.partition("=")[0] != FAKE_DEVICES]
    return " ".join([*kept, f"{FAKE_DEVICES}={count}"])


def positive(text: str) -> int:
    """A positive whole number, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value
