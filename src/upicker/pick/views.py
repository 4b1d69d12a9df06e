"""Rotated and mirrored views of a micrograph, and the mean of their detections (test-time augmentation).

A micrograph has no up or down, so a network should detect the same particles in each of its eight rotated and mirrored
versions. It does so only nearly: the differences are errors, and the mean of several views has less of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from upicker.particles import Particles

# (mirrored, rotations by 90 degrees), in the order in which they are used: the first few differ as much as possible.
VIEWS = ((False, 0), (True, 2), (False, 1), (True, 3), (False, 2), (True, 0), (False, 3), (True, 1))


def to_view(pixels: np.ndarray, view: int) -> np.ndarray:
    """Return a view of an array `(h, w)`: `(w, h)` if rotated by 90 or 270 degrees; view 0 is the array itself."""
    mirrored, quarters = VIEWS[view]
    rotated = np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters)
    return np.ascontiguousarray(rotated)


def from_view(particles: Particles, shape: tuple[int, int], view: int) -> Particles:
    """Return particles found in a view at their positions in the original array.

    Parameters
    ----------
    particles : Particles
        Pixels of the view.
    shape : tuple of int
        Rows and columns of the original array.
    view : int
        As in `to_view`.
    """
    mirrored, quarters = VIEWS[view]
    bottom, right = shape[0] - 1, shape[1] - 1
    x, y = particles.xy.T
    x, y = [(x, y), (right - y, x), (right - x, bottom - y), (y, bottom - x)][quarters]
    return replace(particles, xy=np.stack([right - x if mirrored else x, y], 1))


def fused(views: Sequence[Particles], radius: float) -> Particles:
    """Merge the detections of several views.

    Each detection, in order of falling score, is joined with the nearest one within `radius` of each other view that
    no stronger one has joined. Position and diameter are means weighted by the scores; the score is the mean over all
    views, 0 for a view without it.

    Parameters
    ----------
    views : sequence of Particles
        In the same pixels; without duplicates within a view.
    radius : float
        In these pixels.

    Returns
    -------
    Particles
        By falling score of the strongest view of each.
    """
    everything = Particles.concatenate(list(views))
    if len(views) == 1 or not len(everything):
        return everything
    view = np.repeat(np.arange(len(views)), [len(v) for v in views])
    near = KDTree(everything.xy).query_ball_point(everything.xy, radius)
    free = np.ones(len(everything), bool)
    groups = []
    for strongest in np.argsort(-everything.score, kind="stable"):
        if free[strongest]:
            close = np.array([i for i in near[strongest] if free[i]])
            free[close] = False
            distance = np.hypot(*(everything.xy[close] - everything.xy[strongest]).T)
            close = close[np.argsort(distance, kind="stable")]
            groups.append(close[np.unique(view[close], return_index=True)[1]])
    number = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    member = np.concatenate(groups)
    weight = everything.score[member]
    total = np.bincount(number, weight)
    columns = (everything.xy[member, 0], everything.xy[member, 1], everything.diameter_px[member])
    x, y, diameter = (np.bincount(number, weight * column) / total for column in columns)
    return Particles.of(np.stack([x, y], 1), diameter, total / len(views))
