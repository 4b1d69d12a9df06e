"""Several views of one picture, turned and mirrored, and what a detector says of all of them together.

A picture has no up or down, so a detector should say the same of each of its eight turned and mirrored versions. It
does so only nearly: the differences are errors, and the mean of several views has less of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from upicker.particles import Particles

# (mirrored, quarter turns), in the order in which they are taken: the first few differ as much as can be.
VIEWS = ((False, 0), (True, 2), (False, 1), (True, 3), (False, 2), (True, 0), (False, 3), (True, 1))


def seen(pixels: np.ndarray, view: int) -> np.ndarray:
    """Return a view of a picture: `(h, w)`, or `(w, h)` where it is turned by a quarter; view 0 is the picture."""
    mirrored, quarters = VIEWS[view]
    turned = np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters)
    return np.ascontiguousarray(turned)


def back(particles: Particles, shape: tuple[int, int], view: int) -> Particles:
    """Return particles found in a view where they are in the picture.

    Parameters
    ----------
    particles : Particles
        Pixels of the view.
    shape : tuple of int
        Rows and columns of the picture.
    view : int
        As in `seen`.
    """
    mirrored, quarters = VIEWS[view]
    bottom, right = shape[0] - 1, shape[1] - 1
    x, y = particles.xy.T
    x, y = [(x, y), (right - y, x), (right - x, bottom - y), (y, bottom - x)][quarters]
    return replace(particles, xy=np.stack([right - x if mirrored else x, y], 1))


def fused(views: Sequence[Particles], reach: float) -> Particles:
    """Join what was found in several views.

    Each particle takes, of every other view, the nearest one within `reach` of it that no stronger one has taken.
    Position and diameter are means weighted by the scores; the score is the mean over all views, 0 where a view does
    not see it.

    Parameters
    ----------
    views : sequence of Particles
        In the same pixels; within a view no doubles.
    reach : float
        In these pixels.

    Returns
    -------
    Particles
        By falling score of their strongest view.
    """
    everything = Particles.concatenate(list(views))
    if len(views) == 1 or not len(everything):
        return everything
    view = np.repeat(np.arange(len(views)), [len(v) for v in views])
    near = KDTree(everything.xy).query_ball_point(everything.xy, reach)
    free = np.ones(len(everything), bool)
    groups = []
    for strongest in np.argsort(-everything.score, kind="stable"):
        if free[strongest]:
            there = np.array([i for i in near[strongest] if free[i]])
            free[there] = False
            distance = np.hypot(*(everything.xy[there] - everything.xy[strongest]).T)
            there = there[np.argsort(distance, kind="stable")]
            groups.append(there[np.unique(view[there], return_index=True)[1]])
    number = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    member = np.concatenate(groups)
    weight = everything.score[member]
    total = np.bincount(number, weight)
    columns = (everything.xy[member, 0], everything.xy[member, 1], everything.diameter_px[member])
    x, y, diameter = (np.bincount(number, weight * column) / total for column in columns)
    return Particles.of(np.stack([x, y], 1), diameter, total / len(views))
