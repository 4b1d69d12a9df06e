"""Simulated tiles: banks project as their specimens do, tiles are what training takes, and look like micrographs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from upicker import scoring
from upicker.config import Config
from upicker.errors import ConfigError
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.model import weights
from upicker.propose.proposals import propose
from upicker.simulate.contamination import Contamination
from upicker.simulate.ice import Ice
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene, make
from upicker.simulate.specimens.bank import Bank, half_sphere
from upicker.simulate.specimens.blobs import Blobs
from upicker.simulate.specimens.specimen import load
from upicker.simulate.tiles import TilePlan, Tiles
from upicker.train import loop
from upicker.train.log import CsvLog, Silent
from upicker.train.loop import Plan
from upicker.train.mixture import Mixture
from upicker.train.simulated import SimulatedTiles

PIXEL_A = 5.0
SMALL = Config().with_changes(
    {
        "model.widths": "16,16,16,16,16", "model.dim": 32, "model.heads": 4, "model.feedforward": 64,
        "model.encoder_layers": 1, "model.decoder_layers": 2, "model.query_density": 1.2, "train.batch": 2,
        "image.working_diameter_px": 16, "train.tile_px": 96, "train.device": "cpu", "train.bfloat16": False,
    }
)  # fmt: skip
PLAIN = SMALL.with_changes({"augment.online": False})
PLAN = TilePlan(pool=3, refresh=4, views=6, seed=5)


@pytest.fixture(scope="module")
def lopsided() -> Blobs:
    """A specimen that differs from its mirror image, with a fine grain."""
    rng = np.random.default_rng(3)
    centres = rng.normal((10, 0, 0), (40, 25, 12), (60, 3))
    return Blobs("lopsided", 180.0, centres, 5.0, rng.uniform(1e3, 9e3, 60))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("behind", [False, True])
def test_a_bank_rotates_and_moves_a_kept_view_as_the_specimen_does(lopsided, behind):
    bank = Bank(lopsided, PIXEL_A, 8)
    size = 2 * int(lopsided.radius_A / PIXEL_A) + 5
    for view, angle, shift in ((0, 0.0, (0.0, 0.0)), (3, 0.7, (0.37, -0.21)), (7, -2.9, (-0.5, 0.44))):
        # Any rotation whose beam is that of the view, seen from the front or from behind
        beam = half_sphere(8)[view] * (-1 if behind else 1)
        upright = Rotation.align_vectors([[0, 0, 1]], [beam])[0]
        rotation = (Rotation.from_euler("z", angle) * upright).as_matrix()
        ours, its = bank.projection(rotation, size, PIXEL_A, shift), lopsided.projection(rotation, size, PIXEL_A, shift)
        assert ours.shape == its.shape
        assert ours.dtype == np.float32
        assert np.abs(ours - its).max() < 0.04 * its.max()
        assert likeness(ours, its) > 0.999
        assert ours.sum() == pytest.approx(its.sum(), rel=2e-3)
        assert likeness(np.flipud(ours), its) < 0.95  # the mirror image would be told apart


def test_any_view_is_near_one_of_the_bank(lopsided):
    bank = Bank(lopsided, PIXEL_A, 128)
    rotations = Rotation.random(30, random_state=1).as_matrix()
    alike = [likeness(bank.projection(r, 61, PIXEL_A), lopsided.projection(r, 61, PIXEL_A)) for r in rotations]
    assert min(alike) > 0.9
    with pytest.raises(AssertionError, match="pixel size"):
        bank.projection(rotations[0], 61, 1.01 * PIXEL_A)


def test_a_half_sphere_and_its_opposite_leave_no_gap():
    beams = half_sphere(128)
    assert np.linalg.norm(beams, axis=1) == pytest.approx(np.ones(128))
    both = np.concatenate([beams, -beams])
    everywhere = np.random.default_rng(0).normal(size=(5000, 3))
    everywhere /= np.linalg.norm(everywhere, axis=1, keepdims=True)
    assert KDTree(both).query(everywhere)[0].max() < 2 * np.sin(np.deg2rad(13) / 2)


def test_a_tile_is_the_same_whoever_draws_it_and_when():
    indices = [0, 3, 4, 9]  # the cast changes at 4 and 8
    one, other = Tiles(PLAN, 128, 16.0), Tiles(PLAN, 128, 16.0)
    forwards = {i: one.make(i) for i in indices}
    backwards = {i: other.make(i) for i in reversed(indices)}
    for i in indices:
        assert np.array_equal(forwards[i].micrograph.pixels, backwards[i].micrograph.pixels)
        assert np.array_equal(forwards[i].particles.xy, backwards[i].particles.xy)
    images = [forwards[i].micrograph.pixels for i in indices]
    assert not any(np.array_equal(a, b) for n, a in enumerate(images) for b in images[:n])
    moved = Tiles(replace(PLAN, seed=6), 128, 16.0).make(0)
    assert not np.array_equal(moved.micrograph.pixels, images[0])


def batches_of(workers: int = 0) -> Mixture:
    return Mixture(SimulatedTiles(PLAN, SMALL), [], SMALL, 2, workers)


def test_workers_draw_what_one_process_draws_and_no_tile_twice():
    def draw(workers: int) -> list[torch.Tensor]:
        batches = batches_of(workers)
        return [torch.cat([images, *(b.sum() * torch.ones_like(images[:1]) for b in targets)])
                for images, targets, *_ in map(batches, range(4))]  # fmt: skip

    state = torch.get_rng_state()
    alone, together = draw(0), draw(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    tiles = [image for batch in alone for image in batch[:2]]
    assert not any(torch.equal(a, b) for n, a in enumerate(tiles) for b in tiles[:n])


def test_a_batch_depends_on_its_step_alone():
    batches = batches_of()
    first = [batches(step) for step in (0, 1, 2)]
    for step in (2, 0, 1):
        images, targets, rng, *_ = batches(step)
        assert torch.equal(images, first[step][0])
        assert all(torch.equal(a, b) for a, b in zip(targets, first[step][1], strict=True))
    assert images.shape == (2, 1, 96, 96)
    assert rng.integers(2**31) == first[1].rng.integers(2**31)


def test_tiles_are_what_training_takes():
    tiles, made = SimulatedTiles(PLAN, PLAIN), Tiles(PLAN, 96 + 16, 16.0)
    counts, sizes = [], set()
    for index in range(8):
        image, boxes, unsure, sized = tiles[index]
        assert unsure.shape == (0, 5)
        assert sized
        assert image.shape == (1, 96, 96)
        assert image.dtype == boxes.dtype == torch.float32
        assert boxes.shape[1] == 4
        assert float(image.abs().max()) <= PLAIN.image.clip_sigma
        assert ((boxes[:, :2] >= 0) & (boxes[:, :2] <= 96 / 16)).all()
        # A box has the particle's own size, half to twice the given diameter.
        own = made.make(index).particles.diameter_px
        assert own == pytest.approx(np.full(len(own), own[:1].sum()))
        assert (boxes[:, 2:].numpy() * 16 == pytest.approx(own[0])) if len(boxes) else True
        sizes |= {round(float(size), 3) for size in own}
        ice = image[image != 0]
        assert 0.6 < 1.4826 * float((ice - ice.median()).abs().median()) < 1.4
        counts.append(len(boxes))
    assert len(set(counts)) > 3
    assert len(sizes) > 2
    assert 8 <= min(sizes) < 16 < max(sizes) <= 32


def test_training_learns_from_tiles(tmp_path: Path):
    kept = []
    plan = Plan(
        stage="pretrain",
        config=SMALL,
        steps=3,
        learning_rate=1e-3,
        samples=batches_of(),
        validation=[],
        checkpoint=tmp_path / "run.checkpoint",
        identity={},
        save_best=lambda average, row, step: kept.append(step),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = weights.build(SMALL)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = loop.initial_state(model, plan, resume=False)
    log = CsvLog(tmp_path / "log.csv")
    loop.run(plan, state, log, Silent())
    log.close()
    assert kept == [3]
    assert all(v.isfinite().all() for v in state.model.state_dict().values())
    assert any(not torch.equal(v, before[k]) for k, v in state.model.state_dict().items())


def power(image: np.ndarray) -> np.ndarray:
    """Mean power in ten rings up to 0.45 cycles per pixel; of a image whose border is faded out."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    spectrum = np.abs(np.fft.rfft2(image * window)) ** 2 / (window**2).sum()
    k = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    ring = np.digitize(k, np.linspace(0.045, 0.45, 10))
    return np.array([spectrum[ring == i].mean() for i in range(10)])


def profile(image: np.ndarray, xy: np.ndarray, reach: int = 28) -> np.ndarray:
    """Mean over all particles that lie wholly inside, in rings of 4 pixels around their centres."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    total, count = np.zeros(reach // 4 + 1), np.zeros(reach // 4 + 1)
    for column, row in xy:
        j, i = round(column), round(row)
        if reach <= i < image.shape[0] - reach and reach <= j < image.shape[1] - reach:
            ring = np.minimum(np.hypot(x + j - column, y + i - row) / 4, reach // 4).astype(int).ravel()
            total += np.bincount(ring, image[i - reach : i + reach + 1, j - reach : j + reach + 1].ravel())
            count += np.bincount(ring)
    return (total / count)[:-1]


@pytest.mark.parametrize("name", ["barrel", "globule"])
def test_a_tile_has_the_statistics_of_a_prepared_micrograph(name):
    finer, rows, columns, image = 3, 390, 430, Config().image
    specimen = load(name)
    working_A = specimen.diameter_A / image.working_diameter_px
    coarse = Scene(
        specimens=(name,),
        shape=(rows, columns),
        pixel_size_A=working_A,
        particles=40,
        placement=Placement(min_distance=1.6, surfaces=0.0),
        contamination=Contamination.level("none"),
        ice=Ice(gradient=0.2),
        dose_e_A2=20.0,
        defocus_A=(15000.0, 15000.0),
        detector=Detector("ideal", gain_error=0.0, hot_pixels=0.0, dead_pixels=0.0),
        seed=4,
    )
    fine = replace(coarse, shape=(finer * rows, finer * columns), pixel_size_A=working_A / finer)
    bank = Bank(specimen, working_A)
    found = {}
    for which, scene, loaded in (("tile", coarse, bank), ("micrograph", fine, specimen)):
        images = []
        for particles in (0, scene.particles):
            made = make(replace(scene, particles=particles), 0, lambda *_, it=loaded: it)
            images.append(masked(prepare(made.micrograph, specimen.diameter_A / scene.pixel_size_A, image), image))
        prepared = images[1]
        found[which] = power(images[0].pixels), profile(prepared.pixels, prepared.frame.to_working(made.particles.xy))
        everything = replace(Config().propose, top_k="auto")
        proposals = propose(prepared, everything, image, prepared.usable)
        assert scoring.score([(proposals, made.particles)]).best_f1 > 0.85
    assert found["tile"][0] == pytest.approx(found["micrograph"][0], rel=0.12)
    largest = np.abs(found["micrograph"][1]).max()
    assert largest > 0.4
    assert found["tile"][1] == pytest.approx(found["micrograph"][1], abs=0.08 * largest)


def test_a_plan_without_specimens_is_refused():
    with pytest.raises(ConfigError, match="specimens"):
        Tiles(replace(PLAN, specimens=()), 128, 16.0)


def test_some_tiles_have_two_kinds_of_particles_of_unlike_sizes():
    mixed = Tiles(replace(PLAN, variety=replace(PLAN.variety, mixed=0.5, empty=0.0, contaminated=0.0)), 192, 16.0)
    plain = Tiles(replace(PLAN, variety=replace(PLAN.variety, empty=0.0, contaminated=0.0)), 192, 16.0)
    sizes = [
        [len(np.unique(tiles.make(index).particles.diameter_px.round(3))) for index in range(12)]
        for tiles in (mixed, plain)
    ]
    assert set(sizes[0]) == {1, 2}
    assert set(sizes[1]) == {1}
    low, high = PLAN.variety.given
    for index in range(12):
        diameters = mixed.make(index).particles.diameter_px
        assert (16 / high <= diameters * 1.001).all()
        assert (diameters <= 16 / low * 1.001).all()


def test_empty_tiles_are_contaminated_more_often_and_filaments_are_no_particles():
    variety = replace(PLAN.variety, empty=1.0, contaminated=0.05, filaments=0.0, carbon=0.0)
    tiles = [Tiles(replace(PLAN, variety=variety), 128, 16.0).make(index) for index in range(24)]
    assert all(len(one.particles) == 0 for one in tiles)
    assert sum(one.unusable.any() for one in tiles) > 4
    threads = replace(variety, contaminated=0.0, filaments=3.0)
    tiles = [Tiles(replace(PLAN, variety=threads), 128, 16.0).make(index) for index in range(6)]
    assert all(len(one.particles) == 0 for one in tiles)
    assert sum(one.unusable.any() for one in tiles) >= 4
