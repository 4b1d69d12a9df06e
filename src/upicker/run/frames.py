"""Whether coordinates fit their micrographs as they are, or turned over: measured, not believed.

The micrograph is filtered with the Laplacians of Gaussians that fit the particles' size, as for proposals, and looked
up at the positions. Where there are particles the answer is higher than elsewhere; at positions turned the wrong way
it is that of any place. So the answers, less their mean over the usable ice and in units of their standard deviation
there, have a mean of 0 for a wrong frame and clearly above 0 for the right one. A shift of one pixel (``H - y``
against ``H - 1 - y``) cannot be seen in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from upicker.config import Config
from upicker.errors import ConfigError, InputError
from upicker.image.mask import usable
from upicker.image.prepare import prepare
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph, Particles
from upicker.propose.alog import filter_diameters, range_of, responses
from upicker.run.batch import Outcome, each
from upicker.run.convert import Found
from upicker.units import Length

# Half of the usual working scale is enough to tell particles from ice, in a quarter of the time.
WORKING_DIAMETER_PX = 16.0
# Fewer positions than this say nothing, however good they are.
FEWEST = 10
# So many standard errors apart is no chance, with five frames to choose from; and less than so much of the ice's own
# standard deviation is nothing that a picker or a person could have seen.
SURE, STRONG = 4.0, 0.15
# The picture shows a square of so many particle diameters.
SHOWN_DIAMETERS = 16


@dataclass(frozen=True)
class Frame:
    """A way in which coordinates may lie in a picture.

    Attributes
    ----------
    name : str
        In words.
    turn : callable
        `(n, 2)` positions and the picture's (rows, columns) -> positions in the picture as stored.
    """

    name: str
    turn: Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def _as_is(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return xy


def _down(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.stack([xy[:, 0], shape[0] - 1 - xy[:, 1]], 1)


def _across(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.stack([shape[1] - 1 - xy[:, 0], xy[:, 1]], 1)


def _round(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return _down(_across(xy, shape), shape)


def _transposed(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return xy[:, ::-1]


FRAMES = (
    Frame("as they are", _as_is),
    Frame("flipped top to bottom", _down),
    Frame("flipped left to right", _across),
    Frame("turned by 180 degrees", _round),
    Frame("rows and columns exchanged", _transposed),
)
AS_IS, FLIPPED = FRAMES[:2]


@dataclass(frozen=True)
class Answer:
    """How a picture answers at the positions of one frame.

    Attributes
    ----------
    mean : float
        Less that of the usable ice, in the ice's standard deviations; a position outside the picture counts 0.
    error : float
        Its standard error.
    inside : float
        Share of the positions inside the picture, 0..1.
    count : int
        Positions that count: those on unusable ground do not.
    """

    mean: float
    error: float
    inside: float
    count: int


@dataclass(frozen=True)
class Measured:
    """One micrograph: its answers in the order of `FRAMES`; `particles` is how many picks it has."""

    answers: tuple[Answer, ...]
    particles: int


@dataclass(frozen=True)
class Verdict:
    """What all micrographs say together.

    Attributes
    ----------
    answers : tuple of Answer
        Means over the micrographs, in the order of `FRAMES`.
    micrographs : int
        How many counted.
    fits : Frame or None
        The frame that fits; None if that cannot be told.
    reason : str
        Why it cannot be told; empty if it can.
    """

    answers: tuple[Answer, ...]
    micrographs: int
    fits: Frame | None
    reason: str = ""


@dataclass(frozen=True)
class Measuring:
    """Looks at one micrograph; picklable, for several processes.

    Attributes
    ----------
    picks : mapping of Path to Particles
        Raw pixels, in the frame that is to be checked.
    diameter : Length or None
        Of the particles; None: their own.
    config : Config
        Its room ``image`` is used, but for the working scale.
    reading : Reading
        How the micrographs are read.
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
        own = self.picks[path].diameter_px
        if not np.isfinite(own).any():
            raise ConfigError("--diameter", "the picks have no diameter", "Give it, e.g. --diameter 190A")
        return float(np.nanmedian(own))


def measure(micrograph: Micrograph, particles: Particles, diameter_px: float, config: Config) -> Measured:
    """Look a micrograph up at some positions, in every frame.

    Parameters
    ----------
    micrograph : Micrograph
        `(H, W)` raw pixels.
    particles : Particles
        Raw pixels, in an unknown frame.
    diameter_px : float
        Of one particle, raw pixels.
    config : Config
        Its room ``image``.

    Raises
    ------
    InputError
        If the diameter does not fit the picture, or nothing in the picture is usable ice.
    """
    image = replace(config.image, working_diameter_px=WORKING_DIAMETER_PX)
    prepared = prepare(micrograph, diameter_px, image)
    good = usable(prepared, image) if image.mask else np.ones(prepared.pixels.shape, bool)
    knobs, diameter = config.propose, prepared.working_diameter
    low, high = range_of(knobs)
    filters = filter_diameters(low * diameter, high * diameter)
    answers = responses(np.where(good, prepared.pixels, np.float32(0)), filters)[0].inside
    if not good.any() or not (spread := float(answers[good].std())) > 0:
        raise InputError(str(micrograph.path or micrograph.name), "nothing in it is usable ice", "Leave it out")
    level = (answers - answers[good].mean()) / spread
    rows, columns = level.shape

    def answer(frame: Frame) -> Answer:
        xy = frame.turn(particles.xy, micrograph.shape)
        inside = replace(particles, xy=xy).inside(micrograph.shape)
        column, row = np.rint(prepared.frame.to_working(xy[inside])).astype(int).T
        row, column = row.clip(0, rows - 1), column.clip(0, columns - 1)
        values = np.concatenate([level[row, column][good[row, column]], np.zeros(int((~inside).sum()))])
        if len(values) < 2:
            return Answer(0.0, float("inf"), float(inside.mean()) if len(inside) else 0.0, len(values))
        error = float(values.std(ddof=1) / np.sqrt(len(values)))
        return Answer(float(values.mean()), error, float(inside.mean()), len(values))

    return Measured(tuple(answer(frame) for frame in FRAMES), len(particles))


def measure_all(
    found: Sequence[Found], work: Measuring, most: int, jobs: int = 1
) -> Generator[Outcome[Measured], None, None]:
    """Measure the micrographs with most picks.

    Parameters
    ----------
    found : sequence of Found
        With their micrographs.
    work : Measuring
        What to do with each.
    most : int
        Look at so many at most.
    jobs : int
        Processes.
    """
    yield from each(chosen(found, most), work, jobs)


def chosen(found: Sequence[Found], most: int) -> list[Path]:
    """Return the micrographs to look at: those with most picks."""
    by_count = sorted(found, key=lambda one: -len(one.picks.particles))
    return [one.micrograph for one in by_count[:most] if one.micrograph is not None and len(one.picks.particles)]


def judge(measured: Sequence[Measured]) -> Verdict:
    """Say which frame fits.

    A frame fits if its answers are clearly above those of any place, and clearly above those of every other frame.
    The uncertainty of a mean over micrographs is the larger one of what the positions within them say, and what the
    micrographs' own means say.
    """
    kept = [one for one in measured if min(answer.count for answer in one.answers) >= 2]
    if not kept:
        return Verdict((), 0, None, "there are too few picks")
    totals = tuple(_mean([one.answers[i] for one in kept]) for i in range(len(FRAMES)))
    order = np.argsort([-total.mean for total in totals])
    best, second = totals[order[0]], totals[order[1]]
    lowest = min(totals, key=lambda total: total.mean)
    reason = ""
    if max(total.count for total in totals) < FEWEST:
        reason = f"there are only {max(total.count for total in totals)} picks on usable ice"
    elif -lowest.mean > max(STRONG, SURE * lowest.error, 2 * best.mean):
        reason = "particles seem to be bright in these micrographs; say so with --set image.particles=bright"
    elif best.mean < STRONG or best.mean < SURE * best.error:
        reason = "nothing is seen at the positions in any frame; are these the right micrographs, diameter and scale?"
    elif best.mean - second.mean < SURE * float(np.hypot(best.error, second.error)):
        reason = f"{FRAMES[order[0]].name} and {FRAMES[order[1]].name} fit alike; give more micrographs"
    return Verdict(totals, len(kept), None if reason else FRAMES[order[0]], reason)


def _mean(answers: Sequence[Answer]) -> Answer:
    """Return the mean over micrographs."""
    means = np.array([answer.mean for answer in answers])
    errors = np.array([answer.error for answer in answers])
    n = len(means)
    between = float(means.std(ddof=1) / np.sqrt(n)) if n > 2 else 0.0
    count = sum(answer.count for answer in answers)
    inside = float(np.mean([answer.inside for answer in answers]))
    return Answer(float(means.mean()), max(float(np.sqrt((errors**2).sum()) / n), between), inside, count)


def picture(path: Path, micrograph: Micrograph, particles: Particles, diameter_px: float, verdict: Verdict) -> None:
    """Draw a part of a micrograph twice: with its picks as they are, and flipped (or in the frame that fits).

    Parameters
    ----------
    path : Path
        The PNG to write.
    micrograph : Micrograph
        The picture.
    particles : Particles
        Raw pixels, in the frame that is checked.
    diameter_px : float
        Of the circles, raw pixels.
    verdict : Verdict
        For the titles, and the frame beside.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from upicker.draw.sheet import Panel, sheet  # matplotlib takes half a second

    other = verdict.fits if verdict.fits not in (None, AS_IS) else FLIPPED
    assert other is not None
    shown = [(frame, replace(particles, xy=frame.turn(particles.xy, micrograph.shape))) for frame in (AS_IS, other)]
    side = round(min(SHOWN_DIAMETERS * diameter_px, *micrograph.shape))
    x, y = _fullest(shown[0][1].xy, micrograph.shape, side)
    part = replace(micrograph, pixels=micrograph.pixels[y : y + side, x : x + side])
    panels = []
    for frame, turned in shown:
        local = replace(turned, xy=turned.xy - [x, y], diameter_px=np.full(len(turned), diameter_px))
        title = f"{micrograph.name[:40]}: {frame.name}"
        if verdict.answers:
            answer = verdict.answers[FRAMES.index(frame)]
            title += f", {answer.mean:.2f} ± {answer.error:.2f}"
        panels.append(Panel(part, diameter_px, title, local.select(local.inside(part.shape))))
    sheet(panels, path)


def _fullest(xy: np.ndarray, shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the first column and row of the square with most positions, of those half a side apart."""
    steps = [np.unique(np.linspace(0, n - side, max(1, 2 * n // side)).astype(int)) for n in shape]
    counts = {
        (int(x), int(y)): int(((xy >= [x, y]) & (xy < [x + side, y + side])).all(1).sum())
        for y in steps[0]
        for x in steps[1]
    }
    return max(counts, key=lambda place: counts[place])
