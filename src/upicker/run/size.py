"""The particles' diameter in a set of micrographs, from a few of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from upicker.errors import InputError, UPickerError, collected_warnings
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph
from upicker.pick import size
from upicker.pick.picker import Picker
from upicker.pick.scales import judge
from upicker.pick.size import Estimate, Nothing
from upicker.propose.proposals import sampling_order
from upicker.run import record
from upicker.run.find import Finding, changed_settings
from upicker.units import Length

# Micrographs that are looked at.
EXAMPLES = 3
# Diameters that are tried: at least so many pixels, and between these parts of the shorter side of a micrograph.
SMALLEST_PX, SMALLEST, LARGEST = 8.0, 1 / 200, 0.25
# A given diameter is doubted if particles differ by this factor.
DOUBTFUL = 1.3
# What a run decides after its working scale.
_LATER = {"threshold", "fdr", "relative_size"}


@dataclass(frozen=True)
class Found:
    """What a few micrographs say about the diameter.

    Attributes
    ----------
    estimate : Estimate
        In pixels of the first micrograph.
    pixel_size_A : float or None
        Angstrom per pixel of that one.
    micrographs : tuple of Path
        Those that were looked at.
    particles : str or None
        ``"bright"`` or ``"dark"``, if that is the opposite of what was assumed.
    """

    estimate: Estimate
    pixel_size_A: float | None
    micrographs: tuple[Path, ...]
    particles: str | None = None

    @property
    def diameter(self) -> Length:
        """The diameter, in Angstrom where the pixel size is known: other micrographs may have another one."""
        return self._length(self.estimate.diameter_px)

    @property
    def second(self) -> Length | None:
        """Another candidate."""
        return None if self.estimate.second_px is None else self._length(self.estimate.second_px)

    def lines(self) -> list[str]:
        """Return what is to be said: the estimate with its range, and another candidate."""
        one = self.estimate
        text = [f"diameter: {self._words(one.diameter_px)}, {one.low_px:.0f} to {one.high_px:.0f} px"]
        if one.second_px is not None:
            text.append(f"second candidate: {self._words(one.second_px)}")
        return text

    def _words(self, diameter_px: float) -> str:
        angstrom = f" ({diameter_px * self.pixel_size_A:.0f} A)" if self.pixel_size_A else ""
        return f"{diameter_px:.0f} px{angstrom}"

    def _length(self, diameter_px: float) -> Length:
        if self.pixel_size_A:
            return Length(float(f"{diameter_px * self.pixel_size_A:.4g}"), "A")
        return Length(float(f"{diameter_px:.4g}"), "px")


@dataclass(frozen=True)
class Followed:
    """Particles of another size than the given diameter, to which the working scale is set.

    Attributes
    ----------
    relative_size : float
        Their size, in given diameters.
    given_px : float
        The given diameter, in pixels of the first micrograph.
    """

    relative_size: float
    given_px: float

    @property
    def doubtful(self) -> bool:
        """Whether they differ by a third or so: perhaps the given diameter is wrong."""
        return not 1 / DOUBTFUL < self.relative_size < DOUBTFUL

    @property
    def size_px(self) -> float:
        """Their size, in pixels of the first micrograph."""
        return self.relative_size * self.given_px

    def line(self) -> str:
        """Return what is to be said."""
        return f"working scale: particles look {self.size_px:.0f} px wide, not the {self.given_px:.0f} px given"


def find(
    picker: Picker, paths: Sequence[Path], reading: Reading, step: Callable[[int, int], None] = lambda done, of: None
) -> Found:
    """Estimate the diameter of the particles in some micrographs.

    The micrographs looked at do not depend on the order of the list. Weights that know the diameter can be used, too.
    Where only the opposite contrast shows particles, and the user has not said which they have, the picker is negated.

    Parameters
    ----------
    picker : Picker
        The weights.
    paths : sequence of Path
        The micrographs.
    reading : Reading
        How they are read.
    step : callable
        Called with how much is done, and how much there is.

    Raises
    ------
    InputError
        If nothing like a particle is found at any diameter, or no micrograph can be read.
    """
    looked_at, fast = _first(paths, reading, EXAMPLES), _fast(picker)
    found, particles = _estimate(fast, looked_at, step), None
    if isinstance(found, Nothing) and found.opposite and not picker.knows_contrast:
        particles = picker.negate()
        found = _estimate(_fast(picker), looked_at, step)
    if isinstance(found, Nothing):
        raise _nothing(found, looked_at)
    files = tuple(one.path for one in looked_at if one.path is not None)
    return Found(found, looked_at[0].pixel_size_A, files, particles)


def _estimate(picker: Picker, looked_at: Sequence[Micrograph], step: Callable[[int, int], None]) -> Estimate | Nothing:
    """Return what some micrographs say about the diameter."""
    side = min(min(one.shape) for one in looked_at)
    smallest = max(SMALLEST_PX, SMALLEST * side)
    rungs = size.ladder(smallest, max(LARGEST * side, smallest))
    return size.estimated(partial(judge, picker, looked_at), rungs, step)


def follow(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length) -> Followed | None:
    """Set a picker's working scale to the size that particles have in a few micrographs, see `Picker.follow`.

    Parameters
    ----------
    picker : Picker
        The weights; its `relative_size` is set.
    paths : sequence of Path
        The micrographs; which ones are looked at does not depend on their order.
    reading : Reading
        How they are read.
    given : Length
        The given diameter.

    Returns
    -------
    Followed or None
        None where the working scale stays that of the given diameter, or no micrograph can be read.
    """
    picker.relative_size = 1.0
    if picker.diameter is not None or not picker.config.pick.follow:
        return None
    try:
        looked_at = _first(paths, reading, EXAMPLES)
        given_px = given.to_px(looked_at[0].pixel_size_A)
        found = picker.follow(looked_at, given_px)
    except UPickerError:
        return None  # reported when the micrographs are picked
    return None if found == 1 else Followed(found, given_px)


def negate(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length) -> str | None:
    """Negate a picker if only the opposite contrast shows particles of a given diameter.

    Not if the user has said which contrast particles have.

    Returns
    -------
    str or None
        ``"bright"`` or ``"dark"``, as which particles are taken now; None: as before.
    """
    if picker.knows_contrast:
        return None
    try:
        looked_at = _first(paths, reading, EXAMPLES)
        told = judge(_fast(picker), looked_at, given.to_px(looked_at[0].pixel_size_A))
    except UPickerError:
        return None  # reported when the micrographs are picked
    return picker.negate() if told is not None and told.excess < -size.LEAST else None


def earlier(work: Finding) -> float | None:
    """Return the relative size of an earlier run into the same folder; None without one of the same settings."""
    before = record.read(work.outputs.folder)
    if not before.about or {*changed_settings(work)} - _LATER:
        return None
    return before.relative_size


def _fast(picker: Picker) -> Picker:
    """Return the picker with one view, unless it has one anyway."""
    return picker if picker.config.pick.views == 1 else picker.changed({"pick.views": 1})


def _first(paths: Sequence[Path], reading: Reading, most: int) -> list[Micrograph]:
    """Read a few micrographs, the first that can be read in an order that looks random.

    Raises
    ------
    UPickerError
        Of the last one, if none can be read.
    """
    found: list[Micrograph] = []
    failed: UPickerError | None = None
    for path in sampling_order(paths):
        try:
            with collected_warnings():
                found.append(reading.read(path))
        except UPickerError as error:  # reported again when the micrograph itself is picked
            failed = error
        if len(found) == most:
            break
    if not found:
        raise failed or InputError("the micrographs", "there is none", "Give some")
    return found


def _nothing(found: Nothing, looked_at: Sequence[Micrograph]) -> InputError:
    names = ", ".join(one.name for one in looked_at)
    if found.opposite:
        what = "nothing like a particle was found at any diameter, but much with the opposite contrast"
        return InputError(names, what, "Give --set image.particles=bright, or dark if the config says bright")
    what = "nothing like a particle was found at any diameter: no more than chance gives"
    return InputError(names, what, "Give micrographs with particles, or --diameter if you see some there")
