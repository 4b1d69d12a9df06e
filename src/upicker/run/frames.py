"""Whether coordinates fit their micrographs as they are, or flipped: measured, not assumed.

The micrograph is filtered with the Laplacians of Gaussians that fit the particle diameter, as for proposals. At
particles the filter response is higher than elsewhere; at positions in a wrong frame it is that of any position. So
the responses at the picks, less the mean over the usable area and in units of its standard deviation, have a mean of 0
in a wrong frame and clearly above 0 in the right one. A shift of one pixel (``H - y`` instead of ``H - 1 - y``) is too
small to be detected in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from upicker.config import Config
from upicker.errors import ConfigError, InputError
from upicker.image.mask import with_usable
from upicker.image.prepare import Prepared, prepare
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph, Particles
from upicker.propose.alog import filter_diameters, range_of, responses
from upicker.run.batch import Outcome, each
from upicker.run.convert import Found
from upicker.units import Length

# Half of the usual working scale is enough to tell particles from ice, in a quarter of the time.
WORKING_DIAMETER_PX = 16.0
# With fewer positions than this there is no verdict.
MIN_POSITIONS = 10
# A difference must be this many standard errors, as the best of five frames is chosen; and a response must be this many
# standard deviations of the background, as a smaller one would be invisible to a picker or a person.
MIN_SIGMA, MIN_RESPONSE = 4.0, 0.15


@dataclass(frozen=True)
class Frame:
    """A frame that coordinates may be in.

    Attributes
    ----------
    name : str
        For people.
    to_stored : callable
        `(n, 2)` positions in this frame, and the micrograph's (rows, columns) -> positions in the micrograph as stored.
    """

    name: str
    to_stored: Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def _as_is(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return xy


def _flipped_vertically(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.stack([xy[:, 0], shape[0] - 1 - xy[:, 1]], 1)


def _flipped_horizontally(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.stack([shape[1] - 1 - xy[:, 0], xy[:, 1]], 1)


def _rotated(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return _flipped_vertically(_flipped_horizontally(xy, shape), shape)


def _transposed(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return xy[:, ::-1]


FRAMES = (
    Frame("as they are", _as_is),
    Frame("flipped top to bottom", _flipped_vertically),
    Frame("flipped left to right", _flipped_horizontally),
    Frame("rotated by 180 degrees", _rotated),
    Frame("rows and columns exchanged", _transposed),
)
AS_IS, FLIPPED = FRAMES[:2]


@dataclass(frozen=True)
class FrameResponse:
    """The filter response at the positions in one frame.

    Attributes
    ----------
    mean : float
        Less the mean over the usable area, in its standard deviations; a position outside the micrograph counts 0.
    error : float
        Standard error of the mean.
    inside : float
        Fraction of the positions inside the micrograph, 0..1.
    count : int
        Number of positions that count; those outside the usable area do not.
    """

    mean: float
    error: float
    inside: float
    count: int


@dataclass(frozen=True)
class Measured:
    """One micrograph: its responses in the order of `FRAMES`, and the number of its picks."""

    responses: tuple[FrameResponse, ...]
    particles: int


@dataclass(frozen=True)
class Verdict:
    """The result from all micrographs.

    Attributes
    ----------
    responses : tuple of FrameResponse
        Means over the micrographs, in the order of `FRAMES`.
    micrographs : int
        Number of micrographs that counted.
    fits : Frame or None
        The frame that fits; None if it cannot be determined.
    reason : str
        Why it cannot be determined; else empty.
    """

    responses: tuple[FrameResponse, ...]
    micrographs: int
    fits: Frame | None
    reason: str = ""


@dataclass(frozen=True)
class Measuring:
    """The measurement of one micrograph; picklable, for several processes.

    Attributes
    ----------
    picks : mapping of Path to Particles
        Raw pixels, in the frame to be checked.
    diameter : Length or None
        Of the particles; None: the median that the picks carry.
    config : Config
        Its rooms ``image``, but for the working scale, and ``propose``.
    reading : Reading
        How micrographs are read.
    """

    picks: Mapping[Path, Particles]
    diameter: Length | None
    config: Config
    reading: Reading = field(default_factory=Reading)

    def __call__(self, path: Path) -> Measured:
        """Measure one micrograph; raises UPickerError if it cannot be read, or has no diameter."""
        micrograph = self.reading.read(path)
        particles = self.picks[path]
        return measure(micrograph, particles, self.diameter_px(micrograph, path), self.config)

    def diameter_px(self, micrograph: Micrograph, path: Path) -> float:
        """Return the particles' diameter in raw pixels.

        Raises
        ------
        ConfigError
            If it is not known.
        """
        if self.diameter:
            return self.diameter.to_px(micrograph.pixel_size_A, str(path))
        own = self.picks[path].median_diameter_px
        if own is None:
            raise ConfigError("--diameter", "the picks have no diameter", "Give it, e.g. --diameter 190A")
        return own


def measure(micrograph: Micrograph, particles: Particles, diameter_px: float, config: Config) -> Measured:
    """Measure the filter response at some positions, in every frame.

    Parameters
    ----------
    micrograph : Micrograph
        `(H, W)` raw pixels.
    particles : Particles
        Raw pixels, in an unknown frame.
    diameter_px : float
        Of one particle, raw pixels.
    config : Config
        Its rooms ``image`` and ``propose``.

    Raises
    ------
    InputError
        If the diameter does not fit the micrograph, or it has no usable area.
    """
    image = replace(config.image, working_diameter_px=WORKING_DIAMETER_PX)
    prepared = prepare(micrograph, diameter_px, image)
    prepared = with_usable(prepared, image) if image.mask else prepared
    area = np.ones(prepared.pixels.shape, bool) if prepared.usable is None else prepared.usable
    prepared = replace(prepared, usable=area)
    low, high = range_of(config.propose)
    diameter = prepared.working_diameter
    filters = filter_diameters(low * diameter, high * diameter)
    inside = responses(np.where(area, prepared.pixels, np.float32(0)), filters)[0].inside
    if not area.any() or not (spread := float(inside[area].std())) > 0:
        raise InputError(str(micrograph.path or micrograph.name), "it has no usable area", "Leave it out")
    sigmas = (inside - inside[area].mean()) / spread
    found = (_response(frame, particles, micrograph.shape, prepared, sigmas) for frame in FRAMES)
    return Measured(tuple(found), len(particles))


def _response(
    frame: Frame, particles: Particles, shape: tuple[int, int], prepared: Prepared, sigmas: np.ndarray
) -> FrameResponse:
    """Return the response in one frame; `sigmas` `(h, w)` is the standardised response at the working scale."""
    assert prepared.usable is not None
    xy = frame.to_stored(particles.xy, shape)
    inside = replace(particles, xy=xy).inside(shape)
    column, row = np.rint(prepared.frame.to_working(xy[inside])).astype(int).T
    row, column = row.clip(0, sigmas.shape[0] - 1), column.clip(0, sigmas.shape[1] - 1)
    at_particles = sigmas[row, column][prepared.usable[row, column]]
    values = np.concatenate([at_particles, np.zeros(int((~inside).sum()))])
    fraction = float(inside.mean()) if len(inside) else 0.0
    if len(values) < 2:
        return FrameResponse(0.0, float("inf"), fraction, len(values))
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return FrameResponse(float(values.mean()), error, fraction, len(values))


def measure_all(
    found: Sequence[Found], work: Measuring, max_micrographs: int, jobs: int = 1
) -> Generator[Outcome[Measured], None, None]:
    """Measure the micrographs with the most picks.

    Parameters
    ----------
    found : sequence of Found
        Picks, with their micrographs.
    work : Measuring
        The measurement.
    max_micrographs : int
        Measure at most this many.
    jobs : int
        Processes.
    """
    yield from each(chosen(found, max_micrographs), work, jobs)


def chosen(found: Sequence[Found], max_micrographs: int) -> list[Path]:
    """Return the micrographs to measure: those with the most picks."""
    picked = sorted((one for one in found if len(one.picks.particles)), key=lambda one: -len(one.picks.particles))
    return [one.micrograph for one in picked[:max_micrographs] if one.micrograph is not None]


def judge(measured: Sequence[Measured]) -> Verdict:
    """Decide which frame fits.

    A frame fits if its response is clearly above that of the background, and clearly above that in every other frame.
    The standard error of a mean over micrographs is the larger of two: that from the positions within micrographs, and
    that from the scatter of the micrographs' means.
    """
    kept = [one for one in measured if min(response.count for response in one.responses) >= 2]
    if not kept:
        return Verdict((), 0, None, "there are too few picks")
    totals = tuple(_mean([one.responses[i] for one in kept]) for i in range(len(FRAMES)))
    order = np.argsort([-total.mean for total in totals])
    best, second = totals[order[0]], totals[order[1]]
    lowest = min(totals, key=lambda total: total.mean)
    reason = ""
    if max(total.count for total in totals) < MIN_POSITIONS:
        reason = f"there are only {max(total.count for total in totals)} picks in the usable area"
    elif -lowest.mean > max(MIN_RESPONSE, MIN_SIGMA * lowest.error, 2 * best.mean):
        reason = "particles seem to be bright in these micrographs; use --set image.particles=bright"
    elif best.mean < MIN_RESPONSE or best.mean < MIN_SIGMA * best.error:
        reason = "the picks do not stand out in any frame; are micrographs, diameter and scale correct?"
    elif best.mean - second.mean < MIN_SIGMA * float(np.hypot(best.error, second.error)):
        reason = f"{FRAMES[order[0]].name} and {FRAMES[order[1]].name} fit alike; give more micrographs"
    return Verdict(totals, len(kept), None if reason else FRAMES[order[0]], reason)


def _mean(responses: Sequence[FrameResponse]) -> FrameResponse:
    """Return the mean over micrographs."""
    means = np.array([one.mean for one in responses])
    errors = np.array([one.error for one in responses])
    n = len(means)
    between = float(means.std(ddof=1) / np.sqrt(n)) if n > 2 else 0.0
    count = sum(one.count for one in responses)
    inside = float(np.mean([one.inside for one in responses]))
    return FrameResponse(float(means.mean()), max(float(np.sqrt((errors**2).sum()) / n), between), inside, count)
