"""The thresholds and calibrations that are stored with the weights, chosen once the best weights are known.

Scores depend on the number of views, so that there is a threshold for each of some numbers, and one for the number that
is used unless the user gives another; where that is the same for all micrographs, both are one. Precision, recall and
F1 are those at the latter, for the held-back labels only.

Of few micrographs only few labels can be held back, and a threshold chosen on those alone is often a poor one. Training
micrographs are as good for this: in a training of minutes the network picks them hardly better than what was held back
(docs/experiments.md).

On the same picks, if their labels are complete, the curves are fitted that make probabilities of scores, and thresholds
are those of probabilities then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.calibration import Calibration, from_labels
from upicker.config import Config
from upicker.model import weights
from upicker.pick.detection import number_of_views
from upicker.pick.network import nearest
from upicker.pick.torch_network import TorchNetwork
from upicker.scoring import pooled, score
from upicker.train.partial import metrics_for
from upicker.train.validation import Pair, ValidationMicrograph, metrics_of

# Numbers of views that weights have a threshold for.
VIEWS = (1, 2, 4, 8)
# On so many micrographs, those with the most labels, the thresholds for other numbers of views than the usual one are
# chosen: eight views take twice the time of four.
FEW = 6


def choose_again(
    path: Path,
    validation: Sequence[ValidationMicrograph],
    training: Sequence[ValidationMicrograph],
    config: Config,
    check: Callable[[], None] = lambda: None,
    calibrate: bool = True,
) -> dict[str, float]:
    """Choose the thresholds of a weights file again, and store them.

    Parameters
    ----------
    path : Path
        The weights file; it is replaced.
    validation : sequence of ValidationMicrograph
        What was validated on.
    training : sequence of ValidationMicrograph
        Training micrographs, or some of them; none if labels are partial.
    config : Config
        How to pick.
    check : callable
        Called before the file is written; raises if it must not be.
    calibrate : bool
        Whether curves are fitted; only where labels are complete.

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
    micrographs = [*validation, *training]
    few = sorted(micrographs, key=lambda one: -len(one.labels))[:FEW]
    usual: list[Pair] = []
    usually = {number_of_views(one.prepared, config) for one in micrographs}
    found: dict[int, list[Pair]] = {number: [] for number in VIEWS}
    for one in micrographs:
        number = number_of_views(one.prepared, config)
        numbers = sorted({number, *(VIEWS if one in few else ())})
        pairs = dict(zip(numbers, one.pick_in_views(network, config, numbers), strict=True))
        usual.append(pairs[number])
        if one in few:
            for each in VIEWS:
                found[each].append(pairs[each])
    row = _metrics(micrographs, usual)
    if training:
        result = score(usual[: len(validation)], threshold=row["threshold"])
        row |= {"precision": result.precision, "recall": result.recall, "f1": result.f1}
    in_order = [one for one in micrographs if one in few]
    thresholds = {number: _metrics(in_order, pairs)["threshold"] for number, pairs in found.items()}
    complete = not any(one.partial for one in micrographs)
    curves = _curves(found) if calibrate and complete else {}
    if len(usually) == 1:  # On more micrographs, and perhaps another number.
        number = next(iter(usually))
        thresholds[number] = row["threshold"]
        again = curves and _curves({number: usual})
        curves |= again
    if curves:
        thresholds = {number: _probability(curves, number, value) for number, value in thresholds.items()}
        row["threshold"] = _probability(curves, max(usually), row["threshold"])
    check()
    weights.save(
        path,
        model,
        replace(
            header,
            **row,
            thresholds={str(number): value for number, value in thresholds.items()},
            calibrations={str(number): [curve.slope, curve.offset] for number, curve in curves.items()},
        ),
    )
    return row


def _curves(pairs: Mapping[int, Sequence[Pair]]) -> dict[int, Calibration]:
    """Return what makes probabilities of scores for each number of views; nothing where picks do not determine it."""
    found = {number: from_labels(*pooled(some)) for number, some in pairs.items()}
    return {number: curve for number, curve in found.items() if curve is not None}


def _probability(curves: Mapping[int, Calibration], views: int, score: float) -> float:
    """Return the probability that a threshold stands for."""
    return float(curves[nearest(views, curves)].probability(np.array([score]))[0])


def _metrics(micrographs: Sequence[ValidationMicrograph], pairs: list[Pair]) -> dict[str, float]:
    """Return ``threshold``, ``precision``, ``recall`` and ``f1`` of some micrographs."""
    row = (metrics_for(micrographs) or metrics_of)(pairs)
    return {name: row[name] for name in ("threshold", "precision", "recall", "f1")}
