"""The picks of a report compared with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from upicker import scoring
from upicker.io import sources
from upicker.io.pairing import differing, match, pair
from upicker.io.sources import DistinctReader
from upicker.particles import Particles
from upicker.report.inputs import Inputs, Progress
from upicker.run import compare
from upicker.run.compare import Comparison
from upicker.scoring import Curve, Score


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How picks compare with labels, as `upicker.scoring` has it.

    Attributes
    ----------
    pooled : Score
        Of all micrographs of the report with labels, at its threshold.
    each : dict of str to Score
        By the name of the label file.
    names : dict of str to str
        Name of the picks -> name of their labels.
    curve : Curve
        Precision, recall and F1 at every threshold, pooled.
    labels : dict of str to Particles
        By the name of the picks.
    side_px : float or None
        Side of the squares for matching, where the labels carry no diameters.
    notes : tuple of str
        Remarks for the reader, e.g. which labels were left out.
    """

    pooled: Score
    each: dict[str, Score]
    names: dict[str, str]
    curve: Curve
    labels: dict[str, Particles]
    side_px: float | None = None
    notes: tuple[str, ...] = ()


def compared(
    inputs: Inputs, picks: Mapping[str, Particles], listed: Sequence[Path], lowest: float, progress: Progress
) -> Accuracy:
    """Compare with labels, as ``upicker evaluate`` does, but only of the micrographs that the picks are of.

    These are those with picks, and those that were processed without any pick: `listed` by ``run.toml`` or given by
    the user.

    Parameters
    ----------
    inputs : Inputs
        The labels, and how to match them.
    picks : mapping of str to Particles
        By name, of any score.
    listed : sequence of Path
        The micrographs in ``run.toml``.
    lowest : float
        Lowest score that counts.
    progress : callable
        See `upicker.report.findings.gather`.

    Raises
    ------
    InputError
        If no label file belongs to the picks, or names are ambiguous.
    ConfigError
        If the labels carry no diameter, and none was given.
    CoordinatesError
        If a file of labels cannot be read.
    """
    assert inputs.labels is not None
    files = sources.by_name(inputs.labels)
    progress("comparing with labels", 0, max(len(files), 1))
    pairing = pair(picks, {name: name for name in files}, inputs.labels)
    theirs, no_picks = {label: pick for pick, label in pairing.pairs.items()}, Particles.of([])
    processed = match(list(files), list(dict.fromkeys([*inputs.micrographs, *listed]))).pairs
    empty = [name for name in pairing.unmatched_files if name in processed]
    read = DistinctReader(inputs.reading.pixel_size_A)
    pairs = {
        name: (picks[theirs[name]] if name in theirs else no_picks, read(file))
        for name, file in files.items()
        if name in theirs or name in processed
    }
    comparison = Comparison(pairs, empty, pairing.unmatched_micrographs)
    side_px = None
    if inputs.diameter is not None:
        side_px = inputs.diameter.to_px(inputs.reading.pixel_size_A, "--diameter")
    each, pooled = compare.scores(comparison, side_px, inputs.by, lowest)
    notes = [f"{told}."] if (told := sources.repeats(read.repeated, "counted once")) else []
    if told := differing(pairing):
        notes.append(f"Labels and picks: {told}.")
    if comparison.without_picks:
        notes.append(
            f"Labelled micrographs without picks, whose labels count as missed: {len(comparison.without_picks)}."
        )
    if others := len(files) - len(pairs):
        notes.append(f"Labelled micrographs that were not picked, left out: {others}.")
    if comparison.without_labels:
        notes.append(f"Micrographs without labels, ignored here: {len(comparison.without_labels)}.")
    if (cut := compare.cut_at(comparison, inputs.folder)) is not None:
        notes.append(f"{compare.cut_sentence(cut)}.")
    return Accuracy(
        pooled=pooled,
        each=each,
        names={picked: name for name, picked in theirs.items()},
        curve=scoring.curve(list(pairs.values()), side_px, inputs.by),
        labels={picked: pairs[name][1] for name, picked in theirs.items()},
        side_px=side_px,
        notes=tuple(notes),
    )
