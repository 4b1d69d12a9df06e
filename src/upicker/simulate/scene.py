"""Whole micrographs with known particles.

The way of the electrons: particles at random places, turned at random, in ice of uneven thickness and
grainy structure, here and there with a crystal of ice beside; the exit wave, through the lens
(`optics.intensity`); counted one by one (Poisson), and smeared a little by the detector.

What it leaves out: the particles' different heights in the ice, scattering at several depths, specimen motion
(only as part of the envelope), broken particles, carbon film.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from upicker.errors import ConfigError
from upicker.particles import Micrograph, Particles
from upicker.simulate.optics import Optics, intensity, interaction_rad_VA
from upicker.simulate.specimen import Specimen, build

ICE_V = 4.6  # mean potential of vitreous ice
ICE_MOLECULES_A3 = 0.0314  # water molecules per cubic Angstrom at 0.94 g/cm^3
WATER_VA3 = ICE_V / ICE_MOLECULES_A3  # one molecule's potential, integrated
# Molecules keep their distance, which leaves this share of the power that free ones have at low frequencies,
ICE_ORDER = 0.07
# and a film of unfolded protein on both surfaces adds several times as much, in grains of this length.
FILM_POWER, FILM_A = 4.0, 9.0
MEAN_FREE_PATH_A = 3100.0  # of inelastic scattering in ice at 300 kV: what is lost to the picture
CRYSTAL_PATH_A = 700.0  # crystals also throw electrons out of the aperture


@dataclass(frozen=True)
class Scene:
    """What to simulate.

    Attributes
    ----------
    shape : rows, columns of the picture.
    pixel_size_A : Angstrom per pixel.
    specimen : ``"barrel"`` or ``"globule"``.
    diameter_A : of the specimen (see `upicker.simulate.specimen`), and of the labels.
    particles : about how many have their centre in the picture; fewer where they do not fit.
    min_distance : of any two centres, in diameters; below about 0.8 particles overlap in projection.
    dose_e_A2 : electrons counted per square Angstrom where nothing but ice lies in the beam, on average.
    defocus_A : smallest and largest defocus; each picture has one in between, underfocus positive.
    optics : the microscope; its defocus is replaced.
    ice_thickness_A : mean thickness of the ice.
    ice_gradient : largest change of the thickness across the picture, as a share of the mean.
    ice_noise : strength of the ice's grainy structure; 1 as estimated, 0 none.
    contaminants : mean number of dark crystals in a picture.
    detector_blur_px : standard deviation of the detector's smear.
    seed : of everything; pictures of one scene show the same particle.
    """

    shape: tuple[int, int] = (960, 1024)
    pixel_size_A: float = 3.125
    specimen: str = "barrel"
    diameter_A: float = 150.0
    particles: int = 70
    min_distance: float = 0.9
    dose_e_A2: float = 25.0
    defocus_A: tuple[float, float] = (12000.0, 26000.0)
    optics: Optics = field(default_factory=Optics)
    ice_thickness_A: float = 450.0
    ice_gradient: float = 0.5
    ice_noise: float = 1.0
    contaminants: float = 0.7
    detector_blur_px: float = 0.4
    seed: int = 0

    @property
    def diameter_px(self) -> float:
        """One particle diameter in pixels."""
        return self.diameter_A / self.pixel_size_A


@dataclass(frozen=True, eq=False)
class Simulated:
    """A picture and the truth about it.

    Attributes
    ----------
    micrograph : Micrograph
        Counts of electrons, float32; particles dark.
    particles : Particles
        All that have their centre in the picture, score 1; further ones reach into it from outside.
    unusable : np.ndarray
        `(H, W)` bool: under a contaminant. No particle has its centre there.
    rotations : np.ndarray
        `(n, 3, 3)` how each particle is turned (see `Specimen.projection`).
    defocus_A : float
        Underfocus positive.
    """

    micrograph: Micrograph
    particles: Particles
    unusable: np.ndarray
    rotations: np.ndarray
    defocus_A: float


def make(scene: Scene, index: int = 0) -> Simulated:
    """Simulate one picture of a scene.

    Parameters
    ----------
    scene : Scene
        What to show.
    index : int
        Which picture of the scene; the same scene and index give the same picture.

    Raises
    ------
    ConfigError
        If a knob is outside its range, or the specimen is unknown.
    """
    _check(scene)
    rng = np.random.default_rng((scene.seed, index))
    specimen = build(scene.specimen, scene.diameter_A, scene.seed)
    margin, canvas = _canvas(scene, specimen)
    inside = tuple(slice(margin, margin + n) for n in scene.shape)

    crystals = _crystals(rng, scene, canvas, margin)
    xy = _positions(rng, scene, canvas, crystals > 0)
    rotations = Rotation.from_quat(rng.normal(size=(len(xy), 4))).as_matrix()
    optics = replace(scene.optics, defocus_A=float(rng.uniform(*scene.defocus_A)))

    ice_A = _ice_thickness(rng, scene, canvas)
    potential_VA = _ice_structure(rng, scene, ice_A)
    for place, rotation in zip(xy, rotations, strict=True):
        _add(potential_VA, specimen, rotation, place, scene.pixel_size_A)
    counts = _expose(rng, scene, optics, potential_VA, ice_A, crystals)[inside]
    if scene.detector_blur_px > 0:
        counts = ndimage.gaussian_filter(counts, scene.detector_blur_px, mode="mirror")

    particles = Particles.of(xy - margin, scene.diameter_px)
    seen = particles.inside(scene.shape)
    return Simulated(
        Micrograph(np.ascontiguousarray(counts), f"simulated_{index:03d}", scene.pixel_size_A),
        particles.select(seen),
        crystals[inside] > 0,
        rotations[seen],
        optics.defocus_A,
    )


def _check(scene: Scene) -> None:
    for name in ("pixel_size_A", "diameter_A", "dose_e_A2", "ice_thickness_A"):
        if not getattr(scene, name) > 0:
            raise ConfigError(name, f"{getattr(scene, name):g} is not positive", "Give a positive number")
    if scene.diameter_px < 4:
        raise ConfigError("pixel_size_A", f"a particle is {scene.diameter_px:.1f} pixels wide", "Make them smaller")


def _canvas(scene: Scene, specimen: Specimen) -> tuple[int, tuple[int, int]]:
    """Return the margin around the picture and the shape with it: room for what reaches in, and fringes."""
    margin = int(np.ceil(2 * specimen.radius_A / scene.pixel_size_A))
    rows, columns = (fft.next_fast_len(n + 2 * margin) for n in scene.shape)
    return margin, (rows, columns)  # pyright: ignore[reportReturnType]


def _crystals(rng: np.random.Generator, scene: Scene, canvas: tuple[int, int], margin: int) -> np.ndarray:
    """Return `(h, w)` float32, the thickness in Angstrom of roundish ice crystals lying on the specimen."""
    thickness = np.zeros(canvas, np.float32)
    for _ in range(rng.poisson(scene.contaminants)):
        middle = rng.uniform(margin, margin + np.array(scene.shape))
        radius = scene.diameter_px * np.exp(rng.uniform(np.log(0.8), np.log(2.5)))
        height_A = rng.uniform(0.4, 2) * radius * scene.pixel_size_A
        first, last = np.maximum(middle - 2 * radius, 0).astype(int), (middle + 2 * radius).astype(int)
        window = thickness[first[0] : last[0], first[1] : last[1]]
        y, x = (np.arange(n) + o - m for n, o, m in zip(window.shape, first, middle, strict=True))
        angle = np.arctan2(y[:, None], x[None, :])
        outline = np.ones(window.shape)
        for m in range(1, 6):
            outline += rng.normal(0, 0.12 / m) * np.cos(m * angle + rng.uniform(0, 2 * np.pi))
        distance2 = (y[:, None] ** 2 + x[None, :] ** 2) / (radius * np.clip(outline, 0.3, 1.9)) ** 2
        profile = np.clip(1 - distance2, 0, None) ** 0.75
        np.maximum(window, height_A * profile, out=window, casting="same_kind")
    return thickness


def _positions(rng: np.random.Generator, scene: Scene, canvas: tuple[int, int], blocked: np.ndarray) -> np.ndarray:
    """Throw particles on the canvas; one that falls on a crystal or too near to another is thrown again."""
    wanted = round(scene.particles * canvas[0] * canvas[1] / (scene.shape[0] * scene.shape[1]))
    gap2 = (scene.min_distance * scene.diameter_px) ** 2
    xy = np.empty((wanted, 2))
    count = 0
    for place in rng.uniform(0, (canvas[1] - 1, canvas[0] - 1), (60 * wanted, 2)):
        free = not blocked[round(place[1]), round(place[0])]
        if free and (((xy[:count] - place) ** 2).sum(1) >= gap2).all():
            xy[count] = place
            count += 1
            if count == wanted:
                break
    return xy[:count]


def _ice_thickness(rng: np.random.Generator, scene: Scene, canvas: tuple[int, int]) -> np.ndarray:
    """Return `(h, w)` float32 Angstrom: a slope, and ice that is thinner in the middle of its hole."""
    rows, columns = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in canvas)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1)
    slope = rows[:, None] * np.sin(angle) + columns[None, :] * np.cos(angle)
    hole = 2 * (rows[:, None] ** 2 + columns[None, :] ** 2) - 1 / 3
    relative = 1 + scene.ice_gradient * ((1 - bend / 2) * slope + bend / 2 * hole)
    return (scene.ice_thickness_A * np.clip(relative, 0.1, None)).astype(np.float32)


def _ice_structure(rng: np.random.Generator, scene: Scene, ice_A: np.ndarray) -> np.ndarray:
    """Return `(h, w)` float32 volt times Angstrom: the projected potential of ice, about its mean.

    Free molecules would make white noise of variance (molecules per pixel) x (potential of one)^2; their order
    and the film on the surfaces colour it.
    """
    k = np.hypot(
        np.fft.fftfreq(ice_A.shape[0], scene.pixel_size_A)[:, None],
        np.fft.rfftfreq(ice_A.shape[1], scene.pixel_size_A)[None, :],
    )
    power = ICE_ORDER * (1 + FILM_POWER / (1 + (2 * np.pi * FILM_A * k) ** 2))
    white = np.asarray(fft.rfft2(rng.standard_normal(ice_A.shape, np.float32)))
    white *= np.sqrt(power).astype(np.float32)
    grain = np.asarray(fft.irfft2(white, ice_A.shape, overwrite_x=True))
    strength_VA2 = np.float32(scene.ice_noise * WATER_VA3 / scene.pixel_size_A)
    return strength_VA2 * np.sqrt(ICE_MOLECULES_A3 * ice_A) * grain


def _add(canvas: np.ndarray, specimen: Specimen, rotation: np.ndarray, place: np.ndarray, pixel_size_A: float) -> None:
    """Add one particle's projection to the canvas, between pixels too; what lies outside is cut off."""
    half = int(np.ceil(specimen.radius_A / pixel_size_A))
    size = 2 * half + 1
    column, row = np.round(place).astype(int)
    picture = specimen.projection(rotation, size, pixel_size_A, (place[0] - column, place[1] - row))
    top, left = max(half - row, 0), max(half - column, 0)
    target = canvas[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
    target += picture[top : top + target.shape[0], left : left + target.shape[1]]


def _expose(
    rng: np.random.Generator,
    scene: Scene,
    optics: Optics,
    potential_VA: np.ndarray,
    ice_A: np.ndarray,
    crystals_A: np.ndarray,
) -> np.ndarray:
    """Return `(h, w)` float32, the electrons counted in each pixel of the canvas."""
    strength = interaction_rad_VA(optics.voltage_kV)
    weak = strength * potential_VA
    amplitude = np.tan(np.arcsin(optics.amplitude_contrast))
    absorption = amplitude * weak + crystals_A / (2 * CRYSTAL_PATH_A)
    picture = intensity(weak + strength * ICE_V * crystals_A, absorption, scene.pixel_size_A, optics)
    # The lens does not see the loss in smooth ice: it is applied afterwards, relative to the mean.
    loss = np.exp(-ice_A / MEAN_FREE_PATH_A)
    electrons = scene.dose_e_A2 * scene.pixel_size_A**2 * picture * (loss / loss.mean())
    return rng.poisson(electrons).astype(np.float32)
