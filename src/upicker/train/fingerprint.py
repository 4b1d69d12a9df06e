"""The identity of a training: all that it depends on, as plain values.

A checkpoint carries it, so that `--resume` continues the same training only. The weights file of a complete training
carries its hash, the fingerprint: with --resume, as in a job that is queued again, the training is not repeated.

Inputs are hashed as they are read. What is made of them (prepared pixels, proposals, the template) may differ in the
last bit on another processor, where a queued job must be able to continue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from upicker.errors import WeightsError
from upicker.model import weights
from upicker.model.weights import Header
from upicker.particles import Micrograph, Particles

# Of a micrograph's pixels, every 16th row and column is hashed: another gain reference changes all pixels, and reading
# all of thousands of micrographs would take minutes.
STRIDE = 16


class Inputs:
    """Hashes of what a training reads, by kind; in the order in which it is read."""

    def __init__(self) -> None:
        self._digests = {name: hashlib.sha256() for name in ("initial weights", "micrographs", "labels", "validation")}

    def add_weights(self, state: Mapping[str, Tensor]) -> None:
        """Add weights that were given."""
        for name, tensor in state.items():
            self._add("initial weights", name, tensor.detach().cpu().numpy())

    def add_micrograph(self, micrograph: Micrograph, diameter_px: float) -> None:
        """Add a micrograph, with its mask; its pixel size counts as far as it changes the diameter in pixels."""
        about = micrograph.shape, float(diameter_px)
        self._add("micrographs", about, np.asarray(micrograph.pixels[::STRIDE, ::STRIDE]))
        if micrograph.unusable is not None:
            self._add("micrographs", micrograph.unusable.shape, np.packbits(micrograph.unusable))

    def add_labels(self, particles: Particles, coverage: object, held: bool) -> None:
        """Add the labels of a micrograph and what they cover, to train or to validate on."""
        self._add("validation" if held else "labels", coverage, particles.xy)

    def add_rejected(self, particles: Particles) -> None:
        """Add the particles of a micrograph that were not kept."""
        self._digests.setdefault("rejected", hashlib.sha256())
        self._add("rejected", None, particles.xy)

    def to_dict(self) -> dict[str, str]:
        """Return the hashes by kind."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _add(self, kind: str, about: object, values: np.ndarray) -> None:
        content = repr(about).encode()
        for part in (content, np.ascontiguousarray(values).tobytes()):
            self._digests[kind].update(len(part).to_bytes(8, "little") + part)


def fingerprint_of(identity: Mapping[str, object]) -> str:
    """Return the fingerprint of a training from its identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def completed(path: Path, fingerprint: str) -> Header | None:
    """Return the header of a weights file if the training with this fingerprint has completed it."""
    try:
        header = weights.read_header(path)
    except WeightsError:  # missing, or unusable and about to be replaced
        return None
    return header if header.fingerprint == fingerprint else None


def mark_complete(path: Path, fingerprint: str) -> None:
    """Write the fingerprint into a weights file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    model, header, _ = weights.load(path)
    weights.save(path, model, replace(header, fingerprint=fingerprint))
