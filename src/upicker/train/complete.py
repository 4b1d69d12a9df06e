"""Whether a training is complete already: repeated with --resume, as a job that is queued again, it is not done anew.

The weights file of a complete training carries a mark, of what it was trained with. Until then there is a checkpoint.
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
from upicker.train.loop import Check
from upicker.train.sample import Sample

# Of a picture, one row and one column in so many are looked at.
SPARSE = 16


def mark_of(meaning: dict, start: nn.Module, samples: Sequence[Sample], checks: Sequence[Check]) -> str:
    """Return the mark of a training: another one for other knobs, pictures, particles or weights to start from.

    Parameters
    ----------
    meaning : dict
        Plain values that tell the training from others, as a checkpoint keeps them.
    start : nn.Module
        The network before its first step.
    samples : sequence of Sample
        What is learned from.
    checks : sequence of Check
        What is validated on.
    """
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for tensor in start.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for sample in samples:
        digest.update(sample.xy.tobytes() + sample.side.tobytes())
        # Another gain or preparation changes all pixels; to read all of thousands of pictures would take minutes.
        digest.update(sample.pixels[::SPARSE, ::SPARSE].tobytes())
    for check in checks:
        digest.update(check.labels.xy.tobytes() + repr(check.region).encode())
    return digest.hexdigest()


def completed(path: Path, mark: str) -> Header | None:
    """Return what a weights file says of itself if the training of that mark has completed it."""
    try:
        header = weights.read_header(path)
    except WeightsError:  # there is none, or it will be written anew
        return None
    return header if header.fingerprint == mark else None


def complete(path: Path, mark: str) -> None:
    """Write the mark into a weights file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    model, header, _ = weights.load(path)
    weights.save(path, model, replace(header, fingerprint=mark))
