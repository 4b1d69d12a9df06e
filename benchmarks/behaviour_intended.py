"""Differences that were intended: each with the reason, which a comparison prints whenever one is found."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Intended:
    """One difference.

    Attributes
    ----------
    what : str
        Pattern for the file, as seen from the folder of all steps, or for another line of the comparison.
    part : str
        Pattern for a key of TOML or of a weights file's header, or for a column of a table; "score comment": the end of
        a STAR file's comment; "footer": the strip below an overlay; empty: all of it.
    reason : str
        Why.
    """

    what: str
    part: str
    reason: str


_SCORES = "files declare what the scores are"
INTENDED: tuple[Intended, ...] = (
    Intended("*.csv", "score_kind", _SCORES),
    Intended("*.tsv", "score_kind", _SCORES),
    Intended("*.star", "score comment", _SCORES),
    Intended("*run.toml", "run.micrographs.*.score", _SCORES),
    Intended("*_overlay.png", "footer", "overlays name what the colour shows: probability, template correlation ..."),
    Intended("*run.toml", "run.micrographs*", "the micrographs of a run are listed in .upicker/run-*.jsonl"),
    Intended("*run.toml", "run.model_sha256", "run.toml tells one model from another"),
    Intended("*run.toml", "propose.sizes", "a new knob"),
    Intended("*.upicker/run-*.jsonl", "", "the micrographs of a run are listed there"),
    Intended("*benchmark.csv", "method", "the table names the method of its proposals"),
    Intended("relion/External/*/run.toml", "", "relion-job runs on the work of pick and propose, and writes run.toml"),
    Intended("printed/evaluate*.txt", "caption", "the criterion under the table is named in the field's terms"),
)


def whole(what: str) -> str | None:
    """Return the reason why all of something may differ; None if it may not."""
    return next((one.reason for one in INTENDED if not one.part and fnmatchcase(what, one.what)), None)


def of_part(what: str, part: str) -> str | None:
    """Return the reason why a key or a column may differ; None if it may not."""
    return next(
        (one.reason for one in INTENDED if one.part and fnmatchcase(what, one.what) and fnmatchcase(part, one.part)),
        None,
    )
