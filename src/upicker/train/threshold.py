"""The threshold that is stored with the weights: chosen on all labels, once the best weights are known.

Of few micrographs only few labels can be held back, and a threshold chosen on those alone is often a poor one. Training
micrographs are as good for this: in a training of minutes the network picks them hardly better than what was held back
(docs/experiments.md). Precision, recall and F1 are reported for the held-back labels only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from upicker.config import Config
from upicker.model import weights
from upicker.pick.torch_network import TorchNetwork
from upicker.scoring import score, steady
from upicker.train.validation import ValidationMicrograph


def choose_again(
    path: Path,
    validation: Sequence[ValidationMicrograph],
    training: Sequence[ValidationMicrograph],
    config: Config,
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Choose the threshold of a weights file again, and store it.

    Parameters
    ----------
    path : Path
        The weights file; it is replaced.
    validation : sequence of ValidationMicrograph
        What was validated on; labels complete.
    training : sequence of ValidationMicrograph
        Training micrographs, or some of them.
    config : Config
        How to pick.
    check : callable
        Called before the file is written; raises if it must not be.

    Returns
    -------
    dict
        ``threshold``, and its ``precision``, ``recall`` and ``f1`` on `validation`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    model, header, _ = weights.load(path)
    network = TorchNetwork(model, config)
    pairs = [one.pick(network, config) for one in [*validation, *training]]
    threshold = min(steady(pairs)[0], 1.0)
    result = score(pairs[: len(validation)], threshold=threshold)
    row = {"threshold": threshold, "precision": result.precision, "recall": result.recall, "f1": result.f1}
    check()
    weights.save(path, model, replace(header, **row))
    return row
