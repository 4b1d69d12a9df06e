"""``upicker size``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.batches import show_warnings
from upicker.cli.console import note
from upicker.cli.options import Changes, ConfigFile, Gain, Micrographs, Model, PixelSize, changes, listed_micrographs
from upicker.cli.progress import bar
from upicker.errors import ConfigError, collected_warnings

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

    Shows a few of the micrographs to the network at many diameters, and prints the one at which the best scores are
    furthest above chance, with a range; and another candidate where there are two.

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

    with bar() as progress:
        task = progress.add_task("size", total=None, note="")
        found = find(
            picker, paths, reading, lambda done, of: progress.update(task, completed=done, total=of, note="diameters")
        )
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


def limited(picker: Picker, diameter: Length | None, smallest: Length | None, largest: Length | None) -> Picker:
    """Return the picker with limits of its picks' size, which are stored as parts of the diameter.

    Raises
    ------
    ConfigError
        If the weights are for one size, or a limit has another unit than the diameter, or none fits between them.
    """
    changes: dict[str, object] = {}
    for name, knob, limit in (("min", "smallest", smallest), ("max", "largest", largest)):
        if limit is None:
            continue
        if picker.diameter is not None or diameter is None:
            found = f"{picker.path} is for particles of {picker.diameter}"
            raise ConfigError(f"--{name}-diameter", found, "Leave it out, or pick with a general model")
        if limit.unit != diameter.unit:
            remedy = f"Give it in {diameter.unit}, as the diameter is {diameter}"
            raise ConfigError(f"--{name}-diameter", f"{limit} has another unit than the diameter", remedy)
        changes[f"pick.{knob}"] = limit.value / diameter.value
    if not changes:
        return picker
    found = picker.changed(changes)
    if found.config.pick.smallest > found.config.pick.largest:
        lowest, highest = (getattr(found.config.pick, name) for name in ("smallest", "largest"))
        what = f"no size is between {lowest:.3g} and {highest:.3g} diameters of {diameter}"
        raise ConfigError("--min-diameter, --max-diameter", what, "Give both, or another --diameter")
    return found
