"""``upicker extract``."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import follow
from upicker.cli.clusters import workers
from upicker.cli.console import note, problem, warning
from upicker.cli.options import (
    Aberration,
    Cluster,
    Flag,
    Fraction,
    Gain,
    Insecure,
    Jobs,
    Output,
    PixelSize,
    Size,
    Suffix,
    Voltage,
    entries,
)
from upicker.errors import ConfigError
from upicker.units import Length

if TYPE_CHECKING:
    from upicker.io.sources import Repeated
    from upicker.run.batch import Outcome
    from upicker.run.extract import Extracted

    Outcomes = Generator[Outcome[Extracted], None, None]


def extract(
    picks: Path,
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
    suffix: Suffix = "",
    pixel_size: PixelSize = None,
    gain: Gain = None,
    voltage: Voltage | None = None,
    cs: Aberration | None = None,
    amplitude_contrast: Fraction | None = None,
    jobs: Jobs | None = None,
    cluster: Cluster = None,
    insecure: Insecure = False,
    skip_existing: Annotated[bool, Flag] = False,
) -> int:
    """Extract particles at the picks, normalised as in RELION.

    Writes one stack for each micrograph, Particles/NAME.mrcs, beside a STAR file of all particles. Run it in the folder
    of the RELION project: paths in the STAR file are relative to it. If --micrographs is RELION's micrographs_ctf.star
    or cryoSPARC's exposures, optics groups and CTF parameters are copied to the STAR file.

    Parameters
    ----------
    picks
        Folder of picks, one file for each micrograph, RELION's autopick.star, or a file with the picks of many.
    micrographs
        Micrographs: files, folders, quoted patterns or lists.
    box
        Box size, e.g. 160px or 280A; rounded to an even number of pixels.
    output
        STAR file to write, e.g. particles.star.
    threshold
        Lowest score of the picks to extract.
    scale
        Box size after down-sampling by Fourier cropping, e.g. 64px; an even number of pixels.
    background
        Diameter of the background circle, e.g. 200A; by default 3/4 of the box size.
    pad
        Keep particles whose box extends beyond the micrograph, repeating its border pixels as RELION does; by default
        they are discarded.
    float16
        Write half-precision (16-bit) stacks; RELION 4 and later read them.
    no_invert
        Do not invert the contrast; by default dark particles become bright, as RELION requires.
    no_normalise
        Do not normalise; by default the background gets mean 0 and standard deviation 1.
    voltage
        Acceleration voltage for the STAR file, e.g. 300kV; values of --micrographs take precedence.
    cs
        Spherical aberration for the STAR file, e.g. 2.7mm; likewise.
    amplitude_contrast
        Amplitude contrast for the STAR file, e.g. 0.1; likewise.
    jobs
        Number of parallel processes.
    skip_existing
        Keep stacks that would be the same, to continue an earlier run.
    """
    from upicker.io.micrographs import Reading
    from upicker.io.names import distinct
    from upicker.io.pairing import Endings, differing, pair_folder, unmatched
    from upicker.io.sources import repeats
    from upicker.run.extract import Extracting, extract_all

    listed = entries(micrographs, by_path=True)
    paths = [entry.path for entry in listed]
    pairing = pair_folder(paths, picks, endings=Endings(suffix))
    if told := differing(pairing):
        note(told)
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
        names=distinct(paths),
    )
    tally = _Tally()
    given = (("Voltage", voltage), ("SphericalAberration", cs), ("AmplitudeContrast", amplitude_contrast))
    microscope = {f"_rln{name}": f"{value:g}" for name, value in given if value is not None}
    with workers(cluster, insecure, jobs, 1, output) as crew:
        outcomes = tally.counting(extract_all(list(pairing.pairs), work, crew, listed, microscope))
        code = follow("extracted", outcomes, len(pairing.pairs), output)
    if tally.dropped:
        warning(f"{tally.dropped} particles discarded: their boxes extend beyond the micrograph")
    if tally.outside:
        warning(f"{tally.outside} particles lie outside their micrographs, not extracted")
    if told := repeats(tally.repeated, "each extracted once"):
        warning(told)
    if tally.lost:
        warning(f"Not kept: {', '.join(tally.lost)}")
    if tally.unsized:
        warning("The pixel size is unknown, and RELION requires it: give --pixel-size, e.g. --pixel-size 1.77A")
    if pairing.unmatched_micrographs:
        warning(unmatched(pairing.unmatched_micrographs, "micrograph", "picks"))
    if picks_without_micrograph := pairing.unmatched_files:
        warning(unmatched(picks_without_micrograph, "pick file", "a micrograph, not extracted"))
        code = 3
    if not tally.stacks:
        problem(f"{output} was not written: no particle could be extracted. Check --box and --threshold.")
        return 1
    return code


def _scaled_px(scale: Length | None) -> int | None:
    """Return the box size after scaling, in pixels."""
    if scale is None:
        return None
    if scale.unit != "px" or scale.value != int(scale.value):
        raise ConfigError("--scale", f"{scale} is not a whole number of pixels", "Give e.g. --scale 64px")
    return int(scale.value)


class _Tally:
    """Counts outcomes for the messages at the end."""

    def __init__(self) -> None:
        self.dropped = self.outside = self.unsized = self.stacks = 0
        self.repeated: list[Repeated] = []
        self.lost: dict[str, None] = {}

    def counting(self, outcomes: Outcomes) -> Outcomes:
        """Pass outcomes on, counting them."""
        with closing(outcomes):
            for outcome in outcomes:
                if outcome.value is not None:
                    entry = outcome.value.entry
                    self.dropped += outcome.value.dropped
                    self.outside += outcome.value.outside
                    self.repeated += outcome.value.repeated
                    self.lost |= dict.fromkeys(outcome.value.lost)
                    self.stacks += entry is not None
                    self.unsized += entry is not None and entry.pixel_size_A is None
                yield outcome
