"""``upicker size``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.console import as_json, note, result, warning
from upicker.cli.options import (
    NO_MASKS,
    Changes,
    ConfigFile,
    Gain,
    Json,
    Masking,
    Micrographs,
    Model,
    PixelSize,
    changes,
    listed_micrographs,
)
from upicker.cli.progress import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upicker.io.micrographs import Reading
    from upicker.pick.picker import Picker
    from upicker.run.pick import Picking
    from upicker.run.size import Found
    from upicker.units import Length


def size(
    *mics: Micrographs,
    model: Model | None = None,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    json: Json = False,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
) -> int:
    """Estimate the particles' diameter.

    Shows a few of the micrographs to the network at many given diameters, and prints the size of the boxes where the
    best scores are furthest above chance, with a range; and another candidate where there are two.

    Parameters
    ----------
    model
        Weights for particles of any size, from "upicker train"; by default the general model, "general-1".
    """
    as_json(json)
    merged = changes(config, changes_)
    paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)

    from upicker.pick.picker import Picker

    found = followed(Picker(model, {**merged, "pick.views": 1}), paths, reading)
    names = ", ".join(path.name for path in found.micrographs)
    note(f"size: of {len(found.micrographs)} of {len(paths)} micrographs ({names})")
    one = found.estimate
    result(
        {
            "result": "size",
            "diameter_px": one.diameter_px,
            "low_px": one.low_px,
            "high_px": one.high_px,
            "second_px": one.second_px,
            "excess": one.excess,
            "pixel_size_A": found.pixel_size_A,
            "micrographs": found.micrographs,
        }
    )
    return 0


def followed(picker: Picker, paths: Sequence[Path], reading: Reading) -> Found:
    """Estimate the diameter with a progress bar, and print it; see `upicker.run.size.find`, also for errors."""
    from upicker.run.size import find

    with counted("size") as tell:
        found = find(picker, paths, reading, tell)
    if found.particles:
        _tell_contrast(found.particles)
    for line in found.lines():
        note(line)
    return found


def _settle_contrast(work: Picking, paths: Sequence[Path], given: Length | None, continued: bool) -> None:
    """Take particles to be bright where only that shows any; a run that goes on keeps what it began with."""
    from upicker.run import record

    picker, folder = work.picker, work.outputs.folder
    before = record.read(folder, micrographs=False).knobs.get("image.particles") if continued else None
    if before is None:
        _contrast(picker, paths, work.reading, given)
    elif before != picker.config.image.particles and not picker.knows_contrast:
        note(f"particles are {picker.negate()} (image.particles), as {folder / record.NAME} says")


def _contrast(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length | None) -> None:
    """Take particles of a given diameter to be bright where only that shows any, and print it."""
    from upicker.run.size import negate

    particles = None if given is None else negate(picker, paths, reading, given)
    if particles is not None:
        _tell_contrast(particles)


def _tell_contrast(particles: str) -> None:
    other = "dark" if particles == "bright" else "bright"
    note(f"particles are {particles} (image.particles): with {other} ones nothing is found")


def known(
    picker: Picker, paths: Sequence[Path], reading: Reading, given: Length | None, folder: Path | None = None
) -> Length | None:
    """Return the diameter of a run; it is estimated and printed where neither the user nor the weights know one.

    Parameters
    ----------
    picker : Picker
        The weights.
    paths : sequence of Path
        All micrographs of the run.
    reading : Reading
        How they are read.
    given : Length or None
        The diameter that the user gave.
    folder : Path, optional
        The folder of a run that goes on, with the diameter with which it began.

    Raises
    ------
    InputError
        If it cannot be estimated, see `upicker.run.size.find`.
    """
    if given is not None or picker.diameter is not None:
        return given
    begun = None if folder is None else _recorded(folder)
    return begun or followed(picker, paths, reading).diameter


def _recorded(folder: Path) -> Length | None:
    """Return the diameter with which a folder was begun, and print it; None if there is no record of one."""
    from upicker.run import record

    diameter = record.read(folder, micrographs=False).diameter
    if diameter is not None:
        note(f"diameter: {diameter}, as {folder / record.NAME} says")
    return diameter


def follow(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length | None) -> None:
    """Set the working scale to the size of the particles near a given diameter, and print it where it is another one.

    An estimated diameter (None is given) is that size already.
    """
    from upicker.run.size import follow as look

    found = None if given is None else look(picker, paths, reading, given)
    if found is None:
        return
    note(found.line())
    if found.doubtful:
        warning(
            f"--diameter {given}: the particles seem to be of another size, about {found.size_px:.0f} px. "
            "Look at some picks; upicker size looks at more diameters, and estimates it."
        )


def settle(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length | None) -> None:
    """Settle the contrast of particles of a given diameter, and the working scale for them."""
    _contrast(picker, paths, reading, given)
    follow(picker, paths, reading, given)


def follow_or_resume(work: Picking, paths: Sequence[Path], given: Length | None, continued: bool) -> None:
    """Set the working scale as `follow` does; a run that goes on keeps the one with which it began."""
    from upicker.run.size import earlier

    _settle_contrast(work, paths, given, continued)
    before = earlier(work) if continued else None
    if before is None:
        follow(work.picker, paths, work.reading, given)
        return
    work.picker.relative_size = before
    if before != 1:
        note(f"working scale: particles look {before:g} diameters wide, as {work.outputs.folder / 'run.toml'} says")
