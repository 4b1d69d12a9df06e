"""Endless small images at the working scale, each of different particles: training data for a general model.

A tile has the scale of a prepared micrograph, a fixed number of pixels per *given* diameter, and is simulated at this
pixel size: lens, ice and counting do not depend on it, and the fine pixels of a camera would be averaged at once.
What users give is not exact: a particle's own diameter, its longest extension, is half to twice the given one.
Projections come from banks (`upicker.simulate.specimens.bank`).

What varies is drawn from the ranges of `Variety`. Tile `index` of a plan is always the same, whoever draws it and in
whatever order. So that banks are worth their making, tiles `n * refresh` to `(n + 1) * refresh - 1` use a pool of a few
particles; the next ones use a new pool: other sizes, other inner structure, other files.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy import ndimage

from upicker.errors import ConfigError
from upicker.particles import Particles
from upicker.simulate.contamination import Contamination
from upicker.simulate.ice import Ice
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.microscope.optics import Optics
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene, Simulated, make
from upicker.simulate.specimens.bank import Bank
from upicker.simulate.specimens.specimen import BUILT_IN, Source, load

Range = tuple[float, float]
# Discs of the smallest distance that cover more of the image than this take long to place.
MAX_COVERAGE = 0.5
# A particle serves as a training target if at least this fraction of it is visible.
MIN_VISIBLE = 0.35
# Tell apart random numbers of the same seed and index.
_POOL, _SCENE = 1, 2


@dataclass(frozen=True)
class Variety:
    """What varies between tiles: ranges (lowest, highest), and probabilities.

    Attributes
    ----------
    size_A : longest extension of built-in particles (log-uniform).
    given : the given diameter, as a multiple of a particle's own, the longest extension (log-triangular: most are near
        the middle).
    decoy : longest extension of decoys, in given diameters: smaller than all that is to be picked.
    per_diameter2 : particles per squared diameter of their own (log-uniform).
    min_distance : of two centres, in diameters of their own.
    clustered, broken, decoyed : largest fractions of particles in aggregates, broken ones, and decoys.
    mixed : probability of two kinds of particles in equal numbers, of which the second is built in, and has a longest
        extension of its own, which differs from the given diameter by as much as that of the first may.
    preferred : strength of preferred orientation (`Placement.preferred`), in a third of the tiles.
    voltages_kV, Cs_mm : of the microscopes; one of each is chosen.
    amplitude_contrast, envelope_B_A2, defocus_A : of the optics.
    dose_e_A2 : electrons that are counted (log-uniform).
    thickness_A, gradient, ice_noise, film : of the ice (its noise log-uniform).
    contaminated : probability of contaminants, at up to 0.6 of the level ``"much"`` of `Contamination`; without
        particles at least one half.
    filaments : mean number of filaments, which are not to be picked.
    carbon, empty : probabilities of a carbon edge, and of no particles.
    smooth_px, smoothed : standard deviation of Gaussian smoothing, in working pixels, as in denoised images, and the
        fraction of the tiles that are smoothed.
    """

    size_A: Range = (100.0, 300.0)
    given: Range = (0.5, 2.0)
    decoy: Range = (0.25, 0.4)
    per_diameter2: Range = (0.08, 1.1)
    min_distance: Range = (0.7, 1.1)
    clustered: float = 0.3
    broken: float = 0.1
    decoyed: float = 0.3
    mixed: float = 0.0
    preferred: Range = (-4.0, 4.0)
    voltages_kV: tuple[float, ...] = (300.0, 300.0, 200.0)
    Cs_mm: tuple[float, ...] = (2.7, 2.7, 2.0, 0.01)
    amplitude_contrast: Range = (0.06, 0.12)
    envelope_B_A2: Range = (40.0, 300.0)
    defocus_A: Range = (6000.0, 32000.0)
    dose_e_A2: Range = (1.0, 30.0)
    thickness_A: Range = (200.0, 900.0)
    gradient: Range = (0.0, 0.7)
    ice_noise: Range = (0.8, 5.0)
    film: Range = (1.0, 8.0)
    contaminated: float = 0.3
    filaments: float = 0.0
    carbon: float = 0.05
    empty: float = 0.04
    smooth_px: Range = (0.5, 3.0)
    smoothed: float = 0.3


@dataclass(frozen=True)
class TilePlan:
    """Which tiles to draw.

    Attributes
    ----------
    specimens : built-in names, files or PDB ids (see `upicker.simulate.specimens.specimen.load`).
    variety : what varies between tiles.
    pool : particles in use at a time.
    refresh : number of tiles after which the pool changes.
    views : beam directions in the bank of each particle.
    source : how specimens are loaded; built-in ones get seeds and sizes of their own.
    seed : of all random numbers.
    """

    specimens: tuple[str, ...] = BUILT_IN
    variety: Variety = field(default_factory=Variety)
    pool: int = 16
    refresh: int = 4000
    views: int = 128
    source: Source = field(default_factory=Source)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Member:
    """A particle of the pool, at the scale of a given diameter, another one of another size, and a decoy."""

    given_A: float
    particle: Bank
    other: Bank | None  # None where tiles never have two kinds
    decoy: Bank


class Tiles:
    """Draws the tiles of a plan.

    Parameters
    ----------
    plan : TilePlan
        Which tiles to draw.
    side_px : int
        Side of the square tiles.
    diameter_px : float
        One given diameter.

    Raises
    ------
    ConfigError
        If the plan has no specimens.
    """

    def __init__(self, plan: TilePlan, side_px: int, diameter_px: float) -> None:
        if not plan.specimens:
            raise ConfigError("specimens", "none given", f"Give a file or one of {', '.join(BUILT_IN)}")
        self.plan, self.side_px, self.diameter_px = plan, side_px, diameter_px
        self._members: OrderedDict[tuple[int, int], _Member] = OrderedDict()

    def make(self, index: int) -> Simulated:
        """Simulate tile `index`; the same index always gives the same tile.

        Returns
        -------
        Simulated
            `(side_px, side_px)` electron counts, before any preparation; particles have their own diameters.

        Raises
        ------
        UPickerError
            If a specimen's file cannot be used.
        """
        plan = self.plan
        rng = np.random.default_rng((plan.seed, index, _SCENE))
        member = self._member(index // plan.refresh, int(rng.integers(plan.pool)))
        scene = _scene(rng, plan.variety, member, self.side_px, self.diameter_px)
        known = {"particle": member.particle, "decoy": member.decoy}
        if member.other is not None:
            known["other"] = member.other
        simulated = make(replace(scene, seed=plan.seed), index, lambda name, _: known[name])
        if rng.random() >= plan.variety.smoothed:
            return simulated
        return _smoothed(simulated, rng.uniform(*plan.variety.smooth_px))

    def _member(self, generation: int, number: int) -> _Member:
        """Return a member of a generation's pool; this generation's and the previous one's are kept."""
        key = generation, number
        if key not in self._members:
            self._members[key] = self._new_member(generation, number)
            while len(self._members) > 2 * self.plan.pool:
                self._members.popitem(last=False)
        return self._members[key]

    def _new_member(self, generation: int, number: int) -> _Member:
        plan, variety = self.plan, self.plan.variety
        rng = np.random.default_rng((plan.seed, generation, _POOL, number))
        name = plan.specimens[(generation * plan.pool + number) % len(plan.specimens)]
        source = plan.source
        if name in BUILT_IN:
            size_A = _log_uniform(rng, variety.size_A)
            source = replace(source, seed=int(rng.integers(2**31)), diameter_A=size_A)
        specimen = load(name, source)
        given_A = specimen.diameter_A * _log_triangular(rng, variety.given)
        pixel_size_A = given_A / self.diameter_px

        def built_in(diameter_A: float) -> Bank:
            name = BUILT_IN[int(rng.integers(len(BUILT_IN)))]
            source = replace(plan.source, seed=int(rng.integers(2**31)), diameter_A=diameter_A)
            return Bank(load(name, source), pixel_size_A, max(1, plan.views // 4))

        # A decoy must differ in size: among particles of many kinds nothing else distinguishes it.
        decoy = built_in(given_A * rng.uniform(*variety.decoy))
        other = built_in(given_A / _log_triangular(rng, variety.given)) if variety.mixed else None
        return _Member(given_A, Bank(specimen, pixel_size_A, plan.views), other, decoy)


def learnable(simulated: Simulated) -> Particles:
    """Return the particles that a person would label: unbroken and sufficiently visible ones."""
    truth = simulated.truth
    return simulated.particles.select(~truth.broken & (truth.visible >= MIN_VISIBLE))


def _scene(rng: np.random.Generator, variety: Variety, member: _Member, side_px: int, diameter_px: float) -> Scene:
    """Return the random scene of one tile."""
    gap = rng.uniform(*variety.min_distance)
    density = _log_uniform(rng, variety.per_diameter2)
    mixed, empty = rng.random(2) < (variety.mixed, variety.empty)
    banks = (member.particle, member.other) if mixed and member.other is not None else (member.particle,)
    own_px2 = np.mean([(diameter_px * one.diameter_A / member.given_A) ** 2 for one in banks])
    particles = round(min(density, MAX_COVERAGE / (np.pi / 4 * gap**2)) * side_px**2 / own_px2)
    probable = max(variety.contaminated, 0.5) if empty and variety.contaminated else variety.contaminated
    level = rng.uniform(0.1, 0.6) if rng.random() < probable else 0.0
    much = Contamination.level("much")
    contamination = Contamination(**{f.name: level * getattr(much, f.name) for f in fields(much)})
    return Scene(
        specimens=("particle", "other") if mixed else ("particle",),
        shape=(side_px, side_px),
        pixel_size_A=member.given_A / diameter_px,
        particles=particles,
        placement=Placement(
            min_distance=gap,
            clustered=rng.uniform(0, variety.clustered) * (rng.random() < 0.3),
            broken=rng.uniform(0, variety.broken),
            decoys=("decoy",),
            decoy_share=rng.uniform(0, variety.decoyed) * (rng.random() < 0.3),
            preferred=rng.uniform(*variety.preferred) * (rng.random() < 0.3),
        ),
        ice=Ice(
            thickness_A=max(rng.uniform(*variety.thickness_A), 1.1 * 2 * max(one.radius_A for one in banks)),
            gradient=rng.uniform(*variety.gradient),
            noise=_log_uniform(rng, variety.ice_noise),
            film=rng.uniform(*variety.film),
        ),
        contamination=replace(contamination, filaments=variety.filaments),
        carbon=variety.carbon,
        empty=float(empty),
        dose_e_A2=_log_uniform(rng, variety.dose_e_A2),
        optics=Optics(
            voltage_kV=float(rng.choice(variety.voltages_kV)),
            Cs_mm=float(rng.choice(variety.Cs_mm)),
            amplitude_contrast=rng.uniform(*variety.amplitude_contrast),
            envelope_B_A2=rng.uniform(*variety.envelope_B_A2),
        ),
        defocus_A=variety.defocus_A,
        # In pixels this large the blur of a camera does not show, and its faulty pixels have been averaged out.
        detector=Detector("ideal", gain_error=0.0, hot_pixels=0.0, dead_pixels=0.0),
        measured=False,
    )


def _log_uniform(rng: np.random.Generator, limits: Range) -> float:
    """Return a log-uniform random number."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def _log_triangular(rng: np.random.Generator, limits: Range) -> float:
    """Return a random number whose logarithm has a symmetric triangular distribution."""
    return float(np.sqrt(_log_uniform(rng, limits) * _log_uniform(rng, limits)))


def _smoothed(simulated: Simulated, sigma_px: float) -> Simulated:
    """Smooth the image, as denoising programs do."""
    micrograph = simulated.micrograph
    pixels = ndimage.gaussian_filter(micrograph.pixels, sigma_px, mode="mirror")
    return replace(simulated, micrograph=replace(micrograph, pixels=pixels))
