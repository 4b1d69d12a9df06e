"""Augmentation: `geometric`, `composing` (mosaics, pasted particles, contaminants) and `photometric` parts.

All are NumPy and OpenCV on one image at the working scale, background about 0 and robust sigma about 1; pixels that are
exactly 0 over an area are blank (masked, or beyond the micrograph). `online` applies the parts to a tile, with the
strengths of the room ``augment``.
"""
