"""Processes that must not outlive the one that started them."""

import os
import threading
import time

LOOK_SECONDS = 0.5


def die_with_parent(parent: int | None = None) -> None:
    """Ends this process when its parent has gone: a parent that was killed sends no signal.

    Args:
        parent: the parent's number, where it may have gone before this is called.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
