"""Picking with a weights file: frames, thresholds, errors. In some tests a NumPy function stands for the network."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import Dots, dotted, ordered

from upicker.config import Config
from upicker.errors import ConfigError, InputError, MicrographError, WeightsError, collected_warnings
from upicker.model import weights
from upicker.model.weights import Header
from upicker.particles import Micrograph, ScoreKind
from upicker.pick.network import LoadedNetwork
from upicker.pick.picker import Picker
from upicker.units import Length

NET = {
    "model.widths": "8,8,16,16,16", "model.dim": 32, "model.heads": 4, "model.feedforward": 32,
    "model.encoder_layers": 1, "model.decoder_layers": 1, "model.query_density": 1.5, "train.tile_px": 64,
    "image.working_diameter_px": 16, "train.bfloat16": False, "train.device": "cpu",
}  # fmt: skip


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
    with torch.no_grad():
        model.class_embed.bias += 3  # or hardly a score would be above the floor
    weights.save(path, model, Header(config.to_tables(), "20px", "finetune", 0.3, 0.8, 0.8, 0.8, steps=1))
    return path


# The drawn particles stand out of the noise as no real ones do: nothing may take them for hot pixels.
STUB = {"image.mask": False, "image.repair": False, "image.clip_sigma": 1e4, "pick.threshold": 0.3}


class Scaled(Dots):
    """A height of 100 robust sigmas is a score of one."""

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return super().__call__(tiles / 100)


def stub_picker(path: Path, monkeypatch, **changes) -> Picker:
    """A picker whose network is the stub."""
    picker = Picker(path, STUB | {k.replace("_", ".", 1): v for k, v in changes.items()})
    monkeypatch.setattr(picker, "_network", Scaled(side=16))
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


def numpy_back_end(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """Return a back end of NumPy alone, whatever the file."""
    config = Config().with_changes({**NET, **STUB, **changes})
    return LoadedNetwork(Scaled(side=16), config, Length(20.0, "px"), 0.25, "cpu")


def test_another_back_end_is_one_function_which_other_processes_get_too(tmp_path):
    positions = np.array([(24.0, 22.0), (246.0, 34.0), (62.0, 138.0), (155.4, 66.6), (252.0, 144.0), (100.0, 38.0)])
    micrograph = Micrograph(drawn((166, 274), positions, 20), "mic")
    picker = Picker(tmp_path / "there-is-no.onnx", {"pick.nms_iou": 0.4}, numpy_back_end)
    assert picker.threshold == 0.3
    picks = picker.pick(micrograph)
    assert len(picks) == len(positions)
    assert np.linalg.norm(ordered(picks.xy) - ordered(positions), axis=1).max() < 1
    again = pickle.loads(pickle.dumps(picker)).with_threads(1)
    assert again.config.pick.nms_iou == 0.4
    np.testing.assert_array_equal(again.pick(micrograph).xy, picks.xy)


class TwoSizes(Scaled):
    """Boxes in the right half of the image below are 1.8 times as large."""

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, boxes = super().__call__(tiles)
        return scores, np.where((boxes[..., :1] > 104) & [False, False, True, True], 1.8 * boxes, boxes)


def of_any_size(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """A back end whose weights know no diameter, and find two sizes."""
    config = Config().with_changes({**NET, **STUB, **changes})
    return LoadedNetwork(TwoSizes(side=16), config, None, 0.25, "cpu")


def doubtful(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """A back end for any size whose threshold is stored."""
    config = Config().with_changes({**NET, **STUB, "pick.threshold": None, **changes})
    return LoadedNetwork(Scaled(side=16), config, None, 0.25, "cpu")


@pytest.mark.parametrize(
    ("height", "opposite", "given", "kept"),
    [
        (0.5, 6, None, 0),  # as many in the negative
        (0.5, 3, None, 0),  # half as many
        (0.5, 2, None, 6),
        (0.5, 6, 0.25, 6),  # who gives a threshold means it
        (0.9, 6, None, 6),  # sure picks are not doubted: two specimens, or bright rings
    ],
)
def test_doubtful_picks_that_the_negative_has_as_well_are_chance(tmp_path, height, opposite, given, kept):
    """So that a micrograph without ice is not filled with picks."""
    places = np.array([(40, 40), (90, 40), (140, 40), (190, 40), (240, 40), (290, 40)])
    negative = np.add(places[:opposite], (0, 60))
    heights = np.full(6 + opposite, height) * np.repeat([1, -1], [6, opposite])
    prepared = dotted((140, 340), np.concatenate([places, negative]), 100 * heights)
    picker = Picker(tmp_path / "none", {"pick.threshold": given, "pick.views": 4}, doubtful)
    found = picker.picks(replace(prepared, diameter_px=16.0), "mic")
    assert len(found) == kept


@pytest.mark.parametrize(
    ("changes", "given", "sizes"),
    [
        ({}, 20, [20, 20, 20]),  # those of 36 px were not asked for
        ({"pick.sizes": True}, 20, [20, 20, 20]),
        ({"pick.sizes": True, "pick.largest": 2}, 20, [20, 20, 20, 36, 36, 36]),
        ({"pick.sizes": True, "pick.smallest": 1.5, "pick.largest": 2}, 20, [36, 36, 36]),
        ({"pick.largest": 2}, 20, [20] * 6),
    ],
)
def test_weights_for_any_size_pick_what_is_about_as_large_as_was_asked_for(tmp_path, changes, given, sizes):
    positions = np.array([(24.0, 22.0), (62.0, 138.0), (100.0, 38.0), (155.4, 66.6), (246.0, 34.0), (252.0, 144.0)])
    picker = Picker(tmp_path / "none", {"pick.tile_px": 480, "pick.views": 1, **changes}, of_any_size)
    picks = picker.pick(Micrograph(drawn((166, 274), positions, 20), "mic"), given)
    np.testing.assert_allclose(np.sort(picks.diameter_px), sizes, rtol=0.02)


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


def test_a_threshold_that_was_set_goes_along(weights_file):
    picker = Picker(weights_file, {"pick.views": 1})
    picker.threshold = 0.01
    for other in (
        pickle.loads(pickle.dumps(picker)),
        picker.with_threads(1),
        pickle.loads(pickle.dumps(picker)).with_threads(2),
    ):
        assert other.threshold == 0.01
        assert other.config.pick == picker.config.pick


def test_weights_that_found_nothing_in_validation_say_so_where_nothing_is_picked(tmp_path, weights_file):
    model, header, _ = weights.load(weights_file)
    path = tmp_path / "failed.safetensors"
    weights.save(path, model, replace(header, threshold=1.0, f1=0.0))
    micrograph = Micrograph(np.random.default_rng(0).standard_normal((90, 140)).astype(np.float32), "mic")
    with collected_warnings() as found:
        assert len(Picker(path).pick(micrograph)) == 0
    assert [one.where for one in found] == ["mic"]
    assert "the threshold stored with failed.safetensors is 1" in found[0].found
    with collected_warnings() as found:
        Picker(path, {"pick.threshold": 1}).pick(micrograph)  # which the user knows
        Picker(weights_file, {"pick.threshold": 0.9999}).pick(micrograph)
        assert len(Picker(path, {"pick.threshold": 0}).pick(micrograph))
    assert found == []


@pytest.mark.parametrize("threshold", [0.05, 0.4, 0.9])
def test_all_picks_are_above_the_threshold_by_falling_score(weights_file, monkeypatch, threshold):
    picker = stub_picker(weights_file, monkeypatch, pick_threshold=threshold)
    places = np.array([(50.0, 40.0), (120.0, 90.0), (170.0, 30.0)])
    picks = picker.pick(Micrograph(drawn((150, 230), places, 20), "mic"))
    assert (picks.score >= threshold).all()
    assert (np.diff(picks.score) <= 0).all()
    assert picks.score_kind is ScoreKind.PROBABILITY


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


@pytest.mark.parametrize("change", [{"model.dim": 64}, {"image.working_diameter_px": 20}])
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
    with pytest.raises(InputError, match=r"small.*larger than the micrograph"):
        picker.pick(Micrograph(np.eye(70, 100, dtype=np.float32), "small"), 80)


def test_picking_leaves_global_random_numbers_alone(weights_file):
    before = torch.random.get_rng_state()
    Picker(weights_file).pick(Micrograph(np.random.default_rng(2).uniform(size=(70, 100)).astype(np.float32), "mic"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_picker_that_is_sent_again_and_again_is_loaded_once_until_its_file_changes(weights_file, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights_file.read_bytes())
    picker, loads = Picker(file, {"train.threads": 1}), lambda: pickle.loads(pickle.dumps(picker))
    first = loads()
    assert loads() is first
    assert first is not picker
    picker.threshold = 0.125
    assert loads().threshold == 0.125
    assert first.threshold == 0.3
    again = loads()
    file.touch()
    assert loads() is not again


def test_scores_are_the_probabilities_that_the_weights_have_curves_for(weights_file, monkeypatch, tmp_path):
    """Each number of views has its curve; the order of the picks stays, the threshold is one of probabilities."""
    model, header, _ = weights.load(weights_file)
    calibrated = tmp_path / "calibrated.safetensors"
    curves = {"1": [2.0, 0.5], "4": [3.0, -0.25]}
    weights.save(calibrated, model, replace(header, threshold=0.4, thresholds={}, calibrations=curves))
    picture = Micrograph(drawn((300, 320), np.array([[90.0, 80], [200, 210], [150, 60]]), 20.0), "mic")
    for views, name in ((1, "1"), (2, "1"), (4, "4"), (8, "4")):
        changes = {"pick_views": views, "pick_threshold": "none"}
        plain, found = (stub_picker(path, monkeypatch, **changes) for path in (weights_file, calibrated))
        assert found.threshold == 0.4
        plain.threshold = 0.0
        before, after = plain.pick(picture, 20.0), found.pick(picture, 20.0)
        expected = header_curve(curves[name], before.score)
        kept = expected >= 0.4
        assert kept.sum() > 0
        np.testing.assert_array_equal(after.xy, before.xy[kept])
        np.testing.assert_allclose(after.score, expected[kept], rtol=1e-12)
        assert after.score_kind is ScoreKind.PROBABILITY


def header_curve(values: list[float], score: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-(slope ln(s / (1 - s)) + offset)))."""
    slope, offset = values
    return 1 / (1 + (score / (1 - score)) ** -slope * np.exp(-offset))
