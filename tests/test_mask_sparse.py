"""A nearly empty picture keeps its particles: they are far darker than the usual blob, which is noise."""

import numpy as np
import pytest

from upicker.config import Config
from upicker.image.mask import is_usable, masked
from upicker.image.prepare import prepare
from upicker.particles import Micrograph


def scattered(count: int, shape: tuple[int, int], apart: float) -> np.ndarray:
    rng = np.random.default_rng(count)
    xy: list[np.ndarray] = []
    while len(xy) < count:
        place = rng.uniform((40, 40), (shape[1] - 40, shape[0] - 40))
        if all(np.hypot(*(place - other)) > apart for other in xy):
            xy.append(place)
    return np.array(xy)


@pytest.mark.parametrize("contrast", [0.7, 3.0])
@pytest.mark.parametrize("count", [1, 3, 8, 12, 20])
def test_few_particles_are_no_contamination(count, contrast):
    shape, image = (700, 810), Config().image
    pixels = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    xy = scattered(count, shape, 60.0)
    for cx, cy in xy:
        pixels -= contrast * ((x - cx) ** 2 + (y - cy) ** 2 < 18**2)
    prepared = masked(prepare(Micrograph(pixels, "sparse"), 36.0, image), image)
    assert is_usable(prepared, xy).all()
