"""Endless small pictures at the working scale, each of another kind: what a general model learns from.

The scale of a tile is that of a prepared micrograph, one labelled diameter to so many pixels, and it is simulated at
just these pixels: the lens, the ice and the counting of electrons do not care how large a pixel is, and the fine
pixels that a camera has would be thrown away at once. Projections come from banks (`upicker.simulate.specimens.bank`).

What varies is drawn by `Variety`'s ranges. Tile `index` of a plan is always the same, whoever draws it and in
whatever order. So that banks are worth their making, tiles `n * refresh` to `(n + 1) * refresh - 1` share a cast of a
few particles; the next ones get a new cast: other sizes, other inner structure, other files.
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
# Discs of the smallest distance that cover more of the picture than this take long to place.
FILLED = 0.5
# A particle is there to be learned if at least so much of it can be seen.
VISIBLE = 0.35
# Random numbers of different use with the same seed and index.
_CAST, _SCENE = 1, 2


@dataclass(frozen=True)
class Variety:
    """From what to what tiles vary; lowest and highest, or a probability.

    Attributes
    ----------
    size_A : longest extension of built-in particles (evenly on a logarithmic scale).
    decoy : that of decoys, in labelled diameters.
    label : the labelled diameter, in the particle's longest extension: users measure differently.
    per_diameter2 : particles per square labelled diameter (evenly on a logarithmic scale).
    min_distance : of two centres, in labelled diameters.
    clustered, broken, decoyed : largest shares of particles in aggregates, broken ones, and decoys.
    preferred : how much one orientation is preferred (`Placement.preferred`), in a third of the tiles.
    voltages_kV, Cs_mm : of the microscopes, one of each.
    amplitude_contrast, envelope_B_A2, defocus_A : of the optics.
    dose_e_A2 : electrons that the camera makes use of (on a logarithmic scale).
    thickness_A, gradient, ice_noise, film : of the ice (its noise on a logarithmic scale).
    contaminated : probability of contaminants, at up to 0.6 of the level ``"much"`` of `Contamination`.
    carbon, empty : probability of a carbon edge, and of no particles.
    smooth_px, smoothed : standard deviation of a Gaussian, in working pixels, as denoised pictures have, and in which
        share of the tiles.
    """

    size_A: Range = (100.0, 300.0)
    decoy: Range = (0.3, 0.55)
    label: Range = (0.85, 1.25)
    per_diameter2: Range = (0.08, 1.1)
    min_distance: Range = (0.7, 1.1)
    clustered: float = 0.3
    broken: float = 0.1
    decoyed: float = 0.3
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
    carbon: float = 0.05
    empty: float = 0.04
    smooth_px: Range = (0.5, 3.0)
    smoothed: float = 0.3


@dataclass(frozen=True)
class TilePlan:
    """What tiles to draw.

    Attributes
    ----------
    specimens : built-in names, files or PDB ids (see `upicker.simulate.specimens.specimen.load`).
    variety : how they are shown.
    cast : particles in use at a time.
    refresh : tiles after which the cast changes.
    views : directions of the beam kept of each particle.
    source : how specimens are loaded; built-in ones get seeds and sizes of their own.
    seed : of everything.
    """

    specimens: tuple[str, ...] = BUILT_IN
    variety: Variety = field(default_factory=Variety)
    cast: int = 16
    refresh: int = 4000
    views: int = 128
    source: Source = field(default_factory=Source)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class _Role:
    """A particle of the cast, at the working scale, and what may lie beside it but is not it."""

    label_A: float
    particle: Bank
    decoy: Bank


class Tiles:
    """Draws the tiles of a plan.

    Parameters
    ----------
    plan : TilePlan
        What to draw.
    side_px : int
        Side of the square pictures.
    diameter_px : float
        One labelled diameter.

    Raises
    ------
    ConfigError
        If the plan names no specimen, or one that there is not.
    """

    def __init__(self, plan: TilePlan, side_px: int, diameter_px: float) -> None:
        if not plan.specimens:
            raise ConfigError("specimens", "there is none", f"Name a file or one of {', '.join(BUILT_IN)}")
        self.plan, self.side_px, self.diameter_px = plan, side_px, diameter_px
        self._roles: OrderedDict[tuple[int, int], _Role] = OrderedDict()

    def make(self, index: int) -> Simulated:
        """Simulate tile `index`; the same index always gives the same.

        Returns
        -------
        Simulated
            `(side_px, side_px)` counts of electrons, before any preparation; particles' diameters are `diameter_px`.

        Raises
        ------
        UPickerError
            If a specimen's file cannot be used.
        """
        plan = self.plan
        rng = np.random.default_rng((plan.seed, index, _SCENE))
        role = self._role(index // plan.refresh, int(rng.integers(plan.cast)))
        scene = _scene(rng, plan.variety, role, self.side_px, self.diameter_px)
        known = {"particle": role.particle, "decoy": role.decoy}
        simulated = make(replace(scene, seed=plan.seed), index, lambda name, _: known[name])
        if rng.random() >= plan.variety.smoothed:
            return simulated
        return _smoothed(simulated, rng.uniform(*plan.variety.smooth_px))

    def _role(self, generation: int, number: int) -> _Role:
        """Return a member of a generation's cast; those in use and the former ones are remembered."""
        key = generation, number
        if key not in self._roles:
            self._roles[key] = self._cast(generation, number)
            while len(self._roles) > 2 * self.plan.cast:
                self._roles.popitem(last=False)
        return self._roles[key]

    def _cast(self, generation: int, number: int) -> _Role:
        plan, variety = self.plan, self.plan.variety
        rng = np.random.default_rng((plan.seed, generation, _CAST, number))
        name = plan.specimens[(generation * plan.cast + number) % len(plan.specimens)]
        source = plan.source
        if name in BUILT_IN:
            size_A = _logarithmic(rng, variety.size_A)
            source = replace(source, seed=int(rng.integers(2**31)), diameter_A=size_A)
        specimen = load(name, source)
        label_A = specimen.diameter_A * rng.uniform(*variety.label)
        pixel_size_A = label_A / self.diameter_px
        # A decoy must differ in size: with many kinds of particles to learn, nothing else tells that it is none.
        other = BUILT_IN[int(rng.integers(len(BUILT_IN)))]
        source = replace(plan.source, seed=int(rng.integers(2**31)), diameter_A=label_A * rng.uniform(*variety.decoy))
        decoy = Bank(load(other, source), pixel_size_A, max(1, plan.views // 4))
        return _Role(label_A, Bank(specimen, pixel_size_A, plan.views), decoy)


def learnable(simulated: Simulated) -> Particles:
    """Return the particles of a picture that a person would label: whole ones, of which enough can be seen."""
    truth = simulated.truth
    return simulated.particles.select(~truth.broken & (truth.visible >= VISIBLE))


def _scene(rng: np.random.Generator, variety: Variety, role: _Role, side_px: int, diameter_px: float) -> Scene:
    """Draw what one tile shows."""
    gap = rng.uniform(*variety.min_distance)
    crowd = _logarithmic(rng, variety.per_diameter2)
    particles = round(min(crowd, FILLED / (np.pi / 4 * gap**2)) * (side_px / diameter_px) ** 2)
    level = rng.uniform(0.1, 0.6) if rng.random() < variety.contaminated else 0.0
    much = Contamination.level("much")
    return Scene(
        specimens=("particle",),
        diameter_A=role.label_A,
        shape=(side_px, side_px),
        pixel_size_A=role.label_A / diameter_px,
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
            thickness_A=max(rng.uniform(*variety.thickness_A), 1.1 * 2 * role.particle.radius_A),
            gradient=rng.uniform(*variety.gradient),
            noise=_logarithmic(rng, variety.ice_noise),
            film=rng.uniform(*variety.film),
        ),
        contamination=Contamination(**{f.name: level * getattr(much, f.name) for f in fields(much)}),
        carbon=variety.carbon,
        empty=variety.empty,
        dose_e_A2=_logarithmic(rng, variety.dose_e_A2),
        optics=Optics(
            voltage_kV=float(rng.choice(variety.voltages_kV)),
            Cs_mm=float(rng.choice(variety.Cs_mm)),
            amplitude_contrast=rng.uniform(*variety.amplitude_contrast),
            envelope_B_A2=rng.uniform(*variety.envelope_B_A2),
        ),
        defocus_A=variety.defocus_A,
        # In pixels as large as these a camera's blur is not seen, and its faulty pixels have been averaged away.
        detector=Detector("ideal", gain_error=0.0, hot_pixels=0.0, dead_pixels=0.0),
        measured=False,
    )


def _logarithmic(rng: np.random.Generator, limits: Range) -> float:
    """Draw evenly on a logarithmic scale."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def _smoothed(simulated: Simulated, sigma_px: float) -> Simulated:
    """Smear the picture, as programs that denoise do."""
    micrograph = simulated.micrograph
    pixels = ndimage.gaussian_filter(micrograph.pixels, sigma_px, mode="mirror")
    return replace(simulated, micrograph=replace(micrograph, pixels=pixels))
