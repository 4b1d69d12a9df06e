"""A process that ends with the one that started it, also when that is killed and can tell nobody."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

# How often the parent's number is looked at; the pipe that it holds usually tells at once.
_LOOK_S = 1.0


def end_with_parent() -> None:
    """End this process, started by `multiprocessing`, as soon as its parent has ended, whatever it is doing then.

    A thread waits for the end of a pipe that only the parent holds. ``PR_SET_PDEATHSIG`` would follow the thread that
    started this process, not the parent itself.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was not started by multiprocessing"

    def watch() -> None:
        # A process that the parent forked may hold the pipe as well: then its number tells.
        while not wait([parent.sentinel], _LOOK_S) and os.getppid() == parent.pid:
            pass
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    threading.Thread(target=watch, name="waits for the end of the parent", daemon=True).start()
