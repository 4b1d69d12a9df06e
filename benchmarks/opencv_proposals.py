"""EdgeBoxes and selective search of OpenCV's contributed modules, for `table4.py`, which runs this file.

    python -m venv runs/contrib
    runs/contrib/bin/pip install opencv-contrib-python-headless

makes the environment: it needs only numpy and that package, which must not lie beside `opencv-python-headless`, because
both install a module `cv2`. Called as ``opencv_proposals.py METHOD IMAGE.npy DIAMETER OUT.npy``: the image is
`(h, w)` float32 with particles bright and noise of about 1, the diameter is in its pixels, the output `(n, 5)` float32:
x and y of the first corner, width, height, score; best first.

The edges that EdgeBoxes asks for are the Sobel gradient's of the image smoothed by a twelfth of a diameter, thinned
to ridges: OpenCV's structured edges need a trained model, and none was trained on micrographs.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

# Of the image's grey levels, N robust standard deviations below and above the middle fill 0..255.
RANGE_SIGMA = 4.0
MOST_BOXES = 5000


def main() -> None:
    """Read a image, propose, write."""
    method, source, diameter, target = sys.argv[1:5]
    image = np.load(source)
    cv2.setNumThreads(1)
    cv2.setRNGSeed(0)
    found = {"edgebox": edge_boxes, "selective": selective_search}[method](image, float(diameter))
    np.save(target, found.astype(np.float32))


def edge_boxes(image: np.ndarray, diameter: float) -> np.ndarray:
    """Return OpenCV's EdgeBoxes, with its defaults but for the smallest area, which is a quarter of a particle's."""
    edges, normal = edge_map(image, diameter / 12)
    boxes = cv2.ximgproc.createEdgeBoxes(maxBoxes=MOST_BOXES, minBoxArea=(diameter / 2) ** 2)
    rectangles, scores = boxes.getBoundingBoxes(edges, normal)
    if not len(rectangles):
        return np.empty((0, 5), np.float32)
    return np.concatenate([np.asarray(rectangles, np.float32), np.asarray(scores, np.float32).reshape(-1, 1)], 1)


def edge_map(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the strength of edges, 0..1, thinned, and the direction across them, 0..pi; `(h, w)` float32."""
    smooth = cv2.GaussianBlur(image, (0, 0), max(sigma, 0.8))
    dx, dy = (cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    strength, normal = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi
    # A ridge is at least as strong as its neighbours across it, in the nearest of four directions.
    sector = np.rint(normal / (np.pi / 4)).astype(int) % 4
    ridge = np.zeros(image.shape, bool)
    for number, (y, x) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead, behind = (np.roll(strength, shift, (0, 1)) for shift in ((-y, -x), (y, x)))
        ridge |= (sector == number) & (strength >= ahead) & (strength > behind)
    strength = np.where(ridge, strength, 0) / max(float(np.quantile(strength, 0.999)), 1e-9)
    return np.clip(strength, 0, 1).astype(np.float32), normal.astype(np.float32)


def selective_search(image: np.ndarray, _diameter: float) -> np.ndarray:
    """Return selective search's regions, "fast" preset as the paper takes; the score is 1 / rank."""
    grey = np.clip((image / RANGE_SIGMA + 1) * 127.5, 0, 255).astype(np.uint8)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    search.switchToSelectiveSearchFast()
    rectangles = np.asarray(search.process(), np.float32).reshape(-1, 4)
    return np.concatenate([rectangles, 1 / (1 + np.arange(len(rectangles), dtype=np.float32))[:, None]], 1)


if __name__ == "__main__":
    main()
