"""The fingerprint of a complete training: with --resume, as in a job that is queued again, it is not repeated.

The weights file of a complete training carries a hash of all that it depends on. Until then there is a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from upicker.errors import WeightsError
from upicker.model import weights
from upicker.model.weights import Header
from upicker.train.sample import Sample
from upicker.train.validation import ValidationMicrograph

# Of a micrograph's pixels, every 16th row and column is hashed.
STRIDE = 16


def fingerprint_of(
    identity: dict, model: nn.Module, samples: Sequence[Sample], validation: Sequence[ValidationMicrograph]
) -> str:
    """Return the fingerprint of a training: it changes with knobs, micrographs, particles and initial weights.

    Parameters
    ----------
    identity : dict
        Plain values that distinguish the training from others, as stored in its checkpoint.
    model : nn.Module
        The network before its first step.
    samples : sequence of Sample
        The training samples.
    validation : sequence of ValidationMicrograph
        What is validated on.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for sample in samples:
        digest.update(sample.xy.tobytes() + sample.side.tobytes())
        # Another gain reference or preparation changes all pixels; reading all of thousands of micrographs would take
        # minutes.
        digest.update(sample.pixels[::STRIDE, ::STRIDE].tobytes())
    for one in validation:
        digest.update(one.labels.xy.tobytes() + repr(one.region).encode())
    return digest.hexdigest()


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
