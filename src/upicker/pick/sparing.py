"""A network that is given fewer tiles together where memory is short."""

from __future__ import annotations

import sys

import numpy as np

from upicker.pick.network import Network


class Sparing:
    """A `upicker.pick.network.Network` that halves the number of tiles when there is not enough memory for them.

    Parameters
    ----------
    network : callable
        Raises MemoryError.
    """

    def __init__(self, network: Network) -> None:
        self._network, self._most = network, sys.maxsize

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute tiles, as many together as fit; raises MemoryError if a single one does not."""
        while True:
            most = min(self._most, len(tiles))
            try:
                parts = [self._network(tiles[start : start + most]) for start in range(0, len(tiles), most)]
            except MemoryError:
                if most <= 1:
                    raise
                self._most = most // 2
            else:
                return _joined(parts)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Join scores and boxes; where a part has fewer detections, the further ones have a score of 0."""
    number = max(scores.shape[1] for scores, _ in parts)
    scores, boxes = (
        [np.pad(x, [(0, 0), (0, number - x.shape[1])] + [(0, 0)] * (x.ndim - 2)) for x in of_parts]
        for of_parts in zip(*parts, strict=True)
    )
    return np.concatenate(scores), np.concatenate(boxes)
