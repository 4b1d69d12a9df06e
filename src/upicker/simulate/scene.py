"""Whole micrographs with known particles.

The way of the electrons: particles at random places, heights and angles, in ice of uneven thickness and grainy
structure, here and there a contaminant or the edge of the carbon film; the exit wave, through the lens; counted by the
camera. Each part draws its chance from a generator of its own, so that a scene with more contamination has its
particles where they were.

What it leaves out: the motion between the frames of a movie (only what it does to their sum), charging, local changes
of magnification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from upicker.errors import ConfigError
from upicker.particles import Micrograph, Particles
from upicker.simulate import carbon, contamination, exposing, ice, knobs
from upicker.simulate.canvas import Canvas
from upicker.simulate.contamination import Contamination
from upicker.simulate.ground import Ground, image
from upicker.simulate.ice import Fading, Ice
from upicker.simulate.microscope.damage import damage_curve, motion_curve, water_curve
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.microscope.optics import Optics, speed2, wavelength_A
from upicker.simulate.painting import Brush, Painted, Placed, paint
from upicker.simulate.placement import Field, Placement, heights, orientations, spread
from upicker.simulate.specimens.specimen import Source, Specimen, load

SMALLEST_PX = 4  # of a particle's diameter
LARGEST_PX = 16384**2  # of a picture: above, a simulation takes more than 16 GiB of memory
Load = Callable[[str, Source], Specimen]


@dataclass(frozen=True)
class Scene:
    """What to simulate.

    Attributes
    ----------
    specimens : built-in names, files or PDB ids (see `upicker.simulate.specimens.specimen.load`); in equal shares.
    diameter_A : of the labels; None: each specimen's own.
    shape : rows, columns of the picture.
    pixel_size_A : Angstrom per pixel.
    particles : how many have their centre in the picture.
    placement : how they are spread and turned.
    ice : in which they lie.
    contamination : what lies on the ice.
    carbon : share of the pictures that show an edge of carbon film.
    empty : share of the pictures without particles.
    dose_e_A2 : electrons per square Angstrom that reach the camera, on average over the ice of the picture; the
        camera counts its efficiency's share of them.
    dose_weighted : whether frames were weighted by what radiation damage leaves, before they were summed.
    motion_A : standard deviation of the specimen's place during the exposure, what motion correction left.
    optics : the microscope; its defocus and astigmatism are replaced by those of each picture.
    defocus_A : smallest and largest defocus; each picture has one in between, underfocus positive.
    astigmatism_A : largest astigmatism; each picture has one below, in any direction.
    detector : the camera.
    snr : variance of the particles over that of all else, within their discs: the dose is chosen so that it comes
        out, radiation damage staying that of `dose_e_A2`; None: it follows from the dose.
    measured : whether the SNR of each picture is measured, which takes a fifth of the time of a small picture.
    source : how specimens are loaded.
    seed : of everything; pictures of one scene show the same particle.

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
        knobs.share(self, "carbon", "empty")
        if not self.specimens:
            raise ConfigError("specimens", "there are none", "Name at least one")
        low, high = self.defocus_A
        if low > high:
            raise ConfigError("defocus_A", f"{low:g} is more than {high:g}", "Give the smallest, then the largest")
        rows, columns = self.shape
        if min(rows, columns) < 1 or rows * columns > LARGEST_PX:
            side = int(LARGEST_PX**0.5)
            raise ConfigError("shape", f"{rows} x {columns} pixels are too many or none", f"At most {side} x {side} do")


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of `n` particles, in the order of `Simulated.particles`.

    Attributes
    ----------
    specimen : np.ndarray
        `(n,)` int, index into the scene's specimens.
    rotations : np.ndarray
        `(n, 3, 3)` how each is turned (see `Specimen.projection`).
    height_A : np.ndarray
        `(n,)` above the middle of the ice, towards the electrons' source.
    defocus_A : np.ndarray
        `(n,)` of each particle: the picture's less its height.
    visible : np.ndarray
        `(n,)` share of its outline that is inside the picture, on usable ground and under no other particle.
    broken : np.ndarray
        `(n,)` bool: a part of it is missing.
    """

    specimen: np.ndarray
    rotations: np.ndarray
    height_A: np.ndarray
    defocus_A: np.ndarray
    visible: np.ndarray
    broken: np.ndarray


@dataclass(frozen=True, eq=False)
class Simulated:
    """A picture and the truth about it.

    Attributes
    ----------
    micrograph : Micrograph
        Counts of electrons, float32; particles dark.
    particles : Particles
        All that have their centre in the picture on usable ground, score 1; others may be seen in part.
    truth : Truth
        More about these particles.
    decoys : Particles
        Other structures with their centre in the picture.
    unusable : np.ndarray
        `(H, W)` bool: under a contaminant or on carbon.
    defocus_A, astigmatism_A, astigmatism_deg : float
        Of the picture, as in `Optics`.
    thickness_A : float
        Mean thickness of the ice in the picture.
    dose_e_A2 : float
        Electrons per square Angstrom that reached the camera: the scene's, unless an SNR was asked for.
    snr : float
        As measured: variance of the particles' signal over that of all else, within their discs; NaN without.
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
    """Simulate one picture of a scene.

    Parameters
    ----------
    scene : Scene
        What to show.
    index : int
        Which picture of the scene; the same scene and index give the same picture.
    load : callable
        Gives the specimen of a name.

    Raises
    ------
    ConfigError
        If a knob is outside its range, the particles do not fit, or the SNR cannot be reached.
    UPickerError
        If a specimen cannot be loaded.
    """
    cast = [load(name, scene.source) for name in (*scene.specimens, *scene.placement.decoys)]
    diameters_A = np.array([scene.diameter_A or one.diameter_A for one in cast])
    diameters_A[len(scene.specimens) :] = [one.diameter_A for one in cast[len(scene.specimens) :]]
    _check_sizes(diameters_A / scene.pixel_size_A)
    chance = np.random.default_rng((scene.seed, index)).spawn(5)

    optics = _focused(chance[0], scene)
    empty, on_carbon = chance[0].random(2) < (scene.empty, scene.carbon)
    canvas = _canvas(scene, cast, optics)
    ground = Ground(
        canvas,
        scene.ice,
        ice.thickness(chance[1], scene.ice, canvas),
        contamination.litter(chance[2], scene.contamination, canvas),
        carbon.edge(chance[1], canvas) if on_carbon else None,
    )
    placed = _place(chance[3], replace(scene, particles=0) if empty else scene, ground, cast, diameters_A)
    kept = _fading(scene, optics)
    painted = paint(Brush(canvas, wavelength_A(optics.voltage_kV), kept.protein, scene.ice), cast, placed)

    usable = ground.usable
    diameter_px = diameters_A[placed.kind] / scene.pixel_size_A
    structures = Particles.of(placed.xy, diameter_px)
    column, row = (np.rint(placed.xy) + canvas.margin_px).astype(int).T
    last_row, last_column = (n - 1 for n in canvas.shape)
    listed = structures.inside(scene.shape) & usable[row.clip(0, last_row), column.clip(0, last_column)]
    decoy = placed.kind >= len(scene.specimens)
    seen = np.flatnonzero(listed & ~decoy)
    in_picture = np.zeros(canvas.shape, bool)
    in_picture[canvas.inside] = usable[canvas.inside]

    result = _expose(chance[4], scene, optics, ground, painted, kept, structures.select(seen))
    return Simulated(
        Micrograph(result.counts, f"simulated_{index:03d}", scene.pixel_size_A),
        structures.select(seen),
        Truth(
            placed.kind[seen],
            placed.rotations[seen],
            placed.height_A[seen],
            optics.defocus_A - placed.height_A[seen],
            painted.visible(in_picture)[seen],
            placed.broken[seen],
        ),
        structures.select(listed & decoy),
        ~usable[canvas.inside],
        optics.defocus_A,
        optics.astigmatism_A,
        optics.astigmatism_deg,
        float(ground.ice_A[canvas.inside].mean()),
        result.dose_e_A2,
        result.snr,
    )


def _check_sizes(diameter_px: np.ndarray) -> None:
    if diameter_px.min() < SMALLEST_PX:
        found = f"a particle is {diameter_px.min():.1f} pixels wide"
        raise ConfigError("pixel_size_A", found, f"Give smaller pixels: {SMALLEST_PX} per diameter are the least")


def _focused(rng: np.random.Generator, scene: Scene) -> Optics:
    """Return the microscope as it is set for one picture."""
    return replace(
        scene.optics,
        defocus_A=float(rng.uniform(*scene.defocus_A)),
        astigmatism_A=float(rng.uniform(0, scene.astigmatism_A)),
        astigmatism_deg=float(rng.uniform(-90, 90)),
    )


def _fading(scene: Scene, optics: Optics) -> Fading:
    """Return what the exposure leaves of the particles and of the ice."""

    def protein(k: np.ndarray) -> np.ndarray:
        damage = damage_curve(k, scene.dose_e_A2, optics.voltage_kV, scene.dose_weighted)
        return damage * motion_curve(k, scene.motion_A)

    def water(k: np.ndarray) -> np.ndarray:
        return water_curve(k, scene.dose_e_A2, optics.voltage_kV)

    return Fading(protein, water)


def _canvas(scene: Scene, cast: list[Specimen], optics: Optics) -> Canvas:
    """Return the canvas: room for what reaches in, and for the fringes that the lens spreads."""
    reach = max(one.radius_A for one in cast)
    fringes = wavelength_A(optics.voltage_kV) * abs(optics.defocus_A) / (2 * scene.pixel_size_A)
    return Canvas(scene.shape, int(np.ceil((reach + fringes) / scene.pixel_size_A)), scene.pixel_size_A)


def _place(
    rng: np.random.Generator, scene: Scene, ground: Ground, cast: list[Specimen], diameters_A: np.ndarray
) -> Placed:
    """Place particles and decoys in the picture, and as densely around it."""
    canvas, how = ground.canvas, scene.placement
    inset = diameters_A.max() / scene.pixel_size_A / 2 if how.whole else 0.0
    reach = 0.0 if how.whole else max(one.radius_A for one in cast) / scene.pixel_size_A
    rows, columns = (max(1, int(n - 2 * inset)) for n in scene.shape)
    denser = (rows + 2 * reach) * (columns + 2 * reach) / (rows * columns)
    kinds, inside = [], []
    decoys = round(how.decoy_share * scene.particles) if how.decoys else 0
    for wanted, first, last in ((scene.particles, 0, len(scene.specimens)), (decoys, len(scene.specimens), len(cast))):
        total = round(wanted * denser)
        if total:
            # Equal shares, in the picture and around it.
            kinds += [first + np.arange(total) % (last - first)]
            inside += [np.arange(total) < wanted]
    kind = np.concatenate([np.empty(0, int), *kinds])
    n = len(kind)
    field = Field(
        (rows, columns), reach, diameters_A[kind] / scene.pixel_size_A, np.concatenate([np.empty(0, bool), *inside])
    )
    xy = spread(rng, field, how) + inset
    column, row = np.rint(xy + canvas.margin_px).astype(int).T
    last_row, last_column = (n - 1 for n in canvas.shape)
    ice_A = ground.ice_A[row.clip(0, last_row), column.clip(0, last_column)]
    radius_A = np.array([one.radius_A for one in cast])[kind]
    broken = (rng.random(n) < how.broken) & (kind < len(scene.specimens))
    place = np.where(broken, rng.uniform(-0.15, 0.15, n) * diameters_A[kind], np.inf)
    return Placed(
        xy,
        kind,
        orientations(rng, n, how.preferred),
        heights(rng, how, ice_A, radius_A),
        np.stack([rng.uniform(0, 2 * np.pi, n), place], 1),
    )


def _expose(
    rng: np.random.Generator,
    scene: Scene,
    optics: Optics,
    ground: Ground,
    painted: Painted,
    kept: Fading,
    seen: Particles,
) -> exposing.Exposed:
    """Send electrons through everything, and count them."""
    canvas, inside = ground.canvas, ground.canvas.inside
    noise, counting = rng.spawn(2)
    picture = image(noise, ground, painted.layers_VA, optics, kept)[inside]
    # The lens does not see the loss in smooth ice: it is applied afterwards, relative to the mean.
    path = ice.MEAN_FREE_PATH_A * np.float32(speed2(optics.voltage_kV) / speed2(300.0))
    loss = np.exp(-ground.ice_A[inside] / path)
    picture *= loss / loss.mean()
    wanted = scene.measured or scene.snr is not None
    spots = exposing.patches(canvas, painted.layers_VA, seen.xy, seen.diameter_px, optics) if wanted else None
    shot = exposing.Shot(picture, scene.detector, scene.pixel_size_A, spots)
    if scene.snr is None or spots is None:
        return exposing.exposed(counting, shot, scene.dose_e_A2)
    return exposing.exposed_for_snr(counting, shot, scene.dose_e_A2, scene.snr)
