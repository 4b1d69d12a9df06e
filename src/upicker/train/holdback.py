"""Which parts of labelled micrographs are held back from training, to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upicker.geometry import Region
from upicker.train.labels import LabelledMicrograph, spread

# Neither part of a divided micrograph is lower than this many diameters.
LOWEST = 3.0
# With at least so many micrographs, whole ones rather than larger bands are held back where a band of the fraction that
# was asked for is too low or contains no label.
WHOLE = 5

# The region to train on, and the one to validate on.
Parts = tuple[Region | None, Region | None]


def all_regions(micrographs: Sequence[LabelledMicrograph], margin: float, band: float) -> list[Parts]:
    """Return, for each labelled micrograph, the region to train on, and the one to validate on.

    Where a band of each micrograph is too low or contains no label, larger bands of some are held back, or whole
    micrographs, so that their labels are about the fraction asked for. If nothing can be held back without taking all
    labels, nothing is.

    Parameters
    ----------
    micrographs : sequence of LabelledMicrograph
        The micrographs, or their labelled regions.
    margin, band
        As in `regions`. Partial labels are too few to hold some of them back.
    """
    bands = [0.0 if one.partial else band for one in micrographs]
    complete = [i for i, one in enumerate(micrographs) if not one.partial and not one.held]
    found = _divided(micrographs, margin, bands)
    if not band or not complete or _works(micrographs, found):
        return found
    larger = _divided(micrographs, margin, _larger_bands(micrographs, complete, margin, band))
    whole = {complete[i] for i in spread(len(complete), band)} if len(complete) > 1 else set()
    held = [replace(one, held=one.held or i in whole) for i, one in enumerate(micrographs)]
    instead = [one for one in (_divided(held, margin, [0.0] * len(held)), larger) if _works(micrographs, one)]
    if len(complete) < WHOLE:
        instead.sort(key=lambda parts: abs(_share(micrographs, parts) - band))
    return instead[0] if instead else _divided(micrographs, margin, [0.0] * len(micrographs))


def regions(micrograph: LabelledMicrograph, margin: float, band: float) -> Parts:
    """Return the region of a labelled micrograph to train on, and the one to validate on.

    Parameters
    ----------
    micrograph : LabelledMicrograph
        The micrograph.
    margin : float
        Unlabelled margin along the edges, in diameters: neither trained nor validated on.
    band : float
        Fraction of the rows, the lowest ones, to validate on. Where either part would be lower than `LOWEST` diameters,
        nothing is held back.
    """
    inner = Region.inside(micrograph.prepared.frame.raw_shape, margin * micrograph.diameter_px)
    if micrograph.region is not None:
        own = micrograph.region
        inner = Region(max(inner.x0, own.x0), max(inner.y0, own.y0), min(inner.x1, own.x1), min(inner.y1, own.y1))
        if inner.x0 >= inner.x1 or inner.y0 >= inner.y1:
            return None, None
    if micrograph.held:
        return None, inner
    cut = inner.y1 - (inner.y1 - inner.y0) * band
    if band <= 0 or min(cut - inner.y0, inner.y1 - cut) < LOWEST * micrograph.diameter_px * (1 - 1e-9):
        return inner, None
    return replace(inner, y1=cut), replace(inner, y0=cut)


def _divided(micrographs: Sequence[LabelledMicrograph], margin: float, bands: Sequence[float]) -> list[Parts]:
    return [regions(one, margin, band) for one, band in zip(micrographs, bands, strict=True)]


def _share(micrographs: Sequence[LabelledMicrograph], parts: Sequence[Parts]) -> float:
    """Return the fraction of the labels that is validated on; 0 without labels."""
    sides = [0, 0]
    for one, part in zip(micrographs, parts, strict=True):
        for side, region in enumerate(part):
            if region is not None:
                sides[side] += int(region.contains(one.particles.xy).sum())
    return sides[1] / max(sum(sides), 1)


def _works(micrographs: Sequence[LabelledMicrograph], parts: Sequence[Parts]) -> bool:
    """Return whether there are labels to train on and labels to validate on."""
    return 0 < _share(micrographs, parts) < 1


def _larger_bands(
    micrographs: Sequence[LabelledMicrograph], complete: Sequence[int], margin: float, fraction: float
) -> list[float]:
    """Return the fraction of the rows of each micrograph to hold back; 0: nothing of it."""
    possible = {i: found for i in complete if (found := _larger_band(micrographs[i], margin, fraction))}
    bands = [0.0] * len(micrographs)
    if possible:
        share = float(np.mean([labels for _, labels in possible.values()]))
        for number in spread(len(possible), min(1.0, fraction / share)) if share > fraction else range(len(possible)):
            i = list(possible)[number]
            bands[i] = possible[i][0]
    return bands


def _larger_band(micrograph: LabelledMicrograph, margin: float, fraction: float) -> tuple[float, float] | None:
    """Return the fraction of the rows of a micrograph that has at least a fraction of its rows and of its labels.

    Returns
    -------
    tuple of float or None
        The fractions of rows and of labels; None if one of the parts would have no label, or be too low.
    """
    inner, _ = regions(micrograph, margin, 0.0)
    if inner is None:
        return None
    y = np.sort(micrograph.particles.select(inner.contains(micrograph.particles.xy)).xy[:, 1])[::-1]
    if len(y) < 2:
        return None
    height, lowest = inner.y1 - inner.y0, LOWEST * micrograph.diameter_px
    held = min(max(1, round(fraction * len(y))), len(y) - 1)
    cut = min(inner.y1 - max(fraction * height, lowest), float(y[held - 1] + y[held]) / 2)
    cut = max(cut, inner.y0 + lowest)
    labels = float((y >= cut).mean())
    if inner.y1 - cut < lowest * (1 - 1e-9) or not 0 < labels < 1:
        return None
    return (inner.y1 - cut) / height, labels
