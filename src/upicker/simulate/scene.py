"""Whole micrographs with known particles.

Particles lie at random positions, heights and orientations in ice of uneven thickness with structure noise, with some
contaminants and sometimes the edge of the carbon film. The exit wave passes the lens, and the camera counts electrons.
Each part has a random generator of its own, so that with more contamination the particles stay where they were.

Not simulated: the motion between the frames of a movie (only its effect on their sum), charging, local changes of
magnification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from upicker.errors import ConfigError
from upicker.particles import Micrograph, Particles
from upicker.simulate import carbon, contamination, exposure, ice, knobs
from upicker.simulate.background import Background, image
from upicker.simulate.contamination import Contamination
from upicker.simulate.grid import Grid
from upicker.simulate.ice import Attenuation, Ice
from upicker.simulate.microscope.damage import damage_curve, motion_curve, water_curve
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.microscope.optics import Optics, speed2, wavelength_A
from upicker.simulate.placement import Area, Placement, heights, orientations, positions
from upicker.simulate.projecting import Placed, Projected, ProjectionSettings, project
from upicker.simulate.specimens.specimen import Source, Specimen, load

MIN_DIAMETER_PX = 4
MAX_PIXELS = 16384**2  # of an image: above, a simulation takes more than 16 GiB of memory
Load = Callable[[str, Source], Specimen]


@dataclass(frozen=True)
class Scene:
    """What to simulate.

    Attributes
    ----------
    specimens : built-in names, files or PDB ids (see `upicker.simulate.specimens.specimen.load`); in equal numbers.
    diameter_A : of the labels; None: each specimen's own.
    shape : rows, columns of the image.
    pixel_size_A : Angstrom per pixel.
    particles : how many have their centre in the image.
    placement : their positions and orientations.
    ice : the ice around them.
    contamination : what lies on the ice.
    carbon : fraction of the images with an edge of carbon film.
    empty : fraction of the images without particles.
    dose_e_A2 : electrons per square Angstrom that reach the camera, on average over the ice of the image; the
        camera counts them with its efficiency.
    dose_weighted : whether frames were dose-weighted before they were summed.
    motion_A : standard deviation of the specimen's position during the exposure, after motion correction.
    optics : the microscope; its defocus and astigmatism are replaced by those of each image.
    defocus_A : smallest and largest defocus; that of each image is random in between, underfocus positive.
    astigmatism_A : largest astigmatism; that of each image is random below, in any direction.
    detector : the camera.
    snr : variance of the particles over that of everything else, within their discs: the dose is chosen to give it,
        with radiation damage as at `dose_e_A2`; None: it follows from the dose.
    measured : whether the SNR of each image is measured, which takes a fifth of the time of a small image.
    source : how specimens are loaded.
    seed : of all random numbers; all images of a scene show the same specimen.

    Raises
    ------
    ConfigError
        If a value is outside its range.
    """

    specimens: tuple[str, ...] = ("barrel",)
    diameter_A: float | None = None
    shape: tuple[int, int] = (960, 1024)
    pixel_size_A: float = 3.125
    particles: int = 70
    placement: Placement = field(default_factory=Placement)
    ice: Ice = field(default_factory=Ice)
    contamination: Contamination = field(default_factory=Contamination)
    carbon: float = 0.0
    empty: float = 0.0
    dose_e_A2: float = 25.0
    dose_weighted: bool = True
    motion_A: float = 0.6
    optics: Optics = field(default_factory=Optics)
    defocus_A: tuple[float, float] = (12000.0, 26000.0)
    astigmatism_A: float = 300.0
    detector: Detector = field(default_factory=Detector)
    snr: float | None = None
    measured: bool = True
    source: Source = field(default_factory=Source)
    seed: int = 0

    def __post_init__(self) -> None:
        knobs.positive(
            self, "pixel_size_A", "dose_e_A2", *(n for n in ("diameter_A", "snr") if getattr(self, n) is not None)
        )
        knobs.not_negative(self, "particles", "motion_A", "astigmatism_A")
        knobs.fraction(self, "carbon", "empty")
        if not self.specimens:
            raise ConfigError("specimens", "none given", "Give at least one")
        low, high = self.defocus_A
        if low > high:
            raise ConfigError("defocus_A", f"{low:g} is more than {high:g}", "Give the smallest, then the largest")
        rows, columns = self.shape
        if min(rows, columns) < 1 or rows * columns > MAX_PIXELS:
            side = int(MAX_PIXELS**0.5)
            raise ConfigError("shape", f"{rows} x {columns} is out of range", f"Give 1 x 1 to {side} x {side} pixels")


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth about `n` particles, in the order of `Simulated.particles`.

    Attributes
    ----------
    specimen : np.ndarray
        `(n,)` int, index into the scene's specimens.
    rotations : np.ndarray
        `(n, 3, 3)` orientations, see `Specimen.projection`.
    height_A : np.ndarray
        `(n,)` above the middle of the ice, towards the electron source.
    defocus_A : np.ndarray
        `(n,)` of each particle: that of the image less its height.
    visible : np.ndarray
        `(n,)` fraction of its outline that is in the image, in the usable area and under no other particle.
    broken : np.ndarray
        `(n,)` bool: whether a part of it is missing.
    """

    specimen: np.ndarray
    rotations: np.ndarray
    height_A: np.ndarray
    defocus_A: np.ndarray
    visible: np.ndarray
    broken: np.ndarray


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated micrograph and the truth about it.

    Attributes
    ----------
    micrograph : Micrograph
        Electron counts, float32; particles are dark.
    particles : Particles
        All with their centre in the usable area of the image, score 1; parts of others may be visible.
    truth : Truth
        Orientations, heights and more of these particles.
    decoys : Particles
        Other structures with their centre in the usable area of the image.
    unusable : np.ndarray
        `(H, W)` bool: under a contaminant or on carbon.
    defocus_A, astigmatism_A, astigmatism_deg : float
        Of the image, as in `Optics`.
    thickness_A : float
        Mean thickness of the ice in the image.
    dose_e_A2 : float
        Electrons per square Angstrom that reached the camera: that of the scene, unless it has an SNR.
    snr : float
        As measured: variance of the particles over that of everything else, within their discs; NaN if unknown.
    """

    micrograph: Micrograph
    particles: Particles
    truth: Truth
    decoys: Particles
    unusable: np.ndarray
    defocus_A: float
    astigmatism_A: float
    astigmatism_deg: float
    thickness_A: float
    dose_e_A2: float
    snr: float


def make(scene: Scene, index: int = 0, load: Load = load) -> Simulated:
    """Simulate one image of a scene.

    Parameters
    ----------
    scene : Scene
        What to simulate.
    index : int
        Number of the image; the same scene and number give the same image.
    load : callable
        Returns the specimen of a name.

    Raises
    ------
    ConfigError
        If a value is outside its range, the particles do not fit, or the SNR cannot be reached.
    UPickerError
        If a specimen cannot be loaded.
    """
    structures = [load(name, scene.source) for name in (*scene.specimens, *scene.placement.decoys)]
    diameters_A = np.array([scene.diameter_A or one.diameter_A for one in structures])
    diameters_A[len(scene.specimens) :] = [one.diameter_A for one in structures[len(scene.specimens) :]]
    _check_sizes(diameters_A / scene.pixel_size_A)
    rngs = np.random.default_rng((scene.seed, index)).spawn(5)

    optics = _random_optics(rngs[0], scene)
    empty, on_carbon = rngs[0].random(2) < (scene.empty, scene.carbon)
    grid = _grid(scene, structures, optics)
    background = Background(
        grid,
        scene.ice,
        ice.thickness(rngs[1], scene.ice, grid),
        contamination.draw(rngs[2], scene.contamination, grid),
        carbon.edge(rngs[1], grid) if on_carbon else None,
    )
    placed = _place(rngs[3], replace(scene, particles=0) if empty else scene, background, structures, diameters_A)
    attenuation = _attenuation(scene, optics)
    settings = ProjectionSettings(grid, wavelength_A(optics.voltage_kV), attenuation.protein, scene.ice)
    projected = project(settings, structures, placed)

    usable = background.usable
    everything = Particles.of(placed.xy, diameters_A[placed.kind] / scene.pixel_size_A)
    column, row = (np.rint(placed.xy) + grid.margin_px).astype(int).T
    last_row, last_column = (n - 1 for n in grid.shape)
    listed = everything.inside(scene.shape) & usable[row.clip(0, last_row), column.clip(0, last_column)]
    decoy = placed.kind >= len(scene.specimens)
    true = np.flatnonzero(listed & ~decoy)
    usable_in_image = np.zeros(grid.shape, bool)
    usable_in_image[grid.inside] = usable[grid.inside]

    counted = _expose(rngs[4], scene, optics, background, projected, attenuation, everything.select(true))
    return Simulated(
        Micrograph(counted.counts, f"simulated_{index:03d}", scene.pixel_size_A),
        everything.select(true),
        Truth(
            placed.kind[true],
            placed.rotations[true],
            placed.height_A[true],
            optics.defocus_A - placed.height_A[true],
            projected.visible(usable_in_image)[true],
            placed.broken[true],
        ),
        everything.select(listed & decoy),
        ~usable[grid.inside],
        optics.defocus_A,
        optics.astigmatism_A,
        optics.astigmatism_deg,
        float(background.ice_A[grid.inside].mean()),
        counted.dose_e_A2,
        counted.snr,
    )


def _check_sizes(diameter_px: np.ndarray) -> None:
    if diameter_px.min() < MIN_DIAMETER_PX:
        found = f"a particle is {diameter_px.min():.1f} pixels wide"
        raise ConfigError("pixel_size_A", found, f"Give smaller pixels: at least {MIN_DIAMETER_PX} per diameter")


def _random_optics(rng: np.random.Generator, scene: Scene) -> Optics:
    """Return the microscope with the defocus and the astigmatism of one image."""
    return replace(
        scene.optics,
        defocus_A=float(rng.uniform(*scene.defocus_A)),
        astigmatism_A=float(rng.uniform(0, scene.astigmatism_A)),
        astigmatism_deg=float(rng.uniform(-90, 90)),
    )


def _attenuation(scene: Scene, optics: Optics) -> Attenuation:
    """Return what the exposure leaves of the structure of particles and ice."""

    def protein(k: np.ndarray) -> np.ndarray:
        damage = damage_curve(k, scene.dose_e_A2, optics.voltage_kV, scene.dose_weighted)
        return damage * motion_curve(k, scene.motion_A)

    def water(k: np.ndarray) -> np.ndarray:
        return water_curve(k, scene.dose_e_A2, optics.voltage_kV)

    return Attenuation(protein, water)


def _grid(scene: Scene, structures: list[Specimen], optics: Optics) -> Grid:
    """Return the grid, with a margin for particles that reach in, and for the fringes that the lens delocalizes."""
    reach = max(one.radius_A for one in structures)
    fringes = wavelength_A(optics.voltage_kV) * abs(optics.defocus_A) / (2 * scene.pixel_size_A)
    return Grid(scene.shape, int(np.ceil((reach + fringes) / scene.pixel_size_A)), scene.pixel_size_A)


def _place(
    rng: np.random.Generator, scene: Scene, background: Background, structures: list[Specimen], diameters_A: np.ndarray
) -> Placed:
    """Place particles and decoys in the image, and at the same density around it."""
    grid, placement = background.grid, scene.placement
    inset = diameters_A.max() / scene.pixel_size_A / 2 if placement.whole else 0.0
    reach = 0.0 if placement.whole else max(one.radius_A for one in structures) / scene.pixel_size_A
    rows, columns = (max(1, int(n - 2 * inset)) for n in scene.shape)
    more = (rows + 2 * reach) * (columns + 2 * reach) / (rows * columns)
    kinds, inside = [], []
    decoys = round(placement.decoy_share * scene.particles) if placement.decoys else 0
    specimens = len(scene.specimens)
    for wanted, first, last in ((scene.particles, 0, specimens), (decoys, specimens, len(structures))):
        total = round(wanted * more)
        if total:
            # Equal numbers of each, in the image and around it.
            kinds += [first + np.arange(total) % (last - first)]
            inside += [np.arange(total) < wanted]
    kind = np.concatenate([np.empty(0, int), *kinds])
    n = len(kind)
    diameter_px = diameters_A[kind] / scene.pixel_size_A
    area = Area((rows, columns), reach, diameter_px, np.concatenate([np.empty(0, bool), *inside]))
    xy = positions(rng, area, placement) + inset
    column, row = np.rint(xy + grid.margin_px).astype(int).T
    last_row, last_column = (n - 1 for n in grid.shape)
    ice_A = background.ice_A[row.clip(0, last_row), column.clip(0, last_column)]
    radius_A = np.array([one.radius_A for one in structures])[kind]
    broken = (rng.random(n) < placement.broken) & (kind < specimens)
    offset = np.where(broken, rng.uniform(-0.15, 0.15, n) * diameters_A[kind], np.inf)
    return Placed(
        xy,
        kind,
        orientations(rng, n, placement.preferred),
        heights(rng, placement, ice_A, radius_A),
        np.stack([rng.uniform(0, 2 * np.pi, n), offset], 1),
    )


def _expose(
    rng: np.random.Generator,
    scene: Scene,
    optics: Optics,
    background: Background,
    projected: Projected,
    attenuation: Attenuation,
    particles: Particles,
) -> exposure.Counted:
    """Image particles and background, and count electrons."""
    grid, inside = background.grid, background.grid.inside
    noise, counting = rng.spawn(2)
    intensity = image(noise, background, projected.slices_VA, optics, attenuation)[inside]
    # The imaging leaves out the loss in smooth ice: it is applied here, relative to the mean.
    path = ice.MEAN_FREE_PATH_A * np.float32(speed2(optics.voltage_kV) / speed2(300.0))
    loss = np.exp(-background.ice_A[inside] / path)
    intensity *= loss / loss.mean()
    signals = None
    if scene.measured or scene.snr is not None:
        signals = exposure.particle_signals(grid, projected.slices_VA, particles.xy, particles.diameter_px, optics)
    noise_free = exposure.NoiseFree(intensity, scene.detector, scene.pixel_size_A, signals)
    if scene.snr is None or signals is None:
        return exposure.count_at_dose(counting, noise_free, scene.dose_e_A2)
    return exposure.count_at_snr(counting, noise_free, scene.dose_e_A2, scene.snr)
