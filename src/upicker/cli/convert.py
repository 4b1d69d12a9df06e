"""``upicker convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.console import names, note, problem, warning
from upicker.cli.options import Output, PixelSize, Size
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from upicker.run.convert import Report


def convert(
    *files: str,
    to: str,
    output: Output,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
    from_flip: str = "none",
    flip: str = "none",
    scale: float = 1.0,
    to_scale: float = 1.0,
    diameter: Size | None = None,
    box: Size | None = None,
    pixel_size: PixelSize = None,
    threshold: float | None = None,
) -> int:
    """Convert coordinates between the formats of all programs; our own model is not needed.

    The format of what is read is found out from its content. What was written is read again, and what it cannot hold
    (scores, diameters, classes, angles) is said.

    Flips: "upside-down" (a picture was saved with its rows reversed, as a JPG or PNG made from an MRC), "tiff" (TIFF
    micrographs, for or from RELION, MotionCor2 or IMOD, which turn TIFF over), "eman2" (picked in EMAN2 or crYOLO on
    TIFF, PNG or JPG), "cryosparc" (cryoSPARC's motion correction against RELION's or MotionCor's).
    `upicker check-frame` tells whether one is needed.

    Parameters
    ----------
    files
        Coordinates: files of one micrograph or of many, quoted patterns, folders, RELION's autopick.star.
    to
        The format to write: csv, tsv, star (RELION, one file for each micrograph), relion (a picking job's folder
        with its autopick.star), particles, cs (cryoSPARC), box, eman2, cbox, topaz, warp, cryoppp, coco.
    output
        The file or folder to write to.
    micrographs
        The micrographs: files, folders, quoted patterns, lists. Needed for flips and cryoSPARC; the picks then bear
        the names of these micrographs.
    from_flip
        The situation in which what is read was made: its positions are turned over.
    flip
        The situation that the output is for: its positions are turned over.
    scale
        Positions that are read, times this, are pixels of the micrographs; 8 for picks on 8 times binned ones.
    to_scale
        Positions that are written, times this, are pixels of the micrographs.
    diameter
        Diameter of particles that have none, e.g. 190A or 108px.
    box
        Side of the boxes in box formats, e.g. 160px; by default the diameter.
    threshold
        Leave out particles with a lower score.
    """
    from upicker.io.micrographs import entries
    from upicker.io.picks import ReadOptions, WriteOptions
    from upicker.run import convert as run

    if not files:
        raise ConfigError("FILES", "no coordinates are given", "Name files, folders or quoted patterns")
    reading = ReadOptions(flip=from_flip, scale=scale, threshold=threshold, pixel_size_A=pixel_size)
    work = run.Converting(to, output, reading, WriteOptions(flip=flip, scale=to_scale), diameter, box)
    return _tell(run.convert(files, work, entries(micrographs) if micrographs else None), output)


def _tell(report: Report, output: Path) -> int:
    """Print what was done; return the exit code."""
    note(f"converted: {report.particles} particles in {report.micrographs} micrographs -> {output}")
    if report.lost:
        warning(f"This format does not hold: {', '.join(report.lost)}")
    if report.outside:
        count, which = sum(report.outside.values()), names(list(report.outside))
        warning(f"{count} particles lie outside their micrographs: {which}. Check --scale and the micrographs.")
    if report.unnamed:
        which = names(report.unnamed)
        warning(f"{len(report.unnamed)} micrographs have a name but no path: {which}. Give --micrographs.")
    if report.unpicked:
        warning(f"{len(report.unpicked)} micrographs have no picks: {names(report.unpicked)}")
    for error in report.failed:
        problem(f"Skipped {error}")
    if report.homeless:
        warning(f"{len(report.homeless)} have no micrograph, not converted: {names(report.homeless)}")
    return 3 if report.homeless or report.failed else 0
