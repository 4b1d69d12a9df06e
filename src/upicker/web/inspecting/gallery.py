"""Galleries of picks: particles as small boxes, many in one image, chosen by score.

The choice depends on the scores only, not on rejections, so that no box moves while the user rejects some. An image
holds only as many boxes as are requested: the borderline picks of 1,000 micrographs are in 1,000 files.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from upicker.errors import UPickerError
from upicker.particles import Particles
from upicker.units import Length
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.inspecting.scores import PickScores
from upicker.web.project import NotFound, Project
from upicker.web.responses import Refused
from upicker.web.tiles.images import MicrographImages

KINDS = ("highest", "lowest", "borderline", "random", "false")
COLUMNS, CELL_PX = 25, 64
# A box shows the particle and some of its surroundings; more is read than is shown, to filter without edge effects.
_BOX_DIAMETERS = 1.6
_READ_PX = 96
# Grey values span this many standard deviations to either side.
_SIGMAS = 3.0
_EMPTY = 40
# The transfer function of a Gaussian of this standard deviation, in cut-off lengths, is one half at the cut-off.
_HALF = math.sqrt(2 * math.log(2)) / (2 * math.pi)


def select(scores: PickScores, kind: str, threshold: float, count: int) -> np.ndarray:
    """Choose picks for a gallery.

    Parameters
    ----------
    scores : PickScores
        The scores of all picks.
    kind : str
        ``"highest"``, ``"lowest"``: of those that reach the threshold; ``"borderline"``: half of them just above the
        threshold and half just below, more on one side if there are too few on the other; ``"random"``: a fixed random
        choice above it; ``"false"``: the highest false positives, in micrographs with labels.
    threshold : float
        See above.
    count : int
        At most this many.

    Returns
    -------
    np.ndarray
        `(k,)` int64, indices in the arrays of `scores`: by decreasing score, ``lowest`` by increasing.

    Raises
    ------
    Refused
        400 for another kind.
    """
    if kind not in KINDS:
        raise Refused(400, "kind", f"unknown kind '{kind[:40]}'", f"Use one of: {', '.join(KINDS)}")
    score = scores.score
    above = score >= threshold
    if kind == "borderline":
        kept, others = np.flatnonzero(above), np.flatnonzero(~above)
        half = max(count - count // 2, count - len(others))
        high = _top(-score, kept, half)[::-1]
        return np.concatenate([high, _top(score, others, count - len(high))])
    if kind == "false":
        above &= ~scores.hit & np.repeat(scores.labels >= 0, np.diff(scores.starts))
    among = np.flatnonzero(above)
    if kind == "random":
        chosen = np.random.default_rng(0).choice(among, min(count, len(among)), replace=False)
        return _top(score, np.sort(chosen), count)
    return _top(-score if kind == "lowest" else score, among, count)


def _top(value: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` of highest value, in decreasing order; equal ones in the given order."""
    values = value[among]
    if count < len(among):
        # Keep all that equal the last one, so that the choice among these does not depend on the algorithm.
        kept = values >= np.partition(values, len(values) - count)[len(values) - count] if count else values < -np.inf
        among, values = among[kept], values[kept]
    return among[np.argsort(-values, kind="stable")][:count]


class Gallery:
    """Chooses picks and draws their boxes.

    Parameters
    ----------
    store : PickStore
        The picks.
    images : MicrographImages
        Cuts the boxes.
    """

    def __init__(self, store: PickStore, images: MicrographImages) -> None:
        self._store, self._images = store, images

    def cells(self, kind: str, threshold: float, count: int) -> list[dict[str, object]]:
        """Return the chosen picks for the page; arguments and errors as those of `select`."""
        scores = self._store.found.scores
        at = select(scores, kind, threshold, count)
        numbers, indices = scores.micrograph(at).tolist(), scores.index[at].tolist()
        columns = zip(numbers, indices, scores.score[at].tolist(), (~scores.accepted[at]).tolist())
        return [
            {"micrograph": number, "index": index, "score": score, "rejected": rejected}
            for number, index, score, rejected in columns
        ]

    def image(self, which: np.ndarray, lowpass: Length | None) -> np.ndarray:
        """Draw the boxes of some picks, `COLUMNS` in a row.

        Parameters
        ----------
        which : np.ndarray
            `(n, 2)` int: micrograph, and index in its file.
        lowpass : Length or None
            Low-pass the boxes with this cut-off.

        Returns
        -------
        np.ndarray
            `(rows * 64, 25 * 64)` uint8. The cells of micrographs that cannot be read are empty.

        Raises
        ------
        NotFound
            If there is no such pick.
        """
        cells = np.full((len(which), CELL_PX, CELL_PX), _EMPTY, np.uint8)
        for number in np.unique(which[:, 0]).tolist():
            here = np.flatnonzero(which[:, 0] == number)
            cells[here] = self._cells_of(number, which[here, 1], lowpass)
        return _tiled(cells)

    def _cells_of(self, number: int, indices: np.ndarray, lowpass: Length | None) -> np.ndarray:
        project = self._store.project
        one = self._store.one(number)
        if indices.max() >= len(one.particles):
            raise NotFound(f"a pick of micrograph {number}", "there is no such pick", "Reload the page")
        try:
            side = _BOX_DIAMETERS * _diameter_px(one.particles, project, number) * _READ_PX / CELL_PX
            boxes = self._images.boxes(number, one.particles.xy[indices], side, _READ_PX)
            if lowpass is not None:
                sigma = _HALF * lowpass.to_px(project.pixel_size_A(number), "lowpass") * _READ_PX / side
                boxes = gaussian_filter(boxes, (0, sigma, sigma), mode="nearest")
        except UPickerError:
            return np.full((len(indices), CELL_PX, CELL_PX), _EMPTY, np.uint8)
        edge = (_READ_PX - CELL_PX) // 2
        return _stretched(boxes[:, edge : edge + CELL_PX, edge : edge + CELL_PX])


def _diameter_px(particles: Particles, project: Project, number: int) -> float:
    """Return the diameter that sets the size of boxes: the project's, else that of the picks, else a guess."""
    diameter = project.diameter_px(number)
    if diameter is None:
        diameter = particles.median_diameter_px
    return max(project.size(number)[0]) / 25 if diameter is None else diameter


def _stretched(boxes: np.ndarray) -> np.ndarray:
    """Map boxes to grey levels: the mean of each box to the middle, with the same contrast for all."""
    if not len(boxes):
        return boxes.astype(np.uint8)
    spread = float(np.median(boxes.std((1, 2)))) or 1.0
    values = (boxes - boxes.mean((1, 2), keepdims=True)) / (2 * _SIGMAS * spread) + 0.5
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def _tiled(cells: np.ndarray) -> np.ndarray:
    """Arrange `(n, s, s)` cells in rows of `COLUMNS`."""
    rows = max(1, math.ceil(len(cells) / COLUMNS))
    grid = np.full((rows * COLUMNS, CELL_PX, CELL_PX), _EMPTY, np.uint8)
    grid[: len(cells)] = cells
    tiled = grid.reshape(rows, COLUMNS, CELL_PX, CELL_PX).transpose(0, 2, 1, 3)
    return tiled.reshape(rows * CELL_PX, COLUMNS * CELL_PX)
