"""Proposals for many micrographs: read, prepare, mask, propose, write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upicker.config import Config
from upicker.errors import ConfigError, UPickerError, heard
from upicker.image.mask import usable
from upicker.image.prepare import Prepared, prepare
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph
from upicker.propose.proposals import asked, propose, settled
from upicker.run.batch import Outcome, each
from upicker.run.masks import Masks
from upicker.run.outputs import Outputs
from upicker.run.record import Entry, recorded
from upicker.units import Length


@dataclass(frozen=True)
class Proposing:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    diameter : Length
        The particles' diameter.
    outputs : Outputs
        Where the proposals go.
    config : Config
        The knobs of ``image`` and ``propose``.
    reading : Reading
        Pixel sizes that override what the files say, and the gain reference.
    masks : Masks or None
        Masks of the user's, joined with the built-in one if ``propose.mask`` is on.
    """

    diameter: Length
    outputs: Outputs
    config: Config = field(default_factory=Config)
    reading: Reading = field(default_factory=Reading)
    masks: Masks | None = None

    def __call__(self, path: Path) -> Entry:
        """Propose the particles of one micrograph, and write them.

        Raises
        ------
        UPickerError
            If it cannot be read, or the diameter does not fit.
        OutputError
            If the output cannot be written.
        """
        micrograph, prepared = self.prepared(path)
        found = propose(prepared, self.config.propose, self.config.image, prepared.usable)
        return self.outputs.write(micrograph, found, prepared.diameter_px)

    def prepared(self, path: Path) -> tuple[Micrograph, Prepared]:
        """Return a micrograph as it is, and at the working scale with what is usable of it.

        Raises
        ------
        UPickerError
            As when called.
        """
        micrograph = self.reading.read(path)
        prepared = picture(micrograph, self.diameter.to_px(micrograph.pixel_size_A, str(path)), self.config)
        if self.masks is None:
            return micrograph, prepared
        theirs = self.masks.usable(micrograph.name, micrograph.shape, prepared.pixels.shape)
        return micrograph, replace(prepared, usable=theirs if prepared.usable is None else prepared.usable & theirs)

    def settled(self, paths: Sequence[Path]) -> Proposing:
        """Return it with a template learned from a few of the micrographs, if the config wants one and has none."""
        return replace(self, config=with_template(self.config, paths, lambda path: self.prepared(path)[1]))


def picture(micrograph: Micrograph, diameter_px: float, config: Config) -> Prepared:
    """Return a micrograph at the working scale, with what is usable of it if ``propose.mask`` is on.

    Raises
    ------
    UPickerError
        If the diameter does not fit.
    """
    prepared = prepare(micrograph, diameter_px, config.image)
    return replace(prepared, usable=usable(prepared, config.image)) if config.propose.mask else prepared


def with_template(config: Config, paths: Sequence[Path], prepared: Callable[[Path], Prepared]) -> Config:
    """Return the config with a template learned from a few of the micrographs, if it wants one and has none.

    Parameters
    ----------
    config : Config
        All knobs.
    paths : sequence of Path
        The micrographs of the run.
    prepared : callable
        Reads one, and brings it to the working scale.
    """
    if not config.propose.template or config.propose.profile is not None:
        return config
    pictures = []
    for path in asked(paths):
        with contextlib.suppress(UPickerError), heard():  # What is wrong is reported when its turn comes.
            pictures.append(prepared(path))
    return replace(config, propose=settled(config.propose, pictures, config.image))


def propose_all(paths: Sequence[Path], work: Proposing, jobs: int = 1) -> Generator[Outcome[Entry], None, None]:
    """Propose the particles of many micrographs; ``run.toml`` is written beside them.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, each with a stem of its own, as `upicker.io.micrographs.find` returns them.
    work : Proposing
        What to do with each.
    jobs : int
        Processes.

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
    work = work.settled(paths)
    about = {
        "diameter": str(work.diameter),
        **work.reading.about(),
        "mask": None if work.masks is None else str(work.masks.path),
    }
    outcomes = each(paths, work, jobs)
    yield from recorded(outcomes, work.outputs.folder, "propose", work.config, about)


def ratios(
    diameter: Length, smallest: Length | None, largest: Length | None, pixel_size_A: float | None
) -> dict[str, object]:
    """Express d_min and d_max as shares of the diameter, as the config has them.

    Parameters
    ----------
    diameter, smallest, largest : Length
        The particles' diameter, and the range of it; None keeps the config's.
    pixel_size_A : float or None
        Needed where the units differ.

    Returns
    -------
    dict
        Changes of the config.

    Raises
    ------
    ConfigError
        If the range does not hold the diameter, or units differ without a pixel size.
    """
    changes: dict[str, object] = {}
    for option, length, knob in (
        ("--min-diameter", smallest, "min_ratio"),
        ("--max-diameter", largest, "max_ratio"),
    ):
        if length is None:
            continue
        if length.unit == diameter.unit:
            ratio = length.value / diameter.value
        else:
            ratio = length.to_px(pixel_size_A, option) / diameter.to_px(pixel_size_A, "--diameter")
        if (ratio > 1) if knob == "min_ratio" else (ratio < 1):
            raise ConfigError(option, f"{length} leaves out --diameter {diameter}", "Give a range around the diameter")
        changes[f"propose.{knob}"] = ratio
    return changes
