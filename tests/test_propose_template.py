"""A template learned from the proposals finds discs, rods and rings; contaminants do not spoil it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from upicker.config import Config
from upicker.errors import ConfigError
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.particles import Particles, ScoreKind
from upicker.propose import alog
from upicker.propose.proposals import EXAMPLES, examples, propose, with_template
from upicker.propose.template import FEWEST, correlate, explained_energy, learn, radii
from upicker.scoring import score

CONFIG = Config()
DIAMETER = 32.0
SHAPE = (613, 749)


def shape_of(kind: str, rng: np.random.Generator, reach: int) -> np.ndarray:
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    radius = np.hypot(y, x)
    if kind == "disc":
        return 0.7 * (radius <= DIAMETER / 2)
    if kind == "ring":
        return 1.2 * (np.abs(radius - 0.42 * DIAMETER) <= 2.5)
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return 1.0 * ((np.abs(along) <= DIAMETER / 2) & (np.abs(across) <= DIAMETER / 5))


def picture(kind: str, seed: int, contaminants: int = 0, particles: int = 70) -> tuple[Prepared, Particles]:
    """Noise of unit variance with particles of a kind, and blobs three times as large and five times as strong."""
    rng = np.random.default_rng(seed)
    pixels, reach, placed = np.zeros(SHAPE), 20, np.empty((0, 2))
    while len(placed) < particles:
        at = rng.integers(reach, [SHAPE[1] - reach, SHAPE[0] - reach])
        if not len(placed) or np.hypot(*(placed - at).T).min() > 1.2 * DIAMETER:
            placed = np.append(placed, [at], 0)
            window = slice(at[1] - reach, at[1] + reach + 1), slice(at[0] - reach, at[0] + reach + 1)
            pixels[window] += shape_of(kind, rng, reach)
    for _ in range(contaminants):
        y, x = np.indices(SHAPE) - rng.integers(0, min(SHAPE), 2)[:, None, None]
        pixels += 4 * np.exp(-(y**2 + x**2) / (2 * DIAMETER**2))
    pixels += gaussian_filter(rng.normal(size=SHAPE), 0.8) * 2.5
    prepared = Prepared(pixels.astype(np.float32), Frame(SHAPE, SHAPE), DIAMETER)
    return prepared, Particles.of(placed, DIAMETER)


def f1_of(kind: str, contaminants: int = 0, **knobs) -> float:
    """F1 of the proposals for two pictures that share what is learned, at the automatic K."""
    pairs = [picture(kind, seed, contaminants) for seed in (0, 1)]
    config = with_template(replace(CONFIG.propose, top_k="auto", **knobs), [one for one, _ in pairs], CONFIG.image)
    return score([(propose(one, config, CONFIG.image), truth) for one, truth in pairs]).f1


@pytest.mark.parametrize(("kind", "least"), [("disc", 0.97), ("rod", 0.85), ("ring", 0.97)])
def test_it_finds_what_it_learned_from_the_strongest_proposals(kind, least):
    assert f1_of(kind) > least


def test_the_filter_alone_does_not_find_hollow_particles():
    assert f1_of("ring", template=False) < 0.3


def test_contaminants_are_not_what_is_learned():
    assert f1_of("ring", contaminants=4) > 0.93


def test_centres_are_those_of_the_particles():
    prepared, truth = picture("ring", 2)
    found = propose(prepared, replace(CONFIG.propose, top_k="70"), CONFIG.image)
    assert found.score_kind is ScoreKind.CORRELATION
    distance = np.hypot(*(found.xy[:, None] - truth.xy[None]).transpose(2, 0, 1)).min(1)
    assert np.median(distance) < 1.0
    assert (np.diff(found.score) <= 0).all()
    assert (found.diameter_px == DIAMETER).all()


def test_answers_are_in_standard_deviations_of_white_noise_and_highest_at_the_centre():
    profile = np.where(radii() < 0.5, 1.0, 0.0)
    noise = np.random.default_rng(0).normal(size=(401, 517)).astype(np.float32)
    assert correlate(noise, profile, DIAMETER)[24:-24, 24:-24].std() == pytest.approx(1, rel=0.02)
    pixels = np.zeros((201, 307), np.float32)
    y, x = np.indices(pixels.shape)
    pixels[np.hypot(y - 77, x - 190) <= DIAMETER / 2] = 2
    heights = correlate(pixels, profile, DIAMETER)
    assert np.unravel_index(heights.argmax(), heights.shape) == (77, 190)
    # The energy of what it looks for, less its mean: 2 sqrt(sum (t - mean)^2) of a disc of 16 in one of 24 pixels.
    inside, all_of_it = np.pi * 16**2, np.pi * 24**2
    assert heights.max() == pytest.approx(2 * np.sqrt(inside * (1 - inside / all_of_it)), rel=0.05)


def test_any_scale_gives_the_same_profile():
    prepared, truth = picture("disc", 7)
    half = np.ascontiguousarray(prepared.pixels[:612, :748].reshape(306, 2, 374, 2).mean((1, 3)))
    small = Prepared(half, Frame((612, 748), half.shape), DIAMETER)
    fine, coarse = (learn([one], [one.frame.to_working(truth.xy)]) for one in (prepared, small))
    np.testing.assert_allclose(fine[:12].mean(), coarse[:12].mean(), rtol=0.1)
    np.testing.assert_allclose(fine[19:].mean(), 0, atol=0.06)
    np.testing.assert_allclose(coarse[19:].mean(), 0, atol=0.06)


def test_with_too_few_particles_the_filter_proposes_alone():
    prepared, truth = picture("disc", 5, particles=FEWEST - 1)
    assert learn([prepared], [truth.xy]) is None
    none = with_template(CONFIG.propose, [], CONFIG.image)
    assert none.profile == ()
    plain = replace(CONFIG.propose, template=False)
    found, expected = propose(prepared, none, CONFIG.image), alog.propose(prepared, plain, CONFIG.image)
    np.testing.assert_array_equal(found.xy, expected.xy)
    assert found.score_kind is ScoreKind.FILTER_RESPONSE


def test_what_is_settled_stays_and_travels_as_plain_values():
    prepared, _ = picture("ring", 6)
    config = CONFIG.with_changes({"propose.top_k": "auto"})
    chosen = with_template(config.propose, [prepared], config.image)
    assert with_template(chosen, [picture("disc", 1)[0]], config.image) == chosen
    stored = Config().with_tables(replace(config, propose=chosen).to_tables(), "test")
    assert stored.propose == chosen
    own, again = (propose(prepared, one, config.image) for one in (config.propose, stored.propose))
    np.testing.assert_array_equal(own.xy, again.xy)


def test_a_range_that_is_given_is_the_only_one_tried():
    prepared, _ = picture("ring", 6)
    small = with_template(replace(CONFIG.propose, min_ratio=0.3, max_ratio=0.5), [prepared], CONFIG.image)
    free = with_template(CONFIG.propose, [prepared], CONFIG.image)
    assert np.argmax(free.profile) > 10  # the wall
    assert np.argmax(small.profile) < 5  # a part of it, taken for the whole


def test_a_profile_of_another_length_is_refused():
    prepared, _ = picture("disc", 0)
    with pytest.raises(ConfigError, match=r"propose\.profile"):
        propose(prepared, replace(CONFIG.propose, profile=(1.0, 0.5)), CONFIG.image)


def test_only_usable_ice_counts():
    prepared, _ = picture("disc", 0)
    usable = np.zeros(SHAPE, bool)
    usable[:, :400] = True
    found = propose(prepared, CONFIG.propose, CONFIG.image, usable)
    assert len(found)
    assert found.xy[:, 0].max() < 400


@pytest.mark.parametrize("count", [0, 1, 5, 6, 23])
def test_a_few_micrographs_from_all_over_the_run_are_asked(count):
    few = list(examples(range(count)))
    assert len(few) == min(count, EXAMPLES)
    assert len(set(few)) == len(few)
    assert not few or few[-1] >= count - 1 - count // EXAMPLES * 2


def test_noise_is_not_explained_and_particles_are_best_by_their_own_template():
    noise, _ = picture("disc", 8, particles=0)
    rings, _ = picture("ring", 8)
    disc, ring = np.where(radii() < 0.5, 1.0, 0.0), np.where(np.abs(radii() - 0.42) < 0.08, 1.0, 0.0)

    def more(prepared: Prepared, profile: np.ndarray) -> float:
        bright, dark = explained_energy(prepared, profile)
        return (bright - dark) / (bright + dark)

    assert abs(more(noise, disc)) < 0.03
    assert abs(more(noise, ring)) < 0.03
    assert more(rings, ring) > 0.3
    assert more(rings, ring) > more(rings, disc) + 0.2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_gives_no_template(seed):
    assert with_template(CONFIG.propose, [picture("disc", seed, particles=0)[0]], CONFIG.image).profile == ()


def test_a_few_faint_particles_do():
    assert with_template(CONFIG.propose, [picture("disc", 1, particles=30)[0]], CONFIG.image).profile


@pytest.mark.parametrize("template", [True, False])
def test_a_threshold_is_the_lowest_score_whatever_else_limits_the_number(template):
    """With the automatic K, the proposals are those above the threshold among the ones it keeps."""
    prepared, _ = picture("disc", 3)
    knobs = replace(CONFIG.propose, template=template, profile=None)
    knobs = with_template(knobs, [prepared], CONFIG.image)
    for top_k in ("auto", "all", "40"):
        every = propose(prepared, replace(knobs, top_k=top_k, threshold=None if top_k == "auto" else 0.0), CONFIG.image)
        for threshold in np.quantile(every.score, [0.1, 0.5, 0.9]):
            found = propose(prepared, replace(knobs, top_k=top_k, threshold=float(threshold)), CONFIG.image)
            np.testing.assert_array_equal(found.score, every.score[every.score > threshold])


def test_a_range_of_diameters_chooses_the_template():
    prepared, _ = picture("ring", 4)
    wide = with_template(CONFIG.propose, [prepared], CONFIG.image).profile
    small = replace(CONFIG.propose, min_ratio=0.1, max_ratio=0.2)
    assert with_template(small, [prepared], CONFIG.image).profile != wide


@pytest.mark.parametrize("template", [True, False])
def test_sizes_are_those_that_were_found(template):
    rng = np.random.default_rng(5)
    pixels, at = rng.normal(0, 0.05, SHAPE), []
    y, x = np.indices(SHAPE)
    true = np.tile([0.7, 0.85, 1.0, 1.2], 12) * DIAMETER
    for number, diameter in enumerate(true):
        at.append((60 + 80 * (number % 8), 60 + 80 * (number // 8)))
        pixels += np.hypot(x - at[-1][0], y - at[-1][1]) <= diameter / 2
    raw = (SHAPE[0] * 2, SHAPE[1] * 2)
    prepared = Prepared(pixels.astype(np.float32), Frame(raw, SHAPE), 2 * DIAMETER)
    knobs = replace(CONFIG.propose, template=template, top_k=str(len(true)))
    assert set(propose(prepared, knobs, CONFIG.image).diameter_px) == {2 * DIAMETER}
    found = propose(prepared, replace(knobs, sizes=True), CONFIG.image)
    centres = prepared.frame.to_working(found.xy)
    nearest = np.hypot(*(centres[:, None] - np.array(at)).transpose(2, 0, 1)).argmin(1)
    assert len(set(nearest)) == len(true)
    assert found.diameter_px == pytest.approx(2 * true[nearest], rel=0.08)


def test_sizes_lie_in_the_range():
    prepared, _ = picture("disc", 6)
    knobs = replace(CONFIG.propose, sizes=True, min_ratio=0.9, max_ratio=1.1)
    found = propose(prepared, knobs, CONFIG.image).diameter_px / prepared.diameter_px
    assert found.min() >= 0.9
    assert found.max() <= 1.1
