"""``upicker size``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.batches import show_warnings
from upicker.cli.console import note
from upicker.cli.options import Changes, ConfigFile, Gain, Micrographs, Model, PixelSize, changes, listed_micrographs
from upicker.cli.progress import counted
from upicker.errors import collected_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upicker.io.micrographs import Reading
    from upicker.pick.picker import Picker
    from upicker.run.size import Found
    from upicker.units import Length


def size(
    *mics: Micrographs,
    model: Model | None = None,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Estimate the particles' diameter.

    Shows a few of the micrographs to the network at many given diameters, and prints the size of the boxes where the
    best scores are furthest above chance, with a range; and another candidate where there are two.

    Parameters
    ----------
    model
        Weights for particles of any size, from "upicker train"; by default the general model, "general-1".
    """
    merged = changes(config, changes_)
    paths, reading = listed_micrographs(mics, pixel_size, gain)

    from upicker.pick.picker import Picker

    found = followed(Picker(model, {**merged, "pick.views": 1}), paths, reading)
    names = ", ".join(path.name for path in found.micrographs)
    note(f"size: of {len(found.micrographs)} of {len(paths)} micrographs ({names})")
    return 0


def followed(picker: Picker, paths: Sequence[Path], reading: Reading) -> Found:
    """Estimate the diameter with a progress bar, and print it; see `upicker.run.size.find`, also for errors."""
    from upicker.run.size import find

    with counted("size") as tell:
        found = find(picker, paths, reading, tell)
    for line in found.lines():
        note(line)
    return found


def estimate(picker: Picker, paths: Sequence[Path], reading: Reading) -> Length:
    """Estimate the diameter, print it, and return it; see `upicker.run.size.find`, also for errors."""
    return followed(picker, paths, reading).diameter


def recorded(folder: Path) -> Length | None:
    """Return the diameter with which a folder was begun, and print it; None if there is no record of one."""
    from upicker.run import record

    diameter = record.read(folder, micrographs=False).diameter
    if diameter is not None:
        note(f"diameter: {diameter}, as {folder / record.NAME} says")
    return diameter


def doubt(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length) -> None:
    """Print a warning if the particles seem to be of another size; see `upicker.run.size.warn_if_doubtful`."""
    from upicker.run.size import warn_if_doubtful

    with collected_warnings() as noticed:
        warn_if_doubtful(picker, paths, reading, given)
    show_warnings(noticed)
