"""``python bound.py PARENT COMMAND...`` becomes the command, which the kernel kills as soon as the parent is gone.

A program of its own, since asking for that between fork and exec is not safe in a parent that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone before the kernel was asked
            sys.exit(1)
    os.execvp(command[0], command)
