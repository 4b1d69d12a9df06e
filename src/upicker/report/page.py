"""The report as one HTML file that needs nothing else: images inside, no script, nothing from other hosts.

The page is the template ``page.html.j2``. Names of files are plain text wherever they stand: Jinja escapes them, and
control characters, and characters that change the direction of writing, are replaced.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from upicker import __version__
from upicker.io.atomic import replacing
from upicker.report import plots
from upicker.report.findings import Findings, gather
from upicker.report.inputs import Inputs, Progress
from upicker.report.pictures import Pictures, make
from upicker.scoring import Score

# At most this many micrographs are listed one by one; of more, those with the fewest and the most picks.
MAX_ROWS = 1000
_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless")
# Control characters, and those that change the direction of writing.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One micrograph in the list of all.

    Attributes
    ----------
    name : str
        Of the micrograph.
    particles : int
        Picks that count.
    median_score : float or None
        Of these; None if there are none.
    score : Score or None
        Against labels, where there are some.
    """

    name: str
    particles: int
    median_score: float | None
    score: Score | None


def write(inputs: Inputs, path: Path, progress: Progress) -> Findings:
    """Make a report, and write it whole or not at all.

    Parameters
    ----------
    inputs : Inputs
        Picks, micrographs and labels.
    path : Path
        The HTML file.
    progress : callable
        Called with a description of the step, the number of items done, and their total.

    Raises
    ------
    UPickerError
        As `upicker.report.findings.gather`; or if the file cannot be written.
    """
    findings = gather(inputs, progress)
    content = render(findings, make(findings, progress))
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return findings


def render(findings: Findings, pictures: Pictures) -> str:
    """Return the HTML."""
    accuracy = findings.accuracy
    curves = None
    if accuracy is not None:
        curves = [plots.precision_over_recall(accuracy), plots.over_threshold(accuracy, findings.threshold)]
    template = environment().get_template("page.html.j2")
    return template.render(
        findings=findings,
        pictures=pictures,
        folder=findings.inputs.picks.absolute(),
        made=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M"),
        total=len(findings.scores),
        median_count=float(np.median(findings.counts)),
        score_chart=plots.scores(findings),
        count_chart=plots.counts(findings),
        per_micrograph=plots.per_micrograph(findings),
        accuracy=accuracy,
        curves=curves,
        rows=list(_rows(findings)),
        versions=_versions(),
        problems=[*findings.problems, *pictures.problems],
    )


def _rows(findings: Findings) -> Iterator[Row]:
    """Return all micrographs, or of too many those with the fewest and the most picks, in the files' order."""
    names, counts, accuracy = list(findings.picks), findings.counts, findings.accuracy
    order = np.argsort(counts, kind="stable")
    if len(order) > MAX_ROWS:
        order = np.concatenate([order[: MAX_ROWS // 2], order[-(MAX_ROWS // 2) :]])
    for at in sorted(order.tolist()):
        kept = findings.picks[names[at]].above(findings.lowest).score
        score = accuracy and accuracy.each.get(accuracy.names.get(names[at], ""))
        yield Row(names[at], int(counts[at]), float(np.median(kept)) if len(kept) else None, score)


def _versions() -> dict[str, str]:
    """Return the versions of UPicker, of Python, and of those libraries behind the figures that are installed."""
    found = {"UPicker": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def environment() -> Environment:
    """Return what fills the templates: every value is escaped, and what would hide text around it is replaced."""
    environment = Environment(
        loader=PackageLoader("upicker.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fmt": format, "shorten": _shorten, "base64": _base64}
    return environment


def _visible(value: object) -> str:
    """Replace what would hide or reorder the text around it; Jinja calls it with every value that it prints."""
    return value if isinstance(value, Markup) else _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", str(value))


def _shorten(value: object, longest: int) -> str:
    """Return any value as text, without its middle if it is longer than `longest`."""
    text = str(value)
    return text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 2) :]}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
