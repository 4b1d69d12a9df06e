"""The table of other programs beside ours (benchmarks/peers.py): programs that are missing, and what is counted."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from upicker.io import coordinates, mrc
from upicker.particles import Particles

NAMES, SHAPE, DIAMETER = [f"mic{number}" for number in range(4)], (300, 460), 20.0


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    import peers  # type: ignore[import-not-found]

    return peers


@pytest.fixture
def of(peers: ModuleType, tmp_path: Path) -> object:
    """Two labelled and two test micrographs; their labels leave a margin of 40 pixels."""
    rows, columns = np.meshgrid(np.arange(40, 260, 30), np.arange(40, 420, 30), indexing="ij")
    xy = np.stack([columns.ravel(), rows.ravel()], 1)
    paths = []
    for name in NAMES:
        paths.append(tmp_path / "mics" / f"{name}.mrc")
        paths[-1].parent.mkdir(exist_ok=True)
        mrc.write(paths[-1], np.eye(*SHAPE, dtype=np.float32), 2.0)
        coordinates.write(tmp_path / "labels" / f"{name}.csv", Particles.of(xy, DIAMETER), "csv")
    split = tuple(paths[:2]), tuple(paths[2:])
    return peers.DataSet("made", *split, tmp_path / "labels", DIAMETER, 2.0, tmp_path / "out")


def test_a_program_that_is_missing_has_a_line_and_the_table_still_comes(
    peers: ModuleType, of: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peers_programs  # type: ignore[import-not-found]

    monkeypatch.setattr(peers_programs.shutil, "which", lambda name: None)
    some = [one for one in peers_programs.methods(peers.Tools("topaz", 10, 0)) if not one.title.startswith("UPicker")]
    found = peers_programs.Outcome({}, {}, 0.5, "stored")
    some.append(peers.Method("ours", "UPicker", 0, lambda of, folder: found))
    results = {method.key: peers.run(of, method, 0) for method in some}
    lines = peers.tables([of], some, lambda of, method: results[method.key]).splitlines()
    said = {line.split(" | ")[0].strip("| "): line.split(" | ")[2] for line in lines if line.startswith("| ")}
    assert said == {
        "method": "P / R / F1",
        "RELION 3.1.3, LoG": "not installed",
        "crYOLO, published picks": "no published picks of these micrographs at hand",
        "Topaz 0.3.20, general model": "not installed",
        "Topaz 0.3.20, trained": "not installed",
        "UPicker": "0.000 / 0.000 / 0.000",
    }
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    # What is missing may be installed later: no results are kept of it.
    assert [path.name for path in of.folder.glob("*.json")] == ["ours.json"]  # type: ignore[attr-defined]


def test_a_program_that_fails_has_a_line_too(peers: ModuleType, of: object, capsys: pytest.CaptureFixture[str]) -> None:
    def run(of: object, folder: Path) -> None:
        raise SystemExit("relion_autopick ended with 1")

    assert peers.run(of, peers.Method("relion", "RELION", 0, run), 0) == {"missing": "failed"}
    assert "ended with 1" in capsys.readouterr().err


def test_one_scorer_counts_for_all(peers: ModuleType, of: object) -> None:
    truth = of.truth(of.test[0])  # type: ignore[attr-defined]
    # Every label but one is found, 4 pixels aside; beside them a false pick, one that is below the threshold, and one
    # in the margin that the labels leave.
    xy = np.concatenate([truth.xy[1:] + np.array([4, 0]), [[65, 55], [205, 55], [5, 150]]])
    scores = np.concatenate([np.full(len(truth) - 1, 0.9), [0.8, 0.2, 0.9]])
    picks = {path.stem: Particles.of(xy, DIAMETER, scores) for path in of.test}  # type: ignore[attr-defined]
    outcome = peers.Outcome(picks, picks, 0.5, "stored")
    result = peers.run(of, peers.Method("some", "Some", 2, lambda of, folder: outcome), 0)
    n = len(truth)
    assert result["margin_px"] == pytest.approx(38)  # less a tenth of a diameter
    assert result["iou"]["precision"] == pytest.approx((n - 1) / n)
    assert result["iou"]["recall"] == pytest.approx((n - 1) / n)
    assert [one["F1"] for one in result["each"]] == pytest.approx([(n - 1) / n] * 2)
    # By centre, 4 pixels aside are as good; nothing is run again.
    assert result["centre"]["f1"] == pytest.approx((n - 1) / n)
    assert peers.run(of, peers.Method("some", "Some", 2, lambda of, folder: None), 0) == result
