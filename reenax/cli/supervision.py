"""A process of several is watched by a parent, which turns what jax does when another one is lost into one line.

jax ends the survivors of a lost process by an abort, with forty lines from C++ in front of it, or leaves them waiting
in a collective operation until then; no handler in the process itself comes in time. Imports nothing heavy.
"""

import os
import re
import signal
import subprocess
import sys
from types import FrameType
from typing import IO

from reenax.train.processes import EXIT_LOST, EXIT_PREEMPTED, LOST, Place

WATCHED = "REENAX_WATCHED"  # set in the child

FROM_BELOW = re.compile(r"[EFIW]\d{4} \d\d:\d\d:\d\d|\*\*\* Check failure|\s+@\s+0x|\[Gloo\]")
"""How a line begins that C++ wrote."""

GOES_ON = re.compile(r"Additional GRPC|:UNKNOWN|The tasks have crashed|RPC: /|\d+$|$")
"""How the second line of such a message begins."""

KEPT_LINES = 400


def watcher() -> int | None:
    """The number of the process that watches this one; None when it is not the child of `watch`."""
    number = os.environ.get(WATCHED)
    return None if number is None else int(number)


def watch(place: Place) -> int:
    """Runs the command of this process in a child and returns its exit code: 76 when another process was lost.

    SIGTERM and SIGINT are passed on. What C++ writes is held back, and shown only when the child crashed by itself.
    """
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, WATCHED: str(os.getpid())},
        stdout=subprocess.PIPE,  # C++ writes there too, and a training prints nothing
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a Ctrl-C reaches the child once, through us
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    assert child.stdout is not None
    held = _relay(child.stdout)
    code = child.wait()
    if code in (0, 2, EXIT_PREEMPTED, EXIT_LOST):
        return code
    if code == -signal.SIGABRT and place.processes > 1 and LOST.search(held):
        print(lost_line(place, "it has gone or was silent for too long"), file=sys.stderr)
        return EXIT_LOST
    sys.stderr.write(held)
    if code >= 0:
        return code
    print(f"reenax: process {place.index} was ended by {signal.Signals(-code).name}", file=sys.stderr)
    return 128 - code


def _relay(stream: IO[str]) -> str:
    """Passes lines on as they come, but for those from C++; returns these."""
    held: list[str] = []
    below = fatal = False
    for line in stream:
        ours = line.startswith("reenax: ")  # Python may speak while C++ does
        goes_on = below and GOES_ON.match(line) is not None
        below = not ours and (fatal or goes_on or FROM_BELOW.match(line) is not None)
        fatal = fatal or (below and line.startswith("F"))  # the stack of calls comes after it
        if below:
            held = [*held[-KEPT_LINES:], line]
        else:
            sys.stderr.write(line)
            sys.stderr.flush()
    return "".join(held)


def lost_line(place: Place, why: str) -> str:
    """What the survivor of a lost process says."""
    return (
        f"reenax: process {place.index} of {place.processes} stops: another process was lost ({why}); all checkpoints "
        f"are whole, start all processes again with --resume RUN"
    )
