"""The particles' diameter in a set of micrographs, from a few of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from upicker.errors import InputError, UPickerError, UPickerWarning, collected_warnings, warn
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph
from upicker.pick import size
from upicker.pick.picker import Picker
from upicker.pick.scales import judge
from upicker.pick.size import Estimate, Nothing
from upicker.propose.proposals import sampling_order
from upicker.units import Length

# Micrographs that are looked at, and those from which a given diameter is checked.
EXAMPLES, FEWER = 3, 1
# Diameters that are tried: at least so many pixels, and between these parts of the shorter side of a micrograph.
SMALLEST_PX, SMALLEST, LARGEST = 8.0, 1 / 200, 0.25
# A given diameter is doubted if the estimate differs by this factor.
DOUBTFUL = 1.3


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
    """

    estimate: Estimate
    pixel_size_A: float | None
    micrographs: tuple[Path, ...]

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


def find(
    picker: Picker, paths: Sequence[Path], reading: Reading, step: Callable[[int, int], None] = lambda done, of: None
) -> Found:
    """Estimate the diameter of the particles in some micrographs.

    The micrographs looked at do not depend on the order of the list. Weights that know the diameter can be used, too.

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
    return _estimate(_fast(picker), _first(paths, reading, EXAMPLES), step)


def _estimate(picker: Picker, looked_at: Sequence[Micrograph], step: Callable[[int, int], None]) -> Found:
    """Return what some micrographs say about the diameter; raises InputError if that is nothing."""
    side = min(min(one.shape) for one in looked_at)
    smallest = max(SMALLEST_PX, SMALLEST * side)
    rungs = size.ladder(smallest, max(LARGEST * side, smallest))
    found = size.estimated(partial(judge, picker, looked_at), rungs, step)
    if isinstance(found, Nothing):
        raise _nothing(found, looked_at)
    paths = tuple(one.path for one in looked_at if one.path is not None)
    return Found(found, looked_at[0].pixel_size_A, paths)


def warn_if_doubtful(picker: Picker, paths: Sequence[Path], reading: Reading, given: Length) -> None:
    """Warn if the particles seem to be of another size than the given diameter, by a third or so.

    One micrograph is looked at, at this diameter. Where nothing is found, nothing is said.
    """
    try:
        looked_at = _first(paths, reading, FEWER)
        given_px = given.to_px(looked_at[0].pixel_size_A)
        told = judge(_fast(picker), looked_at, given_px)
    except UPickerError:
        return
    if told is None or told.excess < size.LEAST or 1 / DOUBTFUL < told.box_px / given_px < DOUBTFUL:
        return
    seen = f"the particles seem to be of another size, about {told.box_px:.0f} px"
    remedy = "Look at some picks; upicker size looks at more micrographs, and estimates the diameter"
    warn(UPickerWarning(f"--diameter {given}", seen, remedy))


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
