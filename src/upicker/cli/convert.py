"""``upicker convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from upicker.cli.console import note, problem, warning
from upicker.cli.options import Output, PixelSize, Size, Suffix
from upicker.errors import ConfigError, listed

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
    suffix: Suffix = "",
    pixel_size: PixelSize = None,
    threshold: float | None = None,
) -> int:
    """Convert coordinates between the formats of other programs; needs neither a model nor labels.

    The input format is recognised by its content. Written files are read back, and what is not kept (scores and what
    they are, diameters, classes, angles, filament numbers) is reported.

    Flips: "upside-down" (one of the images was saved with its rows reversed, such as a JPG or PNG made from an MRC),
    "tiff" (TIFF micrographs, for or from RELION, MotionCor2 or IMOD, which flip TIFF), "eman2" (picked in EMAN2 or
    crYOLO on TIFF, PNG or JPG), "cryosparc" (cryoSPARC's motion correction against RELION's or MotionCor's).
    `upicker check-frame` tells whether one is needed.

    Parameters
    ----------
    files
        Coordinates: files of one or many micrographs, quoted patterns, folders, RELION's autopick.star.
    to
        Format to write, see Formats below.
    output
        Output file or folder.
    micrographs
        Micrographs: files, folders, quoted patterns or lists. Needed for flips and cryoSPARC; the output then uses
        their names.
    from_flip
        Flip of the input: the situation in which it was made.
    flip
        Flip of the output: the situation that it is for.
    scale
        Factor from input positions to pixels of the micrographs, e.g. 8 for picks on micrographs binned by 8.
    to_scale
        Factor from output positions to pixels of the micrographs.
    diameter
        Diameter of particles without one, e.g. 190A or 108px.
    box
        Side of the boxes in box formats, e.g. 160px; by default the diameter.
    threshold
        Lowest score of the particles to convert.
    """
    from upicker.io.micrographs import entries
    from upicker.io.pairing import Endings
    from upicker.io.picks import ReadOptions, WriteOptions
    from upicker.run import convert as run

    if not files:
        raise ConfigError("FILES", "no coordinates were given", "Give files, folders or quoted patterns")
    reading = ReadOptions(flip=from_flip, scale=scale, threshold=threshold, pixel_size_A=pixel_size)
    writing = WriteOptions(flip=flip, scale=to_scale)
    work = run.Converting(to, output, reading, writing, diameter, box, Endings(suffix))
    return _tell(run.convert(files, work, entries(micrographs, by_path=True) if micrographs else None), output)


def help_with_formats(console: Any, options: Any, panel: Any) -> None:
    """Print a panel of the help, the formats below the options; these are imported only when this help is wanted."""
    from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

    from upicker.io.formats import COMMON_FIRST

    DefaultFormatter()(console, options, panel)
    if panel.title == "Parameters":
        entries = [
            HelpEntry(positive_names=(one.name,), description=f"for {one.programs}; {one.files}")
            for one in COMMON_FIRST
        ]
        DefaultFormatter()(console, options, HelpPanel("command", "Formats", entries=entries))


def _tell(report: Report, output: Path) -> int:
    """Print the result; return the exit code."""
    from upicker.io.pairing import unmatched

    note(f"converted: {report.particles} particles in {report.micrographs} micrographs -> {output}")
    if report.differing:
        note(report.differing)
    if report.lost:
        warning(f"Not kept: {', '.join(report.lost)}")
    if report.repeated:
        warning(report.repeated)
    if report.outside:
        count, which = sum(report.outside.values()), listed(list(report.outside))
        warning(f"{count} particles lie outside their micrographs: {which}. Check --scale and the micrographs.")
    if report.unnamed:
        which = listed(report.unnamed)
        warning(f"The paths of {len(report.unnamed)} micrographs are not known: {which}. Give --micrographs.")
    if report.micrographs_without_picks:
        warning(unmatched(report.micrographs_without_picks, "micrograph", "picks"))
    for error in report.failed:
        problem(f"Skipped {error}")
    if report.picks_without_micrograph:
        warning(unmatched(report.picks_without_micrograph, "name", "a micrograph, not converted"))
    return 3 if report.picks_without_micrograph or report.failed else 0
