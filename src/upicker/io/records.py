"""What is noted beside coordinates: size and pixel size of the micrograph, flip and scale, and what scores are."""

from __future__ import annotations

import re
from dataclasses import replace

from upicker.io.picks import Picks, WriteOptions
from upicker.particles import Particles, ScoreKind


def record(picks: Picks, options: WriteOptions) -> dict[str, str | int | float]:
    """Return the notes written beside coordinates: size of the micrograph, pixel size, flip and scale, where known.

    Readers use size and pixel size. Flip and scale are for people: such a file is meant for micrographs that are
    flipped or binned in this way, and fits them as it is.
    """
    noted: dict[str, str | int | float] = {}
    if picks.shape:
        noted |= {"rows": picks.shape[0], "columns": picks.shape[1]}
    if picks.pixel_size_A:
        noted["pixel_size_A"] = float(f"{picks.pixel_size_A:.9g}")
    if options.flip != "none":
        noted["flip"] = options.flip
    if options.scale != 1:
        noted["scale"] = options.scale
    return noted


def comment(picks: Picks, options: WriteOptions, scored: bool = False) -> str:
    """Return the record as one line of a text file, which begins with ``#``; with `scored` also the kind of score."""
    text = "# centres in pixels of the raw micrograph, first stored pixel = 0"
    if picks.shape:
        text += f"; picture {picks.shape[0]} rows x {picks.shape[1]} columns"
    if picks.pixel_size_A:
        text += f"; pixel size {picks.pixel_size_A:.9g} A"
    if options.scale != 1:
        text += f"; these pixels x {options.scale:g} are raw pixels"
    if options.flip != "none":
        text += f"; flipped for: {options.flip}"
    if scored and picks.particles.score_kind.declaration:
        text += f"; score: {picks.particles.score_kind.declaration}"
    return text + "\n"


_SHAPE = re.compile(r"^#.*; picture (\d{1,7}) rows x (\d{1,7}) columns", re.M)
_SIZE = re.compile(r"^#.*; pixel size (\d[\d.e+-]{0,20}) A", re.M)
_SCORE = re.compile(r"^#.*; score: (\w{1,40})", re.M)
_HEAD = 4096


def noted(text: str) -> tuple[tuple[int, int] | None, float | None]:
    """Read shape and pixel size from a `comment` line in the first lines of `text`."""
    head = text[:_HEAD]
    shape, size = _SHAPE.search(head), _SIZE.search(head)
    try:
        value = float(size[1]) if size else None
    except ValueError:
        value = None
    found = (int(shape[1]), int(shape[2])) if shape else None
    return found if found and min(found) > 0 else None, value if value and 0 < value < 1e6 else None


def noted_score(text: str) -> str | None:
    """Read the kind of score from a `comment` line in the first lines of `text`."""
    found = _SCORE.search(text[:_HEAD])
    return found[1] if found else None


def declared(particles: Particles, word: str | None) -> Particles:
    """Return particles with the kind of score that a file declares; an unknown one changes nothing."""
    kind = next((kind for kind in ScoreKind if word and kind.declaration == word), None)
    return replace(particles, score_kind=kind) if kind else particles
