"""A page that follows a run: how far it is, what each micrograph gave, and what has changed lately.

It is made from the entries of the run alone, and not from the files of particles, so that it takes less than a second
for tens of thousands of micrographs. The browser loads it anew by itself as long as the run goes on.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upicker.io.atomic import replacing
from upicker.report.charts import Axis, Chart, axis_over
from upicker.report.page import environment
from upicker.run.drift import Drift, drifts
from upicker.run.entries import Entry, in_order
from upicker.run.status import Status, status

# Of more failures only the first ones are listed.
MOST_FAILURES = 50


@dataclass(frozen=True)
class Following:
    """What the page was made from.

    Attributes
    ----------
    status : Status
        How far the run is.
    done : list of Entry
        Micrographs, in the order in which they were done last.
    drifts : list of Drift
        What has changed lately.
    """

    status: Status
    done: list[Entry]
    drifts: list[Drift]

    @property
    def is_running(self) -> bool:
        """Whether any process is at work."""
        return bool(self.status.running)


def follow(folder: Path, path: Path, every_s: float) -> Following:
    """Write the page as things are now.

    Parameters
    ----------
    folder : Path
        The output folder of a run.
    path : Path
        The HTML file.
    every_s : float
        Seconds after which the browser loads it anew.

    Raises
    ------
    InputError
        If nothing ran in the folder.
    OutputError
        If the file cannot be written.
    """
    now = status(folder)
    assert isinstance(now, Status), "a folder with entries is no training"
    done = in_order(folder)
    following = Following(now, done, drifts(done))
    content = render(following, every_s)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return following


def render(following: Following, every_s: float) -> str:
    """Return the HTML."""
    done, now = following.done, following.status
    charts = [_chart(done, *each) for each in _QUANTITIES]
    rates = [one.per_second for one in now.running if math.isfinite(one.per_second)]
    return (
        environment()
        .get_template("live.html.j2")
        .render(
            status=now,
            drifts=following.drifts,
            charts=[chart for chart in charts if chart],
            failures=[*now.failures.items()][:MOST_FAILURES],
            median_count=float(np.median([one.particles or 0 for one in done])) if done else 0.0,
            rate=60 * sum(rates) if rates else None,
            made=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M:%S"),
            every_s=max(1, round(every_s)) if following.is_running else None,
        )
    )


_QUANTITIES: tuple[tuple[str, str, Callable[[Entry], float | None]], ...] = (
    ("Particles of each micrograph", "particles", lambda one: one.particles),
    ("Median score", "score", lambda one: one.median_score),
    ("Usable area", "share", lambda one: one.usable),
)


def _chart(done: Sequence[Entry], title: str, unit: str, of: Callable[[Entry], float | None]) -> tuple[str, str] | None:
    """Return a title and a chart of one quantity over the micrographs; None where it is not known."""
    known = [(number, float(value)) for number, one in enumerate(done, 1) if (value := of(one)) is not None]
    if not known:
        return None
    x, y = np.array(known).T
    whole = unit == "particles"
    axis = axis_over(y, unit, 0.0, True) if whole else Axis(0, max(1.0, float(y.max())), unit)
    chart = Chart(
        Axis(0.5, len(done) + 0.5, "micrograph, in the order in which they were done", True), axis, title, (1140, 260)
    )
    chart.dots(x, y, f"usual {'large' if len(x) < 300 else 'small'}")
    width = max(5, len(x) // 25)
    if len(x) > 5 * width:
        median = [np.median(y[max(0, i - width // 2) : i + width // 2 + 1]) for i in range(len(x))]
        chart.line(x, np.array(median), "median")
    return title, chart.svg()
