"""``upicker report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from upicker.cli.console import note, warning
from upicker.cli.live import follow
from upicker.cli.options import Duration, Flag, Gain, PixelSize, Size, entries
from upicker.cli.progress import bar


def report(
    picks: Path,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("report.html"),
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
    labels: Annotated[Path | None, Parameter(negative="", show_default=False)] = None,
    threshold: float | None = None,
    diameter: Size | None = None,
    by: Literal["iou", "centre"] = "iou",
    pixel_size: PixelSize = None,
    gain: Gain = None,
    live: Annotated[bool, Flag] = False,
    poll: Annotated[Duration, Parameter(show_default=False)] = 30.0,
) -> int:
    """Write a self-contained HTML report of picks.

    The file holds counts, scores, pictures of particles and micrographs, the comparison with labels, settings and
    versions. It needs no other file and no network, and its size hardly depends on the number of micrographs.

    Parameters
    ----------
    picks
        Folder of picks, or a file with the picks of many micrographs.
    output
        Output file.
    micrographs
        Micrographs to show: files, folders, quoted patterns or lists; by default those listed in the run.toml
        beside the picks, if they still exist.
    labels
        Folder or file of labels to compare with.
    threshold
        Count only picks with at least this score; by default that of the run.toml beside the picks.
    diameter
        Particle diameter, e.g. 190A; by default that of the files.
    by
        Matching criterion, as in "upicker evaluate".
    live
        Follow a run: particles, score and usable area of each micrograph, rate, failures, and what has changed lately,
        written anew until nothing runs in the folder any more, or Ctrl-C. The browser loads the page anew by itself.
    poll
        With --live: time between two looks; by default 30s.
    """
    if live:
        return follow(picks, output, poll)
    from upicker.io.micrographs import Reading
    from upicker.report.inputs import Inputs
    from upicker.report.page import write

    listed = entries(micrographs, by_path=True) if micrographs else []
    reading = Reading.of(listed, pixel_size, gain) if listed else Reading(pixel_size)
    inputs = Inputs(picks, tuple(entry.path for entry in listed), reading, labels, threshold, diameter, by)
    with bar() as progress:
        task = progress.add_task("report", total=None, note="")

        def tell(doing: str, done: int, total: int) -> None:
            progress.update(task, description=doing, completed=done, total=total)

        found = write(inputs, output, tell)
    note(f"report: {int(found.counts.sum())} particles in {len(found.counts)} micrographs -> {output}")
    if found.problems:
        warning(f"{len(found.problems)} files of picks could not be read, e.g. {found.problems[0]}")
    for told in found.notes:
        warning(told)
    if not found.paths:
        warning("no micrographs were found, so the report shows no particles; give --micrographs")
    return 0
