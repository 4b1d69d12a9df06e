"""What tests of the command line share: small drawn micrographs, and a way to call."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S, until

from upicker.cli.app import run
from upicker.io import mrc

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (230, 310)
DIAMETER = 24.0
CENTRES = np.array([[50.0, 40.0], [150.0, 60.0], [260.0, 50.0], [90.0, 170.0], [240.0, 180.0]])
# A network of toy size, and a few steps.
TOY = {
    "image.mask": "false",
    "propose.mask": "false",
    "image.working_diameter_px": 32,
    "train.tile_px": 96,
    "train.batch": 1,
    "train.learning_rate": 0.01,
    "train.pretrain_steps": 4,
    "train.finetune_steps": 4,
    "train.validate_every": 2,
    "pick.views": 1,
    "train.threads": 1,
    "model.widths": "8,8,8,8,8",
    "model.dim": 32,
    "model.heads": 2,
    "model.feedforward": 16,
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "model.query_density": 1,
}


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


def _heeding_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(arguments: Sequence[str], number: int, ready: Callable[[], bool]) -> tuple[int, str]:
    """Run a command line in a process, send it a signal as soon as it is `ready`; return exit code and errors."""
    command = [sys.executable, "-m", "upicker", *arguments]
    options: dict = {"env": environment(), "stderr": subprocess.PIPE, "text": True}
    # Tests that run in the background of a shell inherit that Ctrl-C is ignored; the command must not.
    with subprocess.Popen(command, preexec_fn=_heeding_ctrl_c, **options) as process:
        until(lambda: ready() or process.poll() is not None, "the command's first results")
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, err
