"""Proposals for a micrograph: read, prepare, mask, propose, write."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upicker.config import Config
from upicker.errors import ConfigError, InputError, UPickerError, collected_warnings
from upicker.image.mask import with_usable
from upicker.image.prepare import Prepared, prepare
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph
from upicker.propose.proposals import EXAMPLES, propose, sampling_order, with_template
from upicker.run import record
from upicker.run.ahead import Ready
from upicker.run.batch import Workers
from upicker.run.entries import Entry
from upicker.run.machine import PROCESS_BYTES, memory_bytes
from upicker.run.outputs import Destination
from upicker.units import Length


@dataclass(frozen=True)
class Proposing:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    diameter : Length
        The particles' diameter.
    outputs : Destination
        Where the proposals go.
    config : Config
        The knobs of ``image`` and ``propose``.
    reading : Reading
        Pixel sizes that override those in the files, the gain reference, and masks given by the user.
    command : str
        The command's name, for ``run.toml``.
    readers : int
        How many threads read and prepare micrographs ahead, see `upicker.run.ahead`.
    """

    diameter: Length
    outputs: Destination
    config: Config = field(default_factory=Config)
    reading: Reading = field(default_factory=Reading)
    command: str = "propose"
    readers: int = 0

    @property
    def gpus(self) -> tuple[str, ...]:
        """None: it uses the CPU."""
        return ()

    def __call__(self, path: Path) -> Entry:
        """Propose the particles of one micrograph, and write them.

        Raises
        ------
        UPickerError
            If it cannot be read, or the diameter does not fit.
        OutputError
            If the output cannot be written.
        """
        return self.finish(self.load(path))

    def load(self, path: Path) -> Ready:
        """Do the first step: read a micrograph, and prepare it."""
        micrograph, prepared = self.prepared(path)
        return Ready(micrograph if self.outputs.overlay else micrograph.without_pixels(), prepared)

    def finish(self, ready: Ready) -> Entry:
        """Do the second step: propose particles, and write them."""
        micrograph, prepared = ready.micrograph, ready.prepared
        found = propose(prepared, self.config.propose, self.config.image, prepared.usable)
        return replace(self.outputs.write(micrograph, found, prepared.diameter_px), usable=prepared.usable_share)

    def prepared(self, path: Path) -> tuple[Micrograph, Prepared]:
        """Return a micrograph as stored, and at the working scale with its usable area.

        Raises
        ------
        UPickerError
            As when called.
        """
        micrograph = self.reading.by_rows(path)
        return micrograph, at_working_scale(micrograph, self.diameter_px(path, micrograph.pixel_size_A), self.config)

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms of knobs that proposals depend on."""
        return "image", "propose"

    def diameter_px(self, path: Path, pixel_size_A: float | None) -> float:
        """Return the particle diameter in a micrograph, raw pixels; raises ConfigError without a pixel size."""
        return self.diameter.to_px(pixel_size_A, str(path))

    def about(self) -> dict[str, object]:
        """Return more for ``run.toml``."""
        return {"diameter": str(self.diameter), **self.reading.about()}

    def for_processes(self, jobs: int) -> Proposing:
        """Return it with a thread that reads and prepares ahead, if there is memory for it."""
        return replace(self, readers=int(memory_bytes() // max(1, jobs) >= PROCESS_BYTES))

    @property
    def learns(self) -> bool:
        """Whether a template is to be learned from micrographs of the run."""
        return self.config.propose.template and self.config.propose.profile is None

    def elsewhere(self, workers: Workers) -> Proposing:
        """Return it for processes elsewhere: nothing depends on the machine."""
        return replace(self, readers=0)

    def recorded(self) -> Proposing:
        """Return it as it is: nothing depends on the machine."""
        return self

    def settled(self, knobs: Mapping[str, object]) -> Proposing:
        """Return it with the template that an earlier run learned, if one is to be learned."""
        profile = knobs.get("propose.profile")
        if self.config.propose.profile is not None or profile in (None, "none"):
            return self
        return replace(self, config=self.config.with_changes({"propose.profile": profile}, record.NAME))

    def adapted(self, paths: Sequence[Path]) -> Proposing:
        """Return it with a template learned from a few of the micrographs, if the config asks for one and has none.

        Those are the first ones in `sampling_order` that can be used, so that neither the order of a list nor a file
        that cannot be read changes the template.

        Raises
        ------
        InputError
            If there is not enough memory.
        """
        if not self.learns:
            return self
        prepared: list[Prepared] = []
        for path in sampling_order(paths):
            # An error is reported when the micrograph itself is processed.
            with contextlib.suppress(UPickerError, MemoryError), collected_warnings():
                prepared.append(self.prepared(path)[1])
            if len(prepared) == EXAMPLES:
                break
        try:
            knobs = with_template(self.config.propose, prepared, self.config.image)
        except MemoryError as error:
            remedy = "Use a larger machine, or --set propose.template=false"
            raise InputError("the template", "there is not enough memory to learn it", remedy) from error
        return replace(self, config=replace(self.config, propose=knobs))


def at_working_scale(micrograph: Micrograph, diameter_px: float, config: Config) -> Prepared:
    """Return a micrograph at the working scale, with its usable area: by the built-in mask if ``propose.mask`` is on.

    Raises
    ------
    UPickerError
        If the diameter does not fit.
    """
    prepared = prepare(micrograph, diameter_px, config.image)
    return with_usable(prepared, config.image) if config.propose.mask else prepared


def ratios(
    diameter: Length, smallest: Length | None, largest: Length | None, pixel_size_A: float | None
) -> dict[str, object]:
    """Express d_min and d_max as fractions of the diameter, as the config has them.

    Parameters
    ----------
    diameter, smallest, largest : Length
        The particles' diameter, and its range; None keeps the config's.
    pixel_size_A : float or None
        Needed where the units differ.

    Returns
    -------
    dict
        Changes of the config.

    Raises
    ------
    ConfigError
        If the diameter is outside of the range, or units differ without a pixel size.
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
            raise ConfigError(option, f"{length} excludes --diameter {diameter}", "Give a range around the diameter")
        changes[f"propose.{knob}"] = ratio
    return changes
