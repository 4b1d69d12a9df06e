"""A self-test of seconds: simulate a small micrograph, pick it with the general model, score, write, read again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from upicker.run.doctor import BROKEN, OK, Finding

SHAPE = (512, 576)
DIAMETER_A = 150.0
# On any machine tried, F1 is above .99.
LEAST_F1 = 0.9


def tested() -> Iterator[Finding]:
    """Run the self-test, and yield its result.

    Raises
    ------
    UPickerError
        If a file cannot be written or read, or the general model cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="upicker-doctor-") as folder:
        yield _test(Path(folder))


def _test(folder: Path) -> Finding:
    import numpy as np

    from upicker.io import micrographs, mrc
    from upicker.pick.picker import Picker
    from upicker.run.outputs import Outputs
    from upicker.scoring import evaluate
    from upicker.simulate.microscope.detector import Detector
    from upicker.simulate.scene import Scene, make

    began = time.monotonic()
    simulated = make(Scene(diameter_A=DIAMETER_A, shape=SHAPE, detector=Detector(binning=3.0)), 0)
    path = folder / "simulated.mrc"
    mrc.write(path, simulated.micrograph.pixels, simulated.micrograph.pixel_size_A)
    micrograph, picker = micrographs.read(path), Picker()
    assert micrograph.pixel_size_A, "it was just written"
    diameter_px = DIAMETER_A / micrograph.pixel_size_A
    picks = picker.pick(micrograph, diameter_px)
    outputs = Outputs(folder / "picks", ("csv", "star"))
    outputs.prepare()
    outputs.write(micrograph, picks, diameter_px)
    read = outputs.read(path)
    f1 = evaluate(simulated.particles, picks).f1
    found = (
        f"{len(picks)} picks of {len(simulated.particles)} simulated particles on {picker.device}, F1 {f1:.2f}, "
        f"in {time.monotonic() - began:.1f} s"
    )
    if not f1 >= LEAST_F1:
        remedy = f"F1 should be at least {LEAST_F1:g}: PyTorch computes wrongly here; install it again"
        return Finding("self-test", BROKEN, found, remedy)
    if len(read) != len(picks) or not np.allclose(read.xy, picks.xy, atol=0.01):
        remedy = "The disk may be full or broken; or report it as a bug"
        return Finding("self-test", BROKEN, "coordinates are not read as they were written", remedy)
    return Finding("self-test", OK, found)
