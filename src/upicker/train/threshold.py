"""The thresholds that are stored with the weights, chosen once the best weights are known.

Scores depend on the number of views, so that there is a threshold for each of some numbers, and one for the number that
is used unless the user gives another; where that is the same for all micrographs, both are one. Precision, recall and
F1 are those at the latter, for the held-back labels only.

Of few micrographs only few labels can be held back, and a threshold chosen on those alone is often a poor one. Training
micrographs are as good for this: in a training of minutes the network picks them hardly better than what was held back
(docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from upicker.config import Config
from upicker.model import weights
from upicker.pick.detection import number_of_views
from upicker.pick.torch_network import TorchNetwork
from upicker.scoring import score
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
    thresholds = {str(number): _metrics(in_order, pairs)["threshold"] for number, pairs in found.items()}
    if len(usually) == 1:  # On more micrographs, and perhaps another number.
        thresholds[str(*usually)] = row["threshold"]
    check()
    weights.save(path, model, replace(header, **row, thresholds=thresholds))
    return row


def _metrics(micrographs: Sequence[ValidationMicrograph], pairs: list[Pair]) -> dict[str, float]:
    """Return ``threshold``, ``precision``, ``recall`` and ``f1`` of some micrographs."""
    row = (metrics_for(micrographs) or metrics_of)(pairs)
    return {name: row[name] for name in ("threshold", "precision", "recall", "f1")}
