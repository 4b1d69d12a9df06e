"""Waiting for events: the only place in the tests that reads a clock.

How long something takes is no property of the code alone, so no test asserts it; `calls` in tests/work.py counts work.
"""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 300.0  # what a machine busy with other things may take

T = TypeVar("T")


def until(
    check: Callable[[], T], what: str | Callable[[], str] = "the event", pause: Callable[[], object] | None = None
) -> T:
    """Call `check` until it returns something true; return that.

    Parameters
    ----------
    check : callable
        Called again and again.
    what : str or callable
        What is waited for, or what gives it, for the error after `PATIENCE_S` seconds.
    pause : callable, optional
        What is done in between; by default the thread sleeps for 20 ms.
    """
    end = time.monotonic() + PATIENCE_S
    while not (found := check()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for: {what if isinstance(what, str) else what()}")
        pause() if pause else time.sleep(0.02)
    return found
