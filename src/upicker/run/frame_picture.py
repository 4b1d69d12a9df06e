"""A picture of picks in the frame they are in, and in another one beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.particles import Micrograph, Particles
from upicker.run.frames import AS_IS, FLIPPED, FRAMES, Verdict
from upicker.statistics import evenly_spaced

# Side of the square that is shown, in particle diameters.
SIDE_DIAMETERS = 16


def draw(path: Path, micrograph: Micrograph, particles: Particles, diameter_px: float, verdict: Verdict) -> None:
    """Draw a part of a micrograph twice: with its picks as they are, and flipped (or in the frame that fits).

    Parameters
    ----------
    path : Path
        The PNG to write.
    micrograph : Micrograph
        The micrograph.
    particles : Particles
        Raw pixels, in the frame to be checked.
    diameter_px : float
        Of the circles, raw pixels.
    verdict : Verdict
        For the titles and the second frame.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from upicker.draw.sheet import Panel, sheet  # matplotlib takes half a second

    other = verdict.fits if verdict.fits not in (None, AS_IS) else FLIPPED
    assert other is not None
    shown = [
        (frame, replace(particles, xy=frame.to_stored(particles.xy, micrograph.shape))) for frame in (AS_IS, other)
    ]
    side = round(min(SIDE_DIAMETERS * diameter_px, *micrograph.shape))
    x, y = _fullest(shown[0][1].xy, micrograph.shape, side)
    part = replace(micrograph, pixels=micrograph.pixels[y : y + side, x : x + side])
    panels = []
    for frame, stored in shown:
        local = replace(stored, xy=stored.xy - [x, y], diameter_px=np.full(len(stored), diameter_px))
        title = f"{micrograph.name[:40]}: {frame.name}"
        if verdict.responses:
            response = verdict.responses[FRAMES.index(frame)]
            title += f", {response.mean:.2f} ± {response.error:.2f}"
        panels.append(Panel(part, diameter_px, title, local.select(local.inside(part.shape))))
    sheet(panels, path)


def _fullest(xy: np.ndarray, shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the first column and row of the square with the most positions, of squares half a side apart."""
    steps = [evenly_spaced(n - side + 1, max(1, 2 * n // side)) for n in shape]
    counts = {
        (int(x), int(y)): int(((xy >= [x, y]) & (xy < [x + side, y + side])).all(1).sum())
        for y in steps[0]
        for x in steps[1]
    }
    return max(counts, key=lambda corner: counts[corner])
