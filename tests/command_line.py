"""What tests of the command line share: small drawn micrographs, and a way to call."""

import os
from pathlib import Path

import numpy as np
import pytest

from upicker.cli.app import run
from upicker.io import mrc

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (230, 310)
DIAMETER = 24.0
CENTRES = np.array([[50.0, 40.0], [150.0, 60.0], [260.0, 50.0], [90.0, 170.0], [240.0, 180.0]])


def micrograph(path: Path, seed: int = 0, pixel_size_A: float | None = 2.0) -> Path:
    """Write five dark discs on noise, nowhere symmetric."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = rng.normal(100, 4, SHAPE)
    for cx, cy in CENTRES:
        pixels -= 20 * (np.hypot(x - cx, y - cy) < DIAMETER / 2)
    mrc.write(path, pixels, pixel_size_A)
    return path


def upicker(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command line in this process; return its exit code and what it printed on both streams."""
    code = run([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def environment() -> dict[str, str]:
    """Return the environment of a process that finds the package in the checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT / "src")}
