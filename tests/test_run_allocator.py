"""Freed memory is kept by processes that compute."""

import ctypes
import subprocess
import sys

import pytest

from upicker.run import allocator

FAULTS = """
import resource, sys
import numpy as np
from upicker.run.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def again():
    some = [np.ones(1_500_000) for _ in range(4)]
again()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    again()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_pages_are_not_fetched_again():
    def faults(word: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") < 0.1 * faults("given back")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
