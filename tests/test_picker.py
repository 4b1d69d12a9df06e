"""Picking: tiles equal the whole, frames, thresholds. A stub that finds bright dots stands for the network."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from upicker.config import Config
from upicker.errors import ConfigError, InputError, MicrographError, WeightsError
from upicker.geometry import Frame, Region
from upicker.image.prepare import Prepared
from upicker.model import weights
from upicker.model.detector import DetectorOutput
from upicker.model.weights import Header
from upicker.particles import Micrograph, Particles
from upicker.pick.picker import FLOOR, Picker, cut, detect

DIAMETER = 8.0
CONFIG = Config().with_changes(
    {
        "image.working_diameter_px": DIAMETER,
        "image.mask": False,
        "train.tile_px": 64,
        "train.device": "cpu",
        "pick.views": 1,
    }
)
NET = {
    "model.widths": "8,8,16,16,16", "model.dim": 32, "model.heads": 4, "model.feedforward": 32,
    "model.encoder_layers": 1, "model.decoder_layers": 1, "model.queries": 24, "train.tile_px": 64,
    "image.working_diameter_px": 16, "train.bfloat16": False, "train.device": "cpu",
}  # fmt: skip


class Dots(nn.Module):
    """Finds every pixel above 0.05 that is the highest of its 3 x 3; its height is the score. Boxes of one size.

    `queries` answers a tile, as the network gives: the best ones, then empty ones. Places are refined by a
    parabola along each axis.
    """

    def __init__(self, queries: int = 400, side: float = DIAMETER) -> None:
        super().__init__()
        self.queries, self.side = queries, side
        self.largest_batch = 0

    def forward(self, images: Tensor) -> DetectorOutput:
        self.largest_batch = max(self.largest_batch, len(images))
        size = images.shape[-1]
        wide = F.pad(images, (1, 1, 1, 1))
        top = images * (images >= F.max_pool2d(wide, 3, 1)) * (images > 0.05)
        heights, where = top.flatten(1).topk(self.queries, 1)
        y, x = where // size, where % size
        of = torch.arange(len(images))[:, None]

        def vertex(dy: int, dx: int) -> Tensor:
            before, middle, after = (wide[of, 0, y + 1 + k * dy, x + 1 + k * dx] for k in (-1, 0, 1))
            return 0.5 * (before - after) / (before - 2 * middle + after).clamp_max(-1e-6)

        centre = torch.stack([x + vertex(0, 1), y + vertex(1, 0)], -1)
        boxes = torch.cat([(centre + 0.5) / size, torch.full_like(centre, self.side / size)], -1)
        logits = torch.where(heights > 0.05, torch.logit(heights.clamp(0.0, 1.0), eps=1e-6), -20.0)[..., None]
        return DetectorOutput(logits, boxes, [], [], logits, boxes, [], [])


def dotted(shape: tuple[int, int], xy: np.ndarray, heights: np.ndarray) -> Prepared:
    """A prepared picture at the raw scale, zero but for one pixel a particle."""
    pixels = np.zeros(shape, np.float32)
    pixels[xy[:, 1], xy[:, 0]] = heights
    return Prepared(pixels, Frame(shape, shape), DIAMETER)


def scattered(shape: tuple[int, int], seed: int, spacing: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Whole-pixel places at least `spacing` apart, up to the very rim, with different heights."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(0, shape[1], 2 * spacing), np.arange(0, shape[0], 2 * spacing)), -1)
    xy = np.minimum(
        grid.reshape(-1, 2) + rng.integers(0, spacing + 1, (grid.size // 2, 2)), (shape[1] - 1, shape[0] - 1)
    )
    xy = np.unique(xy, axis=0)
    far = np.array([all(max(abs(a - b)) >= spacing for b in xy[:i]) for i, a in enumerate(xy)])
    xy = rng.permutation(xy[far])
    return xy, rng.permutation(np.linspace(0.1, 0.9, len(xy)))


def ordered(xy: np.ndarray) -> np.ndarray:
    xy = np.round(xy, 3)
    return xy[np.lexsort(xy.T)]


def found_once(picks: Particles, xy: np.ndarray) -> None:
    """Exactly these places, each exactly once."""
    assert len(picks) == len(xy)
    np.testing.assert_allclose(ordered(picks.xy), ordered(xy.astype(float)), atol=2e-3)


SHAPE = (203, 331)


@pytest.mark.parametrize("tile", [32, 50, 64, 128, 400])
@pytest.mark.parametrize("overlap", [0.0, 1.5, 100.0])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_equal_the_whole(tile, overlap, batch):
    xy, heights = scattered(SHAPE, 0)
    config = CONFIG.with_changes(
        {"train.tile_px": tile, "pick.overlap_diameters": overlap, "pick.batch": batch, "pick.nms_iou": None}
    )
    model = Dots()
    picks = detect(model, dotted(SHAPE, xy, heights), config)
    found_once(picks, xy)
    np.testing.assert_allclose(picks.score, np.sort(heights)[::-1], atol=1e-5)
    assert picks.diameter_px == pytest.approx(DIAMETER)
    assert model.largest_batch <= batch


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("region", [Region(30, 40, 200, 90), Region(0, 0, 20, 300), Region(-0.5, 150, 349.5, 209.5)])
def test_a_region_has_the_picks_that_the_whole_has_there(region, views):
    xy, heights = scattered((210, 350), seed=4)
    config, prepared = CONFIG.with_changes({"pick.views": views}), dotted((210, 350), xy, heights)
    whole, part = detect(Dots(), prepared, config), detect(Dots(), prepared, config, region)
    expected = whole.select(region.contains(whole.xy))
    assert 0 < len(expected) < len(whole)
    np.testing.assert_allclose(ordered(part.xy), ordered(expected.xy), atol=1e-3)


def test_a_region_is_looked_at_alone_in_no_less_than_a_tile():
    prepared = dotted((210, 350), *scattered((210, 350), seed=4))
    for region in (Region(100, 190, 110, 205), Region(340, 0, 349, 9), Region(0, 0, 5, 5)):
        network = Dots()
        detect(network, prepared, CONFIG, region)
        assert network.largest_batch == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(17, 150), st.integers(17, 150), st.integers(32, 90), st.floats(0, 12), st.integers(0, 99))
def test_every_particle_is_picked_once_in_a_picture_of_any_size(height, width, tile, overlap, seed):
    xy, heights = scattered((height, width), seed)
    config = CONFIG.with_changes({"train.tile_px": tile, "pick.overlap_diameters": overlap})
    found_once(detect(Dots(), dotted((height, width), xy, heights), config), xy)


def test_the_number_of_picks_is_not_capped_by_the_queries_of_a_tile():
    xy, heights = scattered((300, 500), 1)
    model = Dots(queries=20)
    picks = detect(model, dotted((300, 500), xy, heights), CONFIG.with_changes({"train.tile_px": 64}))
    assert len(xy) > 20 * 10
    found_once(picks, xy)


def test_a_particle_whose_tiles_disagree_about_its_place_is_picked_once():
    """At the border of two tiles each may see the particle on the other's side, or both on their own."""

    class Disagreeing(Dots):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.shift, self.calls = shift, 0

        def forward(self, images: Tensor) -> DetectorOutput:
            output = super().forward(images)
            self.calls += 1
            output.pred_boxes[..., 0] += self.shift * (1 if self.calls % 2 else -1) / images.shape[-1]
            return output

    config = CONFIG.with_changes({"pick.batch": 1, "pick.nms_iou": None})
    # Two tiles of 64, from 0 and from 36: ownership passes in the middle, at 49.5.
    for x in (48, 49, 50, 51):
        for shift in (-1.0, -0.5, 0.5, 1.0):
            picks = detect(Disagreeing(shift), dotted((60, 100), np.array([[x, 20]]), np.array([0.7])), config)
            assert len(picks) == 1, (x, shift)


@pytest.mark.parametrize(("nms", "expected"), [(None, 2), (0.5, 1), (0.9, 2)])
def test_suppression_is_asked_for(nms, expected):
    # Squares of 8 px, 2 px apart: an IoU of 0.6. In the middle of one tile, so that no border plays a part.
    prepared = dotted((64, 64), np.array([[30, 31], [32, 31]]), np.array([0.6, 0.8]))
    picks = detect(Dots(), prepared, CONFIG.with_changes({"pick.nms_iou": nms}))
    assert len(picks) == expected
    assert picks.xy[0] == pytest.approx((32, 31), abs=1e-3)
    assert picks.score[0] == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(("diameters", "expected"), [(0, 4), (0.5, 3), (1.0, 2), (3.0, 0)])
def test_the_edge_margin_is_counted_in_diameters_from_the_rim(diameters, expected):
    # The centres are 0.5, 5.5, 10.5 and 20.5 px from the nearest edge of a picture of 41 x 90.
    xy = np.array([[45, 0], [84, 20], [10, 20], [60, 20]])
    prepared = dotted((41, 90), xy, np.linspace(0.3, 0.8, 4))
    assert len(detect(Dots(), prepared, CONFIG.with_changes({"pick.edge_diameters": diameters}))) == expected


def test_noise_below_the_floor_is_left_out():
    prepared = dotted((64, 64), np.array([[10, 10], [40, 30]]), np.array([0.5, 0.5]))

    class Faint(Dots):
        def forward(self, images: Tensor) -> DetectorOutput:
            output = super().forward(images)
            output.pred_logits[:, 0] = float(torch.logit(torch.tensor(FLOOR / 2)))
            return output

    assert len(detect(Faint(), prepared, CONFIG)) == 1


def test_nothing_in_the_picture_gives_no_picks():
    picks = detect(Dots(), dotted(SHAPE, np.zeros((0, 2), int), np.zeros(0)), CONFIG)
    assert len(picks) == 0
    assert picks.xy.shape == (0, 2)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_picking_commutes_with_quarter_turns(turns):
    xy, heights = scattered(SHAPE, 3)
    prepared = dotted(SHAPE, xy, heights)
    turned = np.ascontiguousarray(np.rot90(prepared.pixels, turns))
    picks = detect(Dots(), Prepared(turned, Frame(turned.shape, turned.shape), DIAMETER), CONFIG)
    straight = detect(Dots(), prepared, CONFIG)
    expected, shape = straight.xy, SHAPE
    for _ in range(turns):
        expected = np.stack([expected[:, 1], shape[1] - 1 - expected[:, 0]], 1)
        shape = shape[::-1]
    np.testing.assert_allclose(picks.xy, expected, atol=2e-3)
    np.testing.assert_allclose(picks.score, straight.score)


def test_cut_fills_with_background_beyond_the_picture():
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(cut(pixels, 1, 0, 3), pixels[:, 1:4])
    over = cut(pixels, 2, 1, 4)
    assert over.shape == (4, 4)
    np.testing.assert_array_equal(over[:2, :2], pixels[1:, 2:])
    assert over[2:].sum() == over[:, 2:].sum() == 0


def drawn(shape: tuple[int, int], xy: np.ndarray, diameter: float) -> np.ndarray:
    """A raw picture: soft dark blobs on grey ice with a little noise; the blobs' heights differ."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    picture = 100 + 0.1 * diameter / 16 * np.random.default_rng(0).standard_normal(shape)
    for height, (cx, cy) in zip(np.linspace(6, 8, len(xy)), xy, strict=True):
        picture -= height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (diameter / 5) ** 2))
    return picture.astype(np.float32)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> Path:
    """A tiny untrained network."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = Config().with_changes(NET)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = weights.build(config)
    weights.save(path, model, Header(config.to_tables(), "20px", "finetune", 0.3, 0.8, 0.8, 0.8, steps=1))
    return path


def stub_picker(path: Path, monkeypatch, **changes) -> Picker:
    """A picker whose network is the stub; a height of 100 robust sigmas is a score of one."""

    class Scaled(Dots):
        def forward(self, images: Tensor) -> DetectorOutput:
            return super().forward(images / 100)

    # The drawn particles stand out of the noise as no real ones do: nothing may take them for hot pixels.
    settings = {"image.mask": False, "image.repair": False, "image.clip_sigma": 1e4, "pick.threshold": 0.3}
    settings |= {k.replace("_", ".", 1): v for k, v in changes.items()}
    picker = Picker(path, settings)
    monkeypatch.setattr(picker, "_model", Scaled(side=16))
    return picker


@pytest.mark.parametrize("diameter", [16.0, 21.3, 40.0, 11.0])
def test_a_particle_comes_back_where_it_lies_in_the_raw_picture(weights_file, monkeypatch, diameter):
    """Whatever the scale, odd shapes and anisotropic factors included; within half a working pixel."""
    shape = (round(8.3 * diameter), round(13.7 * diameter))
    places = np.array([(1.2, 1.1), (12.3, 1.7), (3.1, 6.9), (7.77, 3.33), (12.6, 7.2), (5.0, 1.9)]) * diameter
    picker = stub_picker(weights_file, monkeypatch)
    picks = picker.pick(Micrograph(drawn(shape, places, diameter), "mic"), diameter)
    assert len(picks) == len(places)
    working = 16 / diameter
    apart = np.abs(ordered(picks.xy)[:, None] - places[None]).max(-1).min(1) * working
    assert apart.max() < 0.5
    nearest = np.linalg.norm(picks.xy[:, None] - places[None], axis=-1).argmin(1)
    assert sorted(nearest) == list(range(len(places)))
    np.testing.assert_allclose(picks.diameter_px, diameter, rtol=0.02)


def test_the_diameter_comes_from_the_weights_through_the_pixel_size(tmp_path, weights_file, monkeypatch):
    model, header, config = weights.load(weights_file)
    angstrom = tmp_path / "angstrom.safetensors"
    weights.save(angstrom, model, Header(config.to_tables(), "40A", header.stage, 0.3, None, None, None, steps=1))
    places = np.array([(50.0, 40.0), (120.0, 90.0)])
    pixels = drawn((150, 230), places, 20)
    asked = []
    for path, size in ((weights_file, None), (weights_file, 9.9), (angstrom, 2.0)):
        picks = stub_picker(path, monkeypatch).pick(Micrograph(pixels, "mic", size))
        asked.append(ordered(picks.xy))
    np.testing.assert_array_equal(asked[0], asked[1])
    np.testing.assert_array_equal(asked[0], asked[2])
    with pytest.raises(ConfigError, match="pixel size"):
        Picker(angstrom).pick(Micrograph(pixels, "mic"))


def test_the_stored_threshold_is_used_unless_another_is_given(tmp_path, weights_file, monkeypatch):
    assert Picker(weights_file).threshold == 0.3
    assert Picker(weights_file, {"pick.threshold": 0.6}).threshold == 0.6
    assert Picker(weights_file, {"pick.threshold": 0}).threshold == 0.0
    model, _, config = weights.load(weights_file)
    unknown = tmp_path / "unknown.safetensors"
    weights.save(unknown, model, Header(config.to_tables(), "20px", "pretrain", None, None, None, None, steps=1))
    assert 0 < Picker(unknown).threshold < 1
    zero = tmp_path / "zero.safetensors"
    weights.save(zero, model, Header(config.to_tables(), "20px", "pretrain", 0.0, None, None, None, steps=1))
    assert Picker(zero).threshold == 0.0


def test_a_picker_goes_to_another_process_with_its_changes(weights_file):
    picker = Picker(weights_file, {"pick.threshold": 0, "pick.views": 2})
    other = pickle.loads(pickle.dumps(picker.with_threads(1)))
    assert other.config == picker.config.with_changes({"train.threads": 1})
    micrograph = Micrograph(np.random.default_rng(0).standard_normal((90, 140)).astype(np.float32), "mic")
    one, same = picker.pick(micrograph), other.pick(micrograph)
    assert len(one) > 0
    np.testing.assert_allclose(one.xy, same.xy, atol=1e-4)


@pytest.mark.parametrize("threshold", [0.05, 0.4, 0.9])
def test_all_picks_are_above_the_threshold_by_falling_score(weights_file, monkeypatch, threshold):
    picker = stub_picker(weights_file, monkeypatch, pick_threshold=threshold)
    places = np.array([(50.0, 40.0), (120.0, 90.0), (170.0, 30.0)])
    picks = picker.pick(Micrograph(drawn((150, 230), places, 20), "mic"))
    assert (picks.score >= threshold).all()
    assert (np.diff(picks.score) <= 0).all()


def test_an_untrained_network_picks_in_a_small_oblong_picture(weights_file):
    rng = np.random.default_rng(0)
    micrograph = Micrograph(rng.standard_normal((70, 100)).astype(np.float32), "mic")
    before = micrograph.pixels.copy()
    everything = Picker(weights_file, {"pick.threshold": 0, "pick.nms_iou": None}).pick(micrograph)
    assert np.array_equal(before, micrograph.pixels)
    assert np.isfinite(everything.xy).all()
    assert everything.inside((70, 100)).all()
    again = Picker(weights_file, {"pick.threshold": 0, "pick.nms_iou": None}).pick(micrograph)
    np.testing.assert_array_equal(everything.xy, again.xy)
    np.testing.assert_array_equal(everything.score, again.score)


def test_the_batch_of_tiles_does_not_change_what_a_network_picks(weights_file):
    rng = np.random.default_rng(1)
    micrograph = Micrograph(rng.standard_normal((130, 170)).astype(np.float32), "mic")
    one, other = (Picker(weights_file, {"pick.threshold": 0, "pick.batch": batch}).pick(micrograph) for batch in (1, 5))
    assert len(one) > 0
    np.testing.assert_allclose(np.sort(one.score), np.sort(other.score), atol=1e-4)
    np.testing.assert_allclose(ordered(one.xy), ordered(other.xy), atol=0.05)


@pytest.mark.parametrize("change", [{"model.queries": 7}, {"image.working_diameter_px": 20}, {"train.tile_px": 96}])
def test_what_the_weights_fix_cannot_be_changed(weights_file, change):
    with pytest.raises(ConfigError, match="fixed by the weights"):
        Picker(weights_file, change)


def test_mistakes_are_named(tmp_path, weights_file):
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        Picker(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match=r"pick\.threshold"):
        Picker(weights_file, {"pick.treshold": 0.5})
    picker = Picker(weights_file)
    with pytest.raises(MicrographError, match="flat"):
        picker.pick(Micrograph(np.ones((70, 100), np.float32), "flat"))
    with pytest.raises(InputError, match=r"small.*larger than the picture"):
        picker.pick(Micrograph(np.eye(70, 100, dtype=np.float32), "small"), 80)


def test_picking_leaves_global_random_numbers_alone(weights_file):
    before = torch.random.get_rng_state()
    Picker(weights_file).pick(Micrograph(np.random.default_rng(2).uniform(size=(70, 100)).astype(np.float32), "mic"))
    assert torch.equal(before, torch.random.get_rng_state())
