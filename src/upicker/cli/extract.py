"""``upicker extract``."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import follow
from upicker.cli.console import problem, warning
from upicker.cli.options import (
    Aberration,
    Flag,
    Gain,
    Jobs,
    Output,
    PixelSize,
    Share,
    Size,
    Voltage,
    entries,
)
from upicker.errors import ConfigError
from upicker.units import Length

if TYPE_CHECKING:
    from upicker.run.batch import Outcome
    from upicker.run.extract import Extracted

    Outcomes = Generator[Outcome[Extracted], None, None]


def extract(
    picks_dir: Path,
    *,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")],
    box: Size,
    output: Output,
    threshold: float | None = None,
    scale: Size | None = None,
    background: Size | None = None,
    pad: Annotated[bool, Flag] = False,
    float16: Annotated[bool, Flag] = False,
    no_invert: Annotated[bool, Flag] = False,
    no_normalise: Annotated[bool, Flag] = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    voltage: Voltage | None = None,
    cs: Aberration | None = None,
    amplitude_contrast: Share | None = None,
    jobs: Jobs = 1,
    skip_existing: Annotated[bool, Flag] = False,
) -> int:
    """Cut boxes out around picks, normalised as RELION does.

    Writes one stack for each micrograph, Particles/NAME.mrcs beside the STAR file, which lists all particles. Run it
    in the folder of the RELION project: paths in the STAR file are relative to it. If --micrographs is RELION's
    micrographs_ctf.star or cryoSPARC's exposures, optics groups and CTF of the list go into the STAR file.

    Parameters
    ----------
    picks_dir
        The folder of picks, one file for each micrograph.
    micrographs
        The micrographs: files, folders, quoted patterns, lists.
    box
        Side of the boxes, e.g. 160px or 280A; becomes an even number of pixels.
    output
        The STAR file to write, e.g. particles.star.
    threshold
        Leave out picks with a lower score.
    scale
        Side of the boxes after scaling down by Fourier cropping, e.g. 64px; an even number of pixels.
    background
        Diameter of the circle outside which is background, e.g. 200A; by default three quarters of the box.
    pad
        Keep particles whose box reaches beyond the micrograph, repeating the pixels of its rim as RELION does;
        by default they are left out.
    float16
        Write half-precision stacks, half the size; RELION reads them from version 4 on.
    no_invert
        Keep the contrast as it is; by default dark particles become bright, as RELION wants them.
    no_normalise
        Keep the grey values; by default the background gets mean 0 and standard deviation 1.
    voltage
        Of the microscope, e.g. 300kV, for the STAR file; a list of micrographs beats it.
    cs
        Spherical aberration, e.g. 2.7mm, likewise.
    amplitude_contrast
        E.g. 0.1, likewise.
    jobs
        Processes that work side by side.
    skip_existing
        Leave stacks as they are that would come out the same again: goes on where an earlier run stopped.
    """
    from upicker.io.micrographs import Reading
    from upicker.io.pairing import pair_folder, unmatched
    from upicker.run.extract import Extracting, extract_all

    listed = entries(micrographs)
    pairing = pair_folder([entry.path for entry in listed], picks_dir)
    work = Extracting(
        pairing.pairs,
        output,
        box,
        Reading.of(listed, pixel_size, gain),
        threshold,
        scale_px=_scaled_px(scale),
        background_diameter=background,
        invert=not no_invert,
        normalise=not no_normalise,
        pad=pad,
        float16=float16,
        skip_existing=skip_existing,
    )
    tally = _Tally()
    given = (("Voltage", voltage), ("SphericalAberration", cs), ("AmplitudeContrast", amplitude_contrast))
    microscope = {f"_rln{name}": f"{value:g}" for name, value in given if value is not None}
    outcomes = tally.listen(extract_all(list(pairing.pairs), work, jobs, listed, microscope))
    code = follow("extracted", outcomes, len(pairing.pairs), output)
    if tally.dropped:
        warning(f"{tally.dropped} particles are left out: their boxes reach beyond the micrograph")
    if tally.unsized:
        warning("The pixel size is not known, and RELION needs it: give --pixel-size, e.g. --pixel-size 1.77A")
    if pairing.unmatched_micrographs:
        warning(unmatched(pairing.unmatched_micrographs, "micrograph", "picks"))
    if picks_without_micrograph := pairing.unmatched_files:
        warning(unmatched(picks_without_micrograph, "pick file", "a micrograph, not extracted"))
        code = 3
    if not tally.stacks:
        problem(f"{output} is not written: no particle could be cut out. Check --box and --threshold.")
        return 1
    return code


def _scaled_px(scale: Length | None) -> int | None:
    """Return the side after scaling, which is a number of pixels."""
    if scale is None:
        return None
    if scale.unit != "px" or scale.value != int(scale.value):
        raise ConfigError("--scale", f"{scale} is no whole number of pixels", "Give e.g. --scale 64px")
    return int(scale.value)


class _Tally:
    """Counts what goes by on the way to the summary."""

    def __init__(self) -> None:
        self.dropped = self.unsized = self.stacks = 0

    def listen(self, outcomes: Outcomes) -> Outcomes:
        """Pass outcomes on."""
        with closing(outcomes):
            for outcome in outcomes:
                if outcome.value is not None:
                    entry = outcome.value.entry
                    self.dropped += outcome.value.dropped
                    self.stacks += entry is not None
                    self.unsized += entry is not None and entry.pixel_size_A is None
                yield outcome
