"""The report as one HTML file that needs nothing else: pictures inside, no script, nothing from other hosts.

Names of files are text wherever they stand: escaped, and without what would turn or hide the letters around them.
"""

from __future__ import annotations

import base64
import datetime
import platform
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import metadata
from pathlib import Path

import numpy as np

from upicker import __version__
from upicker.draw.charts import Axis, Chart, spanning
from upicker.io.atomic import replacing
from upicker.report import figures as report
from upicker.report import pictures as report_pictures
from upicker.report.figures import Accuracy, Findings, Progress, Question
from upicker.report.pictures import Pictures

# So many micrographs are listed one by one; of more, those with the fewest and the most picks.
MOST_ROWS = 1000
_LONGEST_NAME = 120
_BINS = 60
_STYLE = Path(__file__).with_name("report.css")
_PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless")
# Control characters, and those that turn the direction of writing around.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write(question: Question, path: Path, progress: Progress) -> Findings:
    """Make a report, and write it whole or not at all.

    Parameters
    ----------
    question : Question
        What is reported on.
    path : Path
        The HTML file.
    progress : callable
        Told what is done, how much of it, and of how much.

    Raises
    ------
    UPickerError
        As `upicker.report.figures.gather`; or if the file cannot be written.
    """
    findings = report.gather(question, progress)
    content = page(findings, report_pictures.make(findings, progress))
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return findings


def page(findings: Findings, pictures: Pictures) -> str:
    """Return the HTML."""
    title = f"Particles in {text(findings.question.picks.absolute().name, 80)}"
    parts = [
        _head(findings),
        _tiles(findings),
        _distribution(findings),
        _per_micrograph(findings),
        _accuracy(findings.accuracy, findings) if findings.accuracy else "",
        _overlays(pictures),
        _gallery(pictures),
        _table(findings),
        _settings(findings),
        _problems([*findings.problems, *pictures.problems]),
    ]
    style = _STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def text(value: object, longest: int | None = None) -> str:
    """Return any value as harmless text of HTML; one that is too long loses its middle."""
    words = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", str(value))
    if longest is not None and len(words) > longest:
        words = f"{words[: longest // 2]}…{words[-(longest // 2) :]}"
    return escape(words, quote=True)


def _head(findings: Findings) -> str:
    now = datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M")
    made = f"Picked with UPicker {text(findings.run['version'])}. " if "version" in findings.run else ""
    return (
        f"<header><h1>Picked particles</h1><p>{text(findings.question.picks.absolute())}</p>"
        f"<p>{made}Report of UPicker {__version__}, {now}.</p></header>"
    )


def _tiles(findings: Findings) -> str:
    counts = findings.counts
    total = len(findings.scores)
    kept = int(counts.sum())
    of = f"of {total:,} with any score" if total > kept else "all that the files hold"
    threshold = "none" if findings.threshold is None else f"{findings.threshold:.3g}"
    tiles = [
        ("particles", f"{kept:,}", of),
        ("micrographs", f"{len(counts):,}", f"{int((counts == 0).sum()):,} without a particle"),
        ("per micrograph", f"{np.median(counts):,.0f}", f"median; {counts.min():,} to {counts.max():,}"),
        ("threshold", threshold, "lowest score that counts" if findings.threshold is not None else "all scores count"),
    ]
    if findings.accuracy:
        score = findings.accuracy.pooled
        told = f"precision {score.precision:.3f}, recall {score.recall:.3f}"
        tiles.append(("F1", f"{score.f1:.3f}", told))
    told = "".join(f"<div><span>{name}</span><b>{value}</b><small>{note}</small></div>" for name, value, note in tiles)
    return f"<section class='tiles'>{told}</section>"


def _distribution(findings: Findings) -> str:
    scores = findings.scores
    if not len(scores) or np.ptp(scores) == 0:
        return ""
    low, high = min(0.0, float(scores.min())), max(1.0, float(scores.max()))
    edges = np.linspace(low, high, _BINS + 1)
    heights = np.histogram(scores, edges)[0]
    chart = Chart(Axis(low, high, "score"), spanning(heights, "particles", 0.0, True), "How scores are distributed")
    at = findings.threshold
    if at is None or not low <= at <= high:
        chart.bars(edges, heights, "kept")
    else:
        # The bar that holds the threshold is cut there.
        parts = {"left": edges[edges < at], "kept": edges[edges > at]}
        ends = {"left": np.append(parts["left"], at), "kept": np.insert(parts["kept"], 0, at)}
        for style, own in ends.items():
            chart.bars(own, heights[np.clip(np.searchsorted(edges, own[:-1], "right") - 1, 0, _BINS - 1)], style)
        chart.upright(at, f"threshold {at:.3g}")
    counts = findings.counts
    bins = min(40, int(np.ptp(counts)) + 1, 2 * int(np.sqrt(len(counts))) + 1)
    edges = np.histogram_bin_edges(counts, bins)
    heights = np.histogram(counts, edges)[0]
    across = Axis(float(edges[0]), float(edges[-1]), "particles in a micrograph", True)
    second = Chart(across, spanning(heights, "micrographs", 0.0, True), "How many particles micrographs hold")
    second.bars(edges, heights, "kept")
    return _section("Scores and counts", _pair(chart.svg(), second.svg()))


def _per_micrograph(findings: Findings) -> str:
    counts = findings.counts
    if findings.is_timed:
        order = np.argsort(findings.seconds, kind="stable")
        x = (findings.seconds[order] - findings.seconds[order[0]]) / 3600
        axis, how = Axis(0.0, float(x[-1]), "hours, by the times of the files"), "Particles over time"
    else:
        order = np.arange(len(counts))
        x, how = order + 1.0, "Particles in the order of the files"
        axis = Axis(0.5, len(x) + 0.5, "micrograph, in the order of the names", True)
    chart = Chart(axis, spanning(counts, "particles", 0.0, True), how, (1140, 260))
    far = report.outlying(counts)[order]
    size = "large" if len(x) < 300 else "small"
    chart.dots(x[~far], counts[order][~far], f"usual {size}")
    chart.dots(x[far], counts[order][far], f"far {size}")
    width = max(5, len(x) // 25)
    if len(x) > 5 * width:
        middle = [np.median(counts[order][max(0, i - width // 2) : i + width // 2 + 1]) for i in range(len(x))]
        chart.line(x, np.array(middle), "median")
    names = np.array(list(findings.picks), object)[order][far]
    note = ""
    if len(names):
        some = ", ".join(f"{text(name, 60)} ({count:,})" for name, count in zip(names[:12], counts[order][far][:12]))
        more = f" and {len(names) - 12:,} more" if len(names) > 12 else ""
        note = f"<p class='names'><i class='swatch far'></i>Far from the others: {some}{more}.</p>"
    return _section(how, f"<figure>{chart.svg()}</figure>{note}")


def _accuracy(accuracy: Accuracy, findings: Findings) -> str:
    score, curve = accuracy.pooled, accuracy.curve
    chart = Chart(Axis(0, 1, "recall"), Axis(0, 1, "precision"), "Precision over recall", (560, 400))
    for f1 in (0.5, 0.6, 0.7, 0.8, 0.9):
        recall = np.linspace(f1 / (2 - f1), 1, 60)
        chart.line(recall, f1 * recall / (2 * recall - f1), "equal")
    chart.line(curve.recall, curve.precision, "curve")
    if score.picks:
        chart.point(score.recall, score.precision, f"F1 {score.f1:.3f}")
    second = Chart(spanning(curve.thresholds, "threshold"), Axis(0, 1, ""), "By the threshold", (560, 400))
    for values, style in ((curve.precision, "precision"), (curve.recall, "recall"), (curve.f1, "curve")):
        second.line(curve.thresholds, values, style)
    if findings.threshold is not None and len(curve.thresholds) and findings.threshold >= curve.thresholds.min():
        second.upright(findings.threshold, f"threshold {findings.threshold:.3g}", below=True)
    rule = {"iou": "boxes overlap with an IoU of at least 0.5", "centre": "centres at most half a diameter apart"}
    rows = [
        ("labelled micrographs", f"{score.micrographs:,}"),
        ("labels", f"{score.labels:,}"),
        ("picks there", f"{score.picks:,}"),
        ("precision", f"{score.precision:.3f}"),
        ("recall", f"{score.recall:.3f}"),
        ("F1", f"{score.f1:.3f}"),
        ("average precision", f"{score.average_precision:.3f}"),
        ("best F1", f"{score.best_f1:.3f} at {score.best_threshold:.3f}"),
        ("a match", rule[score.by]),
    ]
    styles = {"precision": "precision", "recall": "recall", "F1": "curve"}
    keys = "".join(f"<i class='swatch {style}'></i>{name} " for name, style in styles.items())
    notes = "".join(f"<p>{text(note)}</p>" for note in accuracy.notes)
    charts = _pair(chart.svg(), f"{second.svg()}<figcaption>{keys}</figcaption>")
    return _section("Compared with labels", _facts(rows) + charts + notes)


def _overlays(pictures: Pictures) -> str:
    figures = "".join(
        f"<figure class='overlay'><figcaption><b>{text(one.title)}</b>: {one.picks:,} in {text(one.name, 120)}"
        f"</figcaption><img alt='Micrograph with its picks' src='{_data(one.jpeg)}'></figure>"
        for one in pictures.overlays
    )
    return _section("Micrographs", figures) if figures else ""


def _gallery(pictures: Pictures) -> str:
    figures = "".join(
        f"<figure class='boxes'><figcaption><b>{text(one.title)}</b>, {text(one.note)}</figcaption>"
        f"<img alt='Particles as boxes' src='{_data(one.jpeg)}'></figure>"
        for one in pictures.groups
    )
    if not figures:
        return ""
    return _section("Particles", f"<p>Taken from {pictures.looked_at:,} micrographs, evenly spread.</p>{figures}")


def _table(findings: Findings) -> str:
    names, counts = list(findings.picks), findings.counts
    order = np.argsort(counts, kind="stable")
    if len(order) > MOST_ROWS:
        order = np.concatenate([order[: MOST_ROWS // 2], order[-(MOST_ROWS // 2) :]])
    accuracy = findings.accuracy
    heads = ["micrograph", "particles", "median score", *(("labels", "precision", "recall", "F1") if accuracy else ())]
    rows = []
    for at in sorted(order.tolist()):
        kept = findings.picks[names[at]].above(findings.lowest).score
        cells = [f"{counts[at]:,}", f"{np.median(kept):.3g}" if len(kept) else ""]
        if accuracy:
            one = accuracy.each.get(accuracy.names.get(names[at], ""))
            figures = () if one is None else (one.precision, one.recall, one.f1)
            cells += ["", "", "", ""] if one is None else [f"{one.labels:,}", *(f"{value:.3f}" for value in figures)]
        told = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f"<tr><td>{text(names[at], _LONGEST_NAME)}</td>{told}</tr>")
    head = "".join(f"<th>{name}</th>" for name in heads)
    part = f"the {len(rows):,} with the fewest and the most of " if len(names) > len(rows) else ""
    return (
        f"<details><summary>All micrographs, one by one ({part}{len(names):,})</summary>"
        f"<div class='wide'><table class='list'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _settings(findings: Findings) -> str:
    rows = [
        (text(key.replace("_", " "), 80), text(value, 400)) for key, value in findings.run.items() if value is not None
    ]
    told = _facts(rows) if rows else "<p>There is no run.toml beside the picks to tell how they were made.</p>"
    if findings.knobs:
        told += "<h3>Knobs that are not at their defaults</h3>"
        told += _facts([(text(key, 200), text(value, 200)) for key, value in sorted(findings.knobs.items())])
    versions = [("UPicker", __version__), ("Python", platform.python_version())]
    versions += [(name, found) for name in _PACKAGES if (found := _version(name))]
    told += "<h3>Versions behind this report</h3>" + _facts([(name, text(found)) for name, found in versions])
    return _section("Settings", told)


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{text(problem, 400)}</li>" for problem in problems[:50])
    more = f"<p>And {len(problems) - 50:,} more.</p>" if len(problems) > 50 else ""
    return _section("What could not be read or shown", f"<ul>{items}</ul>{more}")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _pair(*figures: str) -> str:
    return "<div class='pair'>" + "".join(f"<figure>{one}</figure>" for one in figures) + "</div>"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and values, which are HTML already."""
    told = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in rows)
    return f"<dl class='facts'>{told}</dl>"


def _data(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
