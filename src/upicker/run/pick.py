"""Picking of many micrographs with given weights: read, pick, write."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upicker.io.micrographs import Reading
from upicker.pick.picker import Picker
from upicker.run.batch import Outcome, each
from upicker.run.outputs import Outputs
from upicker.run.record import Entry, recorded
from upicker.units import Length


@dataclass(frozen=True)
class Picking:
    """The work on one micrograph.

    Attributes
    ----------
    picker : Picker
        The weights at work.
    outputs : Outputs
        Where the picks go.
    diameter : Length or None
        The particles' diameter; None takes the one stored with the weights.
    reading : Reading
        Pixel sizes that override what the files say, and the gain reference.
    """

    picker: Picker
    outputs: Outputs
    diameter: Length | None = None
    reading: Reading = field(default_factory=Reading)

    def __call__(self, path: Path) -> Entry:
        """Pick the particles of one micrograph, and write them.

        Raises
        ------
        UPickerError
            If it cannot be read, or the diameter does not fit.
        OutputError
            If the output cannot be written.
        """
        micrograph = self.reading.read(path)
        diameter = self.diameter or self.picker.diameter
        diameter_px = diameter.to_px(micrograph.pixel_size_A, str(path))
        return self.outputs.write(micrograph, self.picker.pick(micrograph, diameter_px), diameter_px)


def pick_all(paths: Sequence[Path], work: Picking, model: Path) -> Generator[Outcome[Entry], None, None]:
    """Pick many micrographs; ``run.toml`` is written beside the picks.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, each with a stem of its own, as `upicker.io.micrographs.find` returns them.
    work : Picking
        What to do with each.
    model : Path
        The weights, named in ``run.toml``.

    Yields
    ------
    Outcome
        One per micrograph, see `upicker.run.batch.each`.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    work.outputs.prepare()
    about = {
        "model": str(model),
        "diameter": str(work.diameter or work.picker.diameter),
        "threshold": work.picker.threshold,
        **work.reading.about(),
    }
    outcomes = each(paths, work)
    yield from recorded(outcomes, work.outputs.folder, "pick", work.picker.config, about)
