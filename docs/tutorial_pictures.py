"""Make the pictures of docs/tutorial.md: python docs/tutorial_pictures.py FOLDER, in which its commands were run.

They show small parts of the micrographs of EMPIAR-10017, which the page cites.
"""

import sys
from pathlib import Path

import cv2
import mrcfile
import numpy as np

DOCS = Path(__file__).parent
NAME = "Falcon_2012_06_12-16_59_12_0"
WINDOW = (slice(560, 1010), slice(420, 960))  # rows, columns of the drawings
GAP = 12
OPTIONS = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 82], ".png": [cv2.IMWRITE_PNG_COMPRESSION, 9]}


def read(path: Path) -> np.ndarray:
    """Return a picture, `(h, w, 3)` uint8."""
    pixels = cv2.imread(str(path))
    assert pixels is not None, path
    return pixels


def write(name: str, pixels: np.ndarray) -> None:
    """Write a picture of the page."""
    assert cv2.imwrite(str(DOCS / name), pixels, OPTIONS[name[-4:]])


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return two pictures of one height side by side."""
    return np.hstack([left, np.full((len(left), GAP, 3), 255, np.uint8), right])


def particles(folder: Path, rows: int = 5, columns: int = 15) -> np.ndarray:
    """Return the first boxes of a stack, the best picks, as a mosaic, `(h, w)` uint8."""
    with mrcfile.open(folder / "Particles" / f"{NAME}.mrcs") as file:
        boxes = np.asarray(file.data[: rows * columns], np.float32)
    side = boxes.shape[1]
    smooth = np.stack([cv2.GaussianBlur(box, (0, 0), 1.2) for box in boxes])
    low, high = np.percentile(smooth, (0.5, 99.5))
    grey = (255 * np.clip((smooth - low) / (high - low), 0, 1)).astype(np.uint8)
    return grey.reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(rows * side, columns * side)


def main(folder: Path) -> None:
    """Write all pictures."""
    drawing = f"{NAME}_overlay.png"
    write("tutorial-pick.jpg", read(folder / "picks" / drawing)[WINDOW])
    frame = read(folder / "frame.png")
    write(
        "tutorial-frame.jpg",
        cv2.resize(frame[: frame.shape[0] // 2], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA),
    )
    write("tutorial-training.png", read(folder / "model.png"))
    write("tutorial-judged.jpg", beside(*(read(folder / one / drawing)[WINDOW] for one in ("judged", "judged2"))))
    write("tutorial-particles.jpg", particles(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
