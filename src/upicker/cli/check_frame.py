"""``upicker check-frame``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import Failures, show_warnings
from upicker.cli.console import note, problem, show, warning
from upicker.cli.options import Changes, ConfigFile, Flag, Jobs, PixelSize, Size, Suffix, changes
from upicker.config import Config
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from upicker.run.frames import Verdict


def check_frame(
    *picks: str,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")],
    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("frame.png"),
    no_picture: Annotated[bool, Flag] = False,
    diameter: Size | None = None,
    scale: float = 1.0,
    threshold: float | None = None,
    most: int = 5,
    suffix: Suffix = "",
    pixel_size: PixelSize = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    jobs: Jobs = 1,
) -> int:
    """Check whether coordinates are flipped with respect to their micrographs.

    Compares the filter response at the picks with the background, as given and flipped. A picture shows both side by
    side.

    Parameters
    ----------
    picks
        Coordinates in any format: files of one micrograph or of many, quoted patterns, folders.
    micrographs
        Micrographs: files, folders, quoted patterns or lists.
    output
        Picture to write.
    no_picture
        Do not write a picture.
    diameter
        Particle diameter, e.g. 190A or 108px; by default that of the picks.
    scale
        Factor from positions to pixels of the micrographs, e.g. 8 for picks on micrographs binned by 8.
    threshold
        Lowest score of the picks to use.
    most
        Use at most this many micrographs, those with the most picks.
    jobs
        Number of parallel processes.
    """
    from upicker.io.micrographs import Reading, entries
    from upicker.io.pairing import Endings, differing, unmatched
    from upicker.io.picks import ReadOptions
    from upicker.run import frames
    from upicker.run.convert import in_raw_pixels, load, with_micrographs
    from upicker.run.frame_picture import draw

    if not picks:
        raise ConfigError("PICKS", "no coordinates were given", "Give files, folders or quoted patterns")
    if most < 1:
        raise ConfigError("--most", f"must be at least 1, found {most}", "Give e.g. --most 5")
    merged = Config().with_changes(changes(config, changes_))
    listed = entries(micrographs, by_path=True)
    found, pairing = with_micrographs(load(picks), listed, Endings(suffix))
    reading = Reading.of(listed, pixel_size)
    options = ReadOptions(scale=scale, threshold=threshold, pixel_size_A=pixel_size)
    found, failed = in_raw_pixels(found, options, reading, needed_only=True)
    particles = {one.micrograph: one.picks.particles for one in found if one.micrograph}
    work = frames.Measuring(particles, diameter, merged, reading)
    failures, noticed, measured = Failures(failed), [], {}
    with closing(frames.measure_all(found, work, most, jobs)) as outcomes:
        for outcome in outcomes:
            noticed += outcome.warnings
            if outcome.error is not None:
                failures.add(outcome.path, outcome.error)
            elif outcome.value is not None:
                measured[outcome.path] = outcome.value
    show_warnings(noticed)
    if told := differing(pairing):
        note(told)
    if pairing.unmatched_files:
        warning(unmatched(pairing.unmatched_files, "name", "a micrograph, not used"))
    if not measured:
        problem("No micrograph could be used.")
        return 1
    verdict = frames.judge(list(measured.values()))
    show(_table(verdict))
    note(_conclusion(verdict, found[0].file))
    if not no_picture:
        path = next(iter(sorted(measured, key=lambda one: -measured[one].particles)))
        micrograph = reading.read(path)
        draw(output, micrograph, particles[path], work.diameter_px(micrograph, path), verdict)
        note(f"picture -> {output}")
    return 3 if failures.paths else 0


def _table(verdict: Verdict) -> Table:
    """Return a table with a row for each frame."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from upicker.run.frames import FRAMES

    caption = "response: of the filter, above the background, in standard deviations of the background"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("positions")
    for heading in ("response", "±", "inside"):
        table.add_column(heading, justify="right", no_wrap=True)
    for frame, response in zip(FRAMES, verdict.responses):
        row = (frame.name, f"{response.mean:.2f}", f"{response.error:.2f}", f"{response.inside:.0%}")
        table.add_row(*row, style="bold" if frame is verdict.fits else None)
    return table


def _conclusion(verdict: Verdict, file: Path) -> str:
    """Return the conclusion, and what to do."""
    from upicker.run.frames import AS_IS, FLIPPED

    fits = verdict.fits
    if fits is None:
        return f"Undecided: {verdict.reason}."
    if fits is AS_IS:
        return "The picks fit as they are; no flip is needed."
    if fits is FLIPPED:
        flip = {".cs": "cryosparc", ".box": "eman2", ".json": "eman2", ".cbox": "eman2"}.get(file.suffix, "upside-down")
        return f"The picks fit flipped top to bottom: use upicker convert --from-flip {flip} with these micrographs."
    return f"The picks fit {fits.name}, which no known program produces; check how these micrographs were exported."
