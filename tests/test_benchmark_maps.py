"""The figures of benchmarks/maps.py: Fourier shell correlation, resolution, masks, and axes of symmetry."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BOX = 32


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    import maps  # type: ignore[import-not-found]

    return maps


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(BOX,) * 3)


def test_a_map_correlates_with_itself_and_with_minus_itself(maps: ModuleType) -> None:
    assert maps.fsc(noise(0), 3 * noise(0)) == pytest.approx(np.ones(BOX // 2))
    assert maps.fsc(noise(0), -noise(0)) == pytest.approx(-np.ones(BOX // 2))


def test_independent_noise_lowers_the_correlation_of_two_halves_to_its_expectation(maps: ModuleType) -> None:
    signal = noise(0)
    curve = maps.fsc(signal + noise(1), signal + noise(2))
    assert curve[BOX // 4 :].mean() == pytest.approx(0.5, abs=0.03)
    assert abs(maps.fsc(noise(1), noise(2))[BOX // 4 :]).mean() < 0.06


def test_maps_that_agree_up_to_a_shell_have_its_resolution(maps: ModuleType) -> None:
    same = maps.low_passed(noise(0), 8) * 100
    curve = maps.fsc(same + noise(1), same + noise(2))
    assert maps.crossing(curve, 0.5, box_A=BOX * 2.0) == pytest.approx(BOX * 2.0 / 10, rel=0.15)


def test_resolution_lies_between_the_shells_around_the_level(maps: ModuleType) -> None:
    curve = np.array([1, 1, 0.9, 0.7, 0.3, 0, 0, 0])
    assert maps.crossing(curve, 0.5, 100) == pytest.approx(100 / 3.5)
    assert maps.crossing(np.ones(8), 0.5, 100) == pytest.approx(100 / 8)
    assert maps.crossing(np.zeros(8), 0.5, 100) == 100


def test_a_later_rise_of_the_curve_is_no_resolution(maps: ModuleType) -> None:
    assert maps.crossing(np.array([1, 1, 0.4, 0.9, 0.9, 0.1]), 0.5, 60) == pytest.approx(60 / (1 + 0.5 / 0.6))


def test_a_mask_is_whole_in_the_particle_soft_around_it_and_empty_far_away(maps: ModuleType) -> None:
    mask = maps.soft_mask(maps.ball(BOX, 12))
    assert mask[BOX // 2, BOX // 2, BOX // 2] == 1
    assert mask[0, 0, 0] == 0
    assert ((mask > 0) & (mask < 1)).any()


def barrel(order: int) -> np.ndarray:
    """Draw blobs in two rings on RELION's axes of D-n: the main one along z, a twofold one along x."""
    points = np.indices((BOX,) * 3)[::-1] - BOX // 2
    cube = np.zeros((BOX,) * 3)
    for side in (-1, 1):
        for at in range(order):
            angle = 2 * np.pi * at / order + side * 0.25
            centre = np.array([7 * np.cos(angle), 7 * np.sin(angle), side * 5.0])
            cube += np.exp(-(((points.T - centre) ** 2).sum(-1).T) / 4)
    return cube


def test_the_axes_of_a_turned_particle_are_brought_back(maps: ModuleType) -> None:
    straight = barrel(5)
    half_turn = np.diag([1.0, -1.0, -1.0])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.7), -np.sin(0.7)], [0, np.sin(0.7), np.cos(0.7)]])
    turned = maps.resampled(straight, 1, BOX, 1, maps.about_z(33) @ tilt @ maps.about_z(50))
    back = maps.resampled(turned, 1, BOX, 1, maps.on_axes(turned, "D5"))

    def likeness(cube: np.ndarray, rotation: np.ndarray) -> float:
        return float(np.corrcoef(cube.ravel(), maps.resampled(cube, 1, BOX, 1, rotation).ravel())[0, 1])

    assert likeness(straight, half_turn) > 0.97
    assert likeness(turned, half_turn) < 0.9
    assert likeness(back, half_turn) > 0.95
    assert likeness(back, maps.about_z(72)) > 0.95


def test_a_map_on_a_coarser_grid_keeps_its_origin_and_size(maps: ModuleType) -> None:
    fine = maps.ball(BOX, 16)
    coarse = maps.resampled(fine, 1.0, BOX // 2, 2.0)
    assert coarse[BOX // 4, BOX // 4, BOX // 4] == pytest.approx(1, abs=0.1)
    assert coarse.sum() * 8 == pytest.approx(fine.sum(), rel=0.02)
    centre = [(np.arange(BOX // 2) * coarse.sum(axis)).sum() / coarse.sum() for axis in ((1, 2), (0, 2), (0, 1))]
    assert centre == pytest.approx([BOX // 4] * 3, abs=0.02)


def test_classes_are_kept_by_resolution_and_size(maps: ModuleType, tmp_path: Path) -> None:
    import reconstruct  # type: ignore[import-not-found]

    rows = ["a 0.50 12.0", "b 0.30 17.9", "c 0.15 18.1", "d 0.02 10.0", "e 0.03 inf"]
    model = tmp_path / "run_model.star"
    columns = "_rlnReferenceImage\n_rlnClassDistribution\n_rlnEstimatedResolution\n"
    model.write_text(
        "data_model_general\n\n_rlnNrClasses 5\n\ndata_model_classes\n\nloop_\n" + columns + "\n".join(rows)
    )
    assert reconstruct.chosen(model) == {1, 2}
