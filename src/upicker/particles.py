"""The two central values of the package: a micrograph, and the particles in it.

The coordinate contract: positions are floats, in pixels of the raw micrograph as stored; ``x`` runs along
array columns, ``y`` along array rows, and ``(0, 0)`` is the centre of the first stored pixel. Formats and
flips are converted in ``io/`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

# The names in `Particles.extra`: class number and in-plane angle psi in degrees, as in RELION; and the identifier that
# the page gives a label, empty where there is none.
EXTRA = ("class_number", "psi_deg", "label_key")


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One micrograph.

    Attributes
    ----------
    pixels : np.ndarray
        `(H, W)` float32, as stored: any offset and scale, possibly non-finite values.
    name : str
        The file's stem; labels, picks and micrographs are matched by it.
    pixel_size_A : float or None
        Angstrom per raw pixel, where known.
    path : Path or None
        The file it was read from.
    unusable : np.ndarray or None
        `(r, c)` bool, True = unusable: the user's contamination mask, of any size with the same aspect ratio.
    """

    pixels: np.ndarray
    name: str
    pixel_size_A: float | None = None
    path: Path | None = None
    unusable: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.pixels.shape

    def rows(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return every `step`-th row from `start` to `stop`, `(n, W)` float32, perhaps a view of the pixels."""
        return self.pixels[start:stop:step].astype(np.float32, copy=False)

    def with_unusable(self, unusable: np.ndarray) -> Micrograph:
        """Return it with a contamination mask."""
        return replace(self, unusable=unusable)

    def without_pixels(self) -> Micrograph:
        """Return it with pixels that are all 0 and take no memory, for those who need the shape and the names."""
        nothing = np.broadcast_to(np.float32(0), self.shape)
        return Micrograph(nothing, self.name, self.pixel_size_A, self.path)


class ScoreKind(StrEnum):
    """What the scores of particles are. Scores of different kinds must not be compared."""

    NONE = "none"
    """Labels: they have no score, which stands as 1."""
    PROBABILITY = "probability"
    """Picks: that of the network, 0..1."""
    FILTER_RESPONSE = "filter_response"
    """A-LoG proposals: eq. (1) on the normalised micrograph, in robust standard deviations of the micrograph."""
    CORRELATION = "correlation"
    """Proposals with a template: in standard deviations of the correlation with white noise."""
    GIVEN = "given"
    """As given by another program, or joined from several kinds: higher is better, and nothing else is known."""

    @property
    def noun(self) -> str:
        """Its name: ``template correlation``."""
        return _WORDS[self][0]

    @property
    def unit(self) -> str:
        """Its unit behind a number: ``σ``, or nothing."""
        return _WORDS[self][1][:1]

    @property
    def words(self) -> str:
        """Its name and unit, as on the axis of a chart: ``template correlation (σ of noise)``."""
        noun, unit = _WORDS[self]
        return f"{noun} ({unit})" if unit else noun

    @property
    def declaration(self) -> str | None:
        """The word by which files declare it; None for NONE and GIVEN, the kinds of files without a declaration."""
        return None if self in (ScoreKind.NONE, ScoreKind.GIVEN) else str(self)

    def text(self, score: float, to: float | None = None) -> str:
        """Return a score or a range in words: ``probability 0.31 to 0.9``, ``filter response 4.2 σ``, ``score 17``."""
        numbers = f"{score:.3g}" if to is None else f"{score:.3g} to {to:.3g}"
        return f"{self.noun} {numbers} {self.unit}".rstrip()


_WORDS = {
    ScoreKind.NONE: ("score", ""),
    ScoreKind.PROBABILITY: ("probability", ""),
    ScoreKind.FILTER_RESPONSE: ("filter response", "σ of the micrograph"),
    ScoreKind.CORRELATION: ("template correlation", "σ of noise"),
    ScoreKind.GIVEN: ("score", ""),
}


def common_kind(parts: Collection[Particles]) -> ScoreKind:
    """Return the kind of score of all sets with particles, or GIVEN if they are of several kinds."""
    kinds = {one.score_kind for one in parts if len(one)} or {one.score_kind for one in parts}
    return kinds.pop() if len(kinds) == 1 else ScoreKind.GIVEN


@dataclass(frozen=True, eq=False)
class Particles:
    """Positions of particles in one micrograph, in the frame of the coordinate contract above.

    Attributes
    ----------
    xy : np.ndarray
        `(n, 2)` float64, centres in raw pixels: column, row.
    diameter_px : np.ndarray
        `(n,)` float64, in raw pixels; NaN where a file does not give it.
    score : np.ndarray
        `(n,)` float64, higher is better; 1 for labels. In the unit of `score_kind`.
    extra : mapping of str to np.ndarray
        Other columns of some files, `(n, ...)` each, by the names of `EXTRA`; carried along, never computed with.
    score_kind : ScoreKind
        What `score` is.
    """

    xy: np.ndarray
    diameter_px: np.ndarray
    score: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    score_kind: ScoreKind = ScoreKind.GIVEN

    @classmethod
    def of(
        cls,
        xy: object,
        diameter_px: object = float("nan"),
        score: object = 1.0,
        score_kind: ScoreKind | None = None,
    ) -> Particles:
        """Build from anything array-like; a scalar diameter or score holds for all.

        Without `score_kind` that is NONE if all scores are 1, as those of labels, and else GIVEN.
        """
        centres = np.asarray(xy, np.float64).reshape(-1, 2)
        n = len(centres)
        diameters, scores = np.empty(n), np.empty(n)
        diameters[:], scores[:] = np.asarray(diameter_px, np.float64), np.asarray(score, np.float64)
        kind = score_kind or (ScoreKind.NONE if (scores == 1).all() else ScoreKind.GIVEN)
        return cls(centres, diameters, scores, score_kind=kind)

    @classmethod
    def concatenate(cls, parts: list[Particles]) -> Particles:
        """Join several sets, in their order; of `extra`, what all of them have.

        The kind of score is that of `common_kind`.
        """
        if not parts:
            return cls.of([])
        shared = [name for name in parts[0].extra if all(name in p.extra for p in parts)]
        return cls(
            np.concatenate([p.xy for p in parts]),
            np.concatenate([p.diameter_px for p in parts]),
            np.concatenate([p.score for p in parts]),
            {name: np.concatenate([p.extra[name] for p in parts]) for name in shared},
            common_kind(parts),
        )

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def median_diameter_px(self) -> float | None:
        """The median of the diameters that are known, raw pixels; None if there is not one."""
        known = self.diameter_px[np.isfinite(self.diameter_px)]
        return float(np.median(known)) if len(known) else None

    def select(self, index: np.ndarray) -> Particles:
        """Return the particles selected by a boolean mask or an integer index."""
        extra = {name: values[index] for name, values in self.extra.items()}
        return Particles(self.xy[index], self.diameter_px[index], self.score[index], extra, self.score_kind)

    def by_score(self) -> Particles:
        """Return the particles by falling score (ties keep their order)."""
        return self.select(np.argsort(-self.score, kind="stable"))

    def above(self, threshold: float) -> Particles:
        """Return the particles with a score of at least `threshold`."""
        return self.select(self.score >= threshold)

    def distinct(self) -> tuple[Particles, int, int]:
        """Leave out particles at exactly the position of another one; the one with the highest score stays.

        Returns
        -------
        particles : Particles
            Each position once, in the order of the first.
        positions : int
            Number of positions that stood more than once.
        left_out : int
            Number of particles left out.
        """
        # As complex numbers, pairs are sorted five times as fast; most files have no position twice.
        if len(np.unique(np.ascontiguousarray(self.xy).view(np.complex128))) == len(self):
            return self, 0, 0
        order = np.argsort(-self.score, kind="stable")
        _, first, counts = np.unique(self.xy[order], axis=0, return_index=True, return_counts=True)
        return self.select(np.sort(order[first])), int((counts > 1).sum()), len(self) - len(first)

    def with_diameter(self, diameter_px: float, only_missing: bool = False) -> Particles:
        """Return the particles with one diameter (raw pixels), or with missing diameters filled in."""
        known = np.isfinite(self.diameter_px) & only_missing
        return replace(self, diameter_px=np.where(known, self.diameter_px, diameter_px))

    def inside(self, shape: tuple[int, int]) -> np.ndarray:
        """Return, as an `(n,)` bool, which centres lie in an image of `shape` (rows, columns)."""
        last = np.array([shape[1] - 0.5, shape[0] - 0.5])
        return np.all((self.xy >= -0.5) & (self.xy <= last), axis=1)
