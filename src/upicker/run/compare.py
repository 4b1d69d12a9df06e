"""Comparison of a folder of picks with a folder of labels, matched by the micrographs' names."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upicker import scoring
from upicker.errors import CoordinatesError, InputError
from upicker.io import coordinates, micrographs, sources
from upicker.io.names import plain
from upicker.io.pairing import ANY, Endings, Pairing, differing, pair
from upicker.io.picks import Picks
from upicker.io.sources import DistinctReader, Repeated, Source
from upicker.particles import Particles, ScoreKind
from upicker.run import record
from upicker.run.batch import Outcome, each
from upicker.scoring import Score


@dataclass(frozen=True)
class Comparison:
    """Labels and picks by micrograph.

    Attributes
    ----------
    pairs : dict
        Name -> (picks, labels), for each label file; empty picks where there is no file of picks.
    without_picks : list of str
        Names with labels but without a file of picks; all their labels count as missed.
    without_labels : list of str
        Names with picks but without labels: left out of the scores.
    differing : str
        See `upicker.io.pairing.differing`.
    repeated : tuple of Repeated
        Positions that stand more than once in a file, counted once.
    """

    pairs: dict[str, tuple[Particles, Particles]]
    without_picks: list[str]
    without_labels: list[str]
    differing: str = ""
    repeated: tuple[Repeated, ...] = ()


def load(labels: Path, picks: Path, endings: Endings = ANY, pixel_size_A: float | None = None) -> Comparison:
    """Read labels and picks, each a folder or a file, and pair them by name; see `upicker.io.pairing.match`.

    Parameters
    ----------
    labels, picks : Path
        Folders of coordinate files, or files with the particles of many micrographs.
    endings : Endings
        Of their names.
    pixel_size_A : float or None
        Of the raw micrographs; overrides that of the files.

    Raises
    ------
    InputError
        If a folder holds no coordinates, no name is in both, or names are ambiguous.
    CoordinatesError
        If a file cannot be read, or picks were made on an image of another size than the labels.
    """
    truth, found = _some(labels), _some(picks)
    pairing = pair(truth, {name: name for name in found}, picks, endings=endings)
    read = DistinctReader(pixel_size_A)
    pairs = {}
    for name, source in truth.items():
        marked, picked = read.content(source), Picks(name, Particles.of([]))
        if name in pairing.pairs:
            where = found[pairing.pairs[name]]
            picked = read.content(where)
            _check_alike(where, picked.shape, source, marked.shape)
        pairs[name] = picked.particles, marked.particles
    left = pairing.unmatched_micrographs, pairing.unmatched_files
    return Comparison(pairs, *left, differing(pairing), tuple(read.repeated))


def _check_alike(picks: Source, shape: tuple[int, int] | None, labels: Source, other: tuple[int, int] | None) -> None:
    if shape and other and any(abs(one - two) > 0.01 * two for one, two in zip(shape, other)):
        raise CoordinatesError(
            str(picks),
            f"it was made on an image of {shape[1]} columns x {shape[0]} rows, and {labels} on one of {other[1]} x"
            f" {other[0]}",
            "Use upicker convert with --scale on those of the binned image",
        )


def scores(
    comparison: Comparison, side_px: float | None = None, by: str = "iou", threshold: float | None = None
) -> tuple[dict[str, Score], Score]:
    """Score each micrograph, and all of them together.

    Parameters
    ----------
    comparison : Comparison
        Picks and labels.
    side_px, by
        See `upicker.scoring.match`, also for errors.
    threshold : float or None
        Lowest score of the picks that count; None counts all.

    Returns
    -------
    dict, Score
        Name -> score, and the pooled score.
    """
    lowest = -np.inf if threshold is None else threshold
    each = {name: scoring.score([pair], side_px, by, lowest) for name, pair in comparison.pairs.items()}
    return each, scoring.score(list(comparison.pairs.values()), side_px, by, lowest)


def cut_at(comparison: Comparison, folder: Path) -> float | None:
    """Return the threshold at which picks were cut, below which a precision-recall curve knows nothing.

    Parameters
    ----------
    comparison : Comparison
        Picks and labels.
    folder : Path
        Of the picks; where its ``run.toml`` gives no threshold, it is the lowest score of them all.

    Returns
    -------
    float or None
        None for picks that were not cut, and for scores of which nothing is known.
    """
    from upicker.pick.detection import FLOOR  # OpenCV takes a tenth of a second

    picks = [some for some, _ in comparison.pairs.values() if len(some)]
    kinds = {some.score_kind for some in picks}
    if not kinds or kinds & {ScoreKind.NONE, ScoreKind.GIVEN}:
        return None
    threshold = record.read(folder, micrographs=False).threshold
    if threshold is None:
        threshold = min(float(some.score.min()) for some in picks)
    return None if kinds == {ScoreKind.PROBABILITY} and threshold <= FLOOR else threshold


def cut_sentence(threshold: float) -> str:
    """Return what to say beside the average precision of picks that were cut at a threshold."""
    return (
        "Average precision and best F1 count only the picks that were written, "
        f"with scores of at least {threshold:.3g}: for the whole curve, pick with a lower --threshold"
    )


def plot(path: Path, comparison: Comparison, side_px: float | None = None, by: str = "iou") -> None:
    """Draw precision over recall, pooled; arguments as in `scores`.

    Raises
    ------
    OutputError
        If the plot cannot be written.
    """
    from upicker import draw  # matplotlib takes half a second

    draw.precision_recall(scoring.curve(list(comparison.pairs.values()), side_px, by), path)


@dataclass(frozen=True)
class Overlaying:
    """Draws one micrograph with true positives, false positives and false negatives.

    Attributes
    ----------
    comparison : Comparison
        Picks and labels.
    folder : Path
        For ``<stem>_overlay.png``.
    side_px, by, threshold
        As in `scores`.
    """

    comparison: Comparison
    folder: Path
    side_px: float | None = None
    by: str = "iou"
    threshold: float | None = None

    def __call__(self, path: Path) -> Path:
        """Read a micrograph and draw it; return the path of the overlay."""
        from upicker import draw  # matplotlib takes half a second

        picks, labels = self.comparison.pairs[plain(path)]
        kept = picks if self.threshold is None else picks.above(self.threshold)
        target = self.folder / f"{plain(path)}_overlay.png"
        draw.overlay(micrographs.read(path), kept, target, labels, self.side_px, self.by)
        return target


def with_micrographs(comparison: Comparison, paths: Sequence[Path]) -> Pairing[Path, str]:
    """Find the micrographs of the labels: micrograph -> name of its labels.

    Raises
    ------
    InputError
        If none has labels, or names are ambiguous.
    """
    return pair(paths, {name: name for name in comparison.pairs}, "--micrographs")


def overlays(pairing: Pairing[Path, str], work: Overlaying) -> Generator[Outcome[Path], None, None]:
    """Draw the micrographs that have labels.

    Raises
    ------
    OutputError
        If an overlay cannot be written.
    """
    pairs = {plain(path): work.comparison.pairs[name] for path, name in pairing.pairs.items()}
    work = replace(work, comparison=replace(work.comparison, pairs=pairs))
    yield from each(list(pairing.pairs), work)


def _some(path: Path) -> dict[str, Source]:
    found = sources.by_name(path)
    if not found:
        known = ", ".join(coordinates.FORMATS)
        raise InputError(path, "holds no coordinate files", f"Give a folder with one for each micrograph ({known})")
    return found
