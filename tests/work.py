"""How much work something does, as a number that is the same on every machine."""

import sys
from collections.abc import Callable
from types import FrameType


def calls(function: Callable[[], object], most: int | None = None) -> int:
    """Return how many functions, of Python and of C, are called while `function` runs.

    Parameters
    ----------
    function : callable
        What does the work, in this thread.
    most : int, optional
        More calls than these raise `AssertionError` at once, so that a test of endless work ends.
    """
    count = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")
        if most is not None and count > most:
            sys.setprofile(None)
            raise AssertionError(f"more than {most} calls")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count
