"""The threshold that is stored with the weights: chosen on all labels, once the best weights are known.

Few labels can be held back of few micrographs, and a threshold that rests on them alone is often a poor one. What was
learned from tells it as well: in a training of minutes the network picks it hardly better than what was held back
(docs/experiments.md). How good the picks are is said of what was held back alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upicker.config import Config
from upicker.model import weights
from upicker.pick.torch_network import TorchNetwork
from upicker.scoring import score, steady
from upicker.train.loop import Check


def rechosen(path: Path, checks: Sequence[Check], learned: Sequence[Check], config: Config) -> dict[str, float]:
    """Choose the threshold of a weights file anew, and store it.

    Parameters
    ----------
    path : Path
        The weights file; it is written anew.
    checks : sequence of Check
        What was validated on; labels complete.
    learned : sequence of Check
        What was learned from, or some of it.
    config : Config
        How to pick.

    Returns
    -------
    dict
        ``threshold``, and ``precision``, ``recall`` and ``f1`` that it gives on `checks`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    model, header, _ = weights.load(path)
    network = TorchNetwork(model, config)
    pairs = [check.picked(network, config) for check in [*checks, *learned]]
    threshold = min(steady(pairs)[0], 1.0)
    held = score(pairs[: len(checks)], threshold=threshold)
    row = {"threshold": threshold, "precision": held.precision, "recall": held.recall, "f1": held.f1}
    weights.save(path, model, replace(header, **row))
    return row
