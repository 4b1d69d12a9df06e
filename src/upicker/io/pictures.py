"""Writing single pictures as TIFF and PNG; what reads them is `upicker.io.micrographs`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import tifffile

from upicker.io.atomic import replacing

_CM_A = 1e8


def write_tiff(path: Path, pixels: np.ndarray, pixel_size_A: float) -> None:
    """Write `(H, W)` pixels as an uncompressed TIFF of 32-bit floats, whole or not at all.

    The pixel size goes to the resolution tags, in pixels per centimetre.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    per_cm = _CM_A / pixel_size_A
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.ascontiguousarray(pixels, np.float32),
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            metadata=None,
            software="UPicker",
        )


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write an `(H, W)` bool mask as a PNG, whole or not at all: 255 where it is True, else 0.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1]
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())
