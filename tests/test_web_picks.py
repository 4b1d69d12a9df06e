"""Picks on the page: what the server answers, against `upicker.scoring`."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient
from waiting import PATIENCE_S, until
from web_client import DIAMETER_PX, client, make_micrographs, make_project, pick_store

from upicker import scoring
from upicker.errors import InputError
from upicker.io import coordinates
from upicker.io.labels import LabelFolder
from upicker.io.micrographs import Reading
from upicker.io.picks import Picks
from upicker.io.sources import DistinctReader
from upicker.particles import Particles, ScoreKind
from upicker.run import record
from upicker.run.decoys import WANTED, Choice
from upicker.run.entries import Entry
from upicker.web.inspecting import exporting, loading, summaries
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.inspecting.scores import MicrographScores, PickScores, outliers
from upicker.web.project import Project, inspecting

SOME = (0.0, 0.3, 0.55, 0.7, 0.995)


def store_of(project: Project) -> PickStore:
    return pick_store(project)


def pairs(tmp_path: Path) -> list[tuple[Particles, Particles]]:
    """Picks and labels of the labelled micrographs as the files have them."""
    return [
        (coordinates.read(tmp_path / f"picks/mic{i}.csv"), coordinates.read(tmp_path / f"labels/mic{i}.csv"))
        for i in range(2)
    ]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Three micrographs with picks; the first two with labels."""
    return make_project(tmp_path, picks=True)


@pytest.fixture
def visitor(project: Project) -> Iterator[TestClient]:
    with client(project) as found:
        loaded(found)
        yield found


def loaded(visitor: TestClient) -> dict:
    def summary() -> dict | None:
        found = visitor.get("/api/picks/summary").json()
        return None if "loading" in found else found

    return until(summary, "picks to be read")


# --- counting


def random_groups(seed: int, micrographs: int = 40) -> list[MicrographScores]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 30, micrographs) * (rng.random(micrographs) > 0.2)
    return [
        MicrographScores(
            rng.integers(0, 50, n) / 50, rng.random(n) < 0.6, rng.random(n) < 0.9, int(rng.integers(-1, 25))
        )
        for n in sizes
    ]


def test_counts_are_those_of_counting_one_by_one():
    groups = random_groups(1)
    scores = PickScores(groups)
    for threshold in (-np.inf, 0.0, 0.3, 0.301, 0.98, 2.0):
        kept = [(g.score >= threshold) & g.accepted for g in groups]
        true = [int((g.hit & k).sum()) for g, k in zip(groups, kept)]
        assert scores.counts(threshold).tolist() == [int(k.sum()) for k in kept]
        means = [g.score[k].mean() if k.any() else np.nan for g, k in zip(groups, kept)]
        np.testing.assert_allclose(scores.means(threshold), means, rtol=1e-12)
        f1s = [2 * t / max(k.sum() + g.labels, 1) if g.labels >= 0 else np.nan for g, k, t in zip(groups, kept, true)]
        np.testing.assert_allclose(scores.f1s(threshold), f1s)
        picks = sum(int(k.sum()) for g, k in zip(groups, kept) if g.labels >= 0)
        found = sum(t for g, t in zip(groups, true) if g.labels >= 0)
        labels = sum(g.labels for g in groups if g.labels >= 0)
        expected = (found / max(picks, 1), found / labels, 2 * found / (picks + labels))
        assert scores.pooled(threshold) == pytest.approx(expected)


def test_the_curve_is_what_each_of_its_thresholds_gives():
    scores = PickScores(random_groups(2))
    curves = scores.curves()
    assert curves.histogram.sum() == scores.accepted.sum() == curves.counts[0]
    assert curves.precision is not None
    assert curves.recall is not None
    assert curves.f1 is not None
    for at in range(0, len(curves.edges), 7):
        assert curves.counts[at] == scores.counts(curves.edges[at]).sum()
        figures = curves.precision[at], curves.recall[at], curves.f1[at]
        assert figures == scores.pooled(curves.edges[at])


def test_far_scores_do_not_squeeze_the_histogram():
    rng = np.random.default_rng(3)
    score = np.append(rng.normal(5, 1, 5000), [900.0])
    scores = PickScores([MicrographScores(score, score < 0, score < 1000)])
    curves = scores.curves()
    assert curves.edges[-1] < 20
    assert curves.histogram.sum() == 5001
    assert curves.counts[-1] == (score >= curves.edges[-1]).sum()


@pytest.mark.parametrize("values", [[], [1.0, 1.0], [0.25]])
def test_few_scores_have_a_range_too(values):
    score, none, nothing = np.array(values), np.empty(0), np.empty(0, bool)
    scores = PickScores([MicrographScores(score, score < 0, score < 2), MicrographScores(none, nothing, nothing)])
    curves = scores.curves()
    assert scores.low < scores.high
    assert curves.histogram.sum() == len(values)
    assert scores.counts(scores.low).sum() == len(values)


def test_no_micrographs_are_no_error():
    assert PickScores([]).curves().histogram.sum() == 0


def test_outliers_are_the_empty_ones_and_those_far_from_the_median():
    counts = np.array([50, 52, 48, 51, 49, 53, 0, 300, 2, 0])
    picked = np.array([True] * 9 + [False])
    assert outliers(counts, picked) == {6: "empty", 7: "many", 8: "few"}
    assert outliers(np.array([100] * 9 + [101]), np.ones(10, bool)) == {}
    assert outliers(np.array([5, 500, 0]), np.ones(3, bool)) == {2: "empty"}


class Counted:
    """An array, and how many of its values were read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.read = values, 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: object) -> np.ndarray:
        found = self.values[index]
        self.read += found.size
        return found


def test_counting_reads_few_scores_of_each_micrograph():
    """So that the page can count millions of picks while the threshold is dragged: a bisection, not a walk."""
    rng = np.random.default_rng(0)
    micrographs, picks = 500, 300
    nothing, all_ = np.zeros(picks, bool), np.ones(picks, bool)
    scores = PickScores([MicrographScores(rng.random(picks), nothing, all_) for _ in range(micrographs)])
    for name in ("score", "_kept"):
        setattr(scores, name, Counted(getattr(scores, name)))
    for threshold in np.linspace(0.1, 0.9, 25):
        scores.score.read = scores._kept.read = 0
        counts = scores.counts(threshold)
        assert counts.sum() == (scores.score.values >= threshold).sum()
        assert 0 < scores.score.read <= micrographs * (np.log2(picks) + 2)
        assert scores._kept.read == micrographs


# --- what the page asks


def test_counts_and_figures_are_those_of_evaluate(tmp_path, visitor):
    for threshold in SOME:
        found = visitor.get("/api/picks/counts", params={"threshold": threshold, "detail": 1}).json()
        both = pairs(tmp_path)
        expected = scoring.score(both, threshold=threshold)
        assert found["counts"][:2] == [len(picks.above(threshold)) for picks, _ in both]
        assert found["score"] == {
            "precision": expected.precision,
            "recall": expected.recall,
            "f1": expected.f1,
        }
        each = [scoring.score([pair], threshold=threshold).f1 for pair in both]
        assert found["f1s"][:2] == pytest.approx(each, abs=1e-4)
        assert found["f1s"][2] is None
        assert found["total"] == sum(found["counts"])


def test_the_curve_is_that_of_evaluate(tmp_path, visitor):
    found = visitor.get("/api/picks/curve").json()
    for threshold, count, f1 in list(zip(found["thresholds"], found["counts"], found["f1"]))[::40]:
        assert f1 == pytest.approx(scoring.score(pairs(tmp_path), threshold=threshold).f1, abs=1e-6)
        assert count == sum(visitor.get("/api/picks/counts", params={"threshold": threshold}).json()["counts"])


def test_summary(visitor):
    found = loaded(visitor)
    assert (found["total"], found["micrographs"], found["labelled"], found["rejected"]) == (45, 3, 2, 0)
    assert found["has_labels"]
    assert found["threshold"] is None
    assert sum(found["histogram"]) == 45
    assert (found["edges"][0], found["edges"][-1]) == (0, 1)
    assert found["problems"] == []


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([ScoreKind.PROBABILITY] * 3, "probability"),
        ([ScoreKind.CORRELATION] * 3, "template correlation (σ of noise)"),
        ([ScoreKind.PROBABILITY, ScoreKind.CORRELATION, ScoreKind.GIVEN], "score"),
    ],
)
def test_the_page_and_its_exports_say_what_the_scores_are(tmp_path, project, kinds, words):
    for number, kind in enumerate(kinds):
        file = tmp_path / f"picks/mic{number}.csv"
        coordinates.write(file, replace(coordinates.read(file), score_kind=kind), "csv")
    store = store_of(project)
    store.wait(30)
    assert summaries.summary(store)["score"]["words"] == words
    exporting.export(store, "csv", 0.1, str(tmp_path / "out"))
    assert [coordinates.read(tmp_path / f"out/mic{i}.csv").score_kind for i in range(3)] == kinds
    entries = record.read(tmp_path / "out").micrographs
    assert [entry.score for entry in entries] == [kind.declaration for kind in kinds]


def test_picks_of_a_micrograph_carry_verdicts_and_labels_where_they_were_found(tmp_path, visitor):
    picks, labels = pairs(tmp_path)[0]
    found = visitor.get("/api/micrographs/0/picks").json()
    match = scoring.match(picks, labels)
    assert [row[0] for row in found["picks"]] == list(range(len(picks)))
    assert [row[1:4] for row in found["picks"]] == np.column_stack([picks.xy, picks.score]).tolist()
    assert [row[5] for row in found["picks"]] == match.hit.astype(int).tolist()
    assert {row[4] for row in found["picks"]} == {DIAMETER_PX}
    for threshold in SOME:
        missed = scoring.match(picks.above(threshold), labels).missed
        assert [at is None or at < threshold for *_, at in found["labels"]] == missed.tolist()
    above = visitor.get("/api/micrographs/0/picks?threshold=0.7").json()["picks"]
    assert [row[0] for row in above] == np.flatnonzero(picks.score >= 0.7).tolist()
    unlabelled = visitor.get("/api/micrographs/2/picks").json()
    assert {row[5] for row in unlabelled["picks"]} == {None}
    assert unlabelled["labels"] == []


def test_the_list_has_counts_at_the_first_threshold(visitor):
    assert [one["picks"] for one in visitor.get("/api/micrographs").json()] == [15, 15, 15]


ADDRESSES = {
    "/api/picks/counts?threshold=much": 400,
    "/api/picks/counts?threshold=nan": 400,
    "/api/picks/counts?threshold=inf": 200,
    "/api/micrographs/3/picks": 404,
    "/api/gallery?kind=nice": 400,
    "/api/gallery?count=-1": 400,
    "/api/gallery?count=99999999": 200,
    "/api/gallery/sheet": 400,
    "/api/gallery/sheet?cells=0.99": 404,
    "/api/gallery/sheet?cells=7.0": 404,
    "/api/gallery/sheet?cells=0.1,x": 400,
    "/api/gallery/sheet?cells=" + ",".join(["0.1"] * 201): 400,
    "/api/gallery/sheet?cells=0.1&lowpass=much": 400,
    "/api/gallery/sheet?cells=0.1,1.2&lowpass=20A": 200,
}


def test_bad_addresses_are_answered_in_words(visitor):
    for address, status in ADDRESSES.items():
        found = visitor.get(address)
        assert found.status_code == status, address
        assert status == 200 or found.json()["error"]["found"], address


# --- rejecting


def reject(visitor: TestClient, **content: object) -> int:
    return visitor.post("/api/picks/reject", json=content).status_code


def test_rejected_picks_count_nowhere(tmp_path, project, visitor):
    assert reject(visitor, micrograph=0, indices=[0, 3], rejected=True) == 200
    both = pairs(tmp_path)
    both[0] = both[0][0].select(np.delete(np.arange(15), [0, 3])), both[0][1]
    for threshold in SOME:
        found = visitor.get("/api/picks/counts", params={"threshold": threshold}).json()
        assert found["score"]["f1"] == scoring.score(both, threshold=threshold).f1
        assert found["counts"][0] == len(both[0][0].above(threshold))
    assert visitor.get("/api/picks/curve").json()["counts"][0] == 43
    rows = visitor.get("/api/micrographs/0/picks").json()["picks"]
    assert [row[0] for row in rows if row[6]] == [0, 3]
    assert reject(visitor, micrograph=0, indices=[0], rejected=False) == 200
    kept = json.loads((project.state / "rejected.json").read_text())
    assert kept == {"rejected": {"mic0": [pairs(tmp_path)[0][0].xy[3].round(2).tolist()]}}


def test_rejections_are_found_again_even_when_the_file_is_written_in_another_order(tmp_path, project):
    first = store_of(project)
    first.reject([(1, [2, 5]), (2, None)], True)
    gone = first.one(1).particles.xy[[2, 5]]
    picks = coordinates.read(tmp_path / "picks/mic1.csv")
    coordinates.write(tmp_path / "picks/mic1.csv", picks.select(np.arange(len(picks))[::-1]), "csv")
    again = store_of(project)
    assert again.rejected() == 2 + 15
    np.testing.assert_array_equal(again.one(1).particles.xy[~again.one(1).accepted], gone[::-1])


def test_a_rejected_pick_leaves_its_label_to_the_next_one(tmp_path):
    paths = make_micrographs(tmp_path / "micrographs", 1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "picks").mkdir()
    coordinates.write(tmp_path / "labels/mic0.csv", Particles.of([[100, 100]], 20), "csv")
    coordinates.write(tmp_path / "picks/mic0.csv", Particles.of([[101, 100], [99, 100]], 20, [0.9, 0.8]), "csv")
    store = store_of(inspecting(paths, Reading(), tmp_path / "picks", tmp_path / "labels"))
    assert (store.one(0).label >= 0).tolist() == [True, False]
    store.reject([(0, [0])], True)
    assert (store.one(0).label >= 0).tolist() == [False, True]
    assert store.found.scores.pooled(0.5) == (1, 1, 1)


NONSENSE: list[dict] = [
    {"micrograph": 0, "indices": [99], "rejected": True},
    {"micrograph": 9, "indices": [0], "rejected": True},
    {"micrograph": 0, "indices": [-1], "rejected": True},
    {"micrograph": 0, "indices": ["0"], "rejected": True},
    {"micrograph": 0, "indices": [0], "rejected": "yes"},
    {"micrograph": True, "indices": [0]},
    {"changes": [{"micrograph": 0, "indices": [0]}, {"micrograph": 1, "indices": [99]}]},
    {"changes": "all"},
    {},
]


def test_nonsense_rejects_nothing(project, visitor):
    for content in NONSENSE:
        assert reject(visitor, **content) in (400, 404), content
    assert loaded(visitor)["rejected"] == 0
    assert not (project.state / "rejected.json").exists()


def test_a_damaged_list_of_rejections_is_none(project):
    project.state.mkdir()
    (project.state / "rejected.json").write_text('{"rejected": [1, 2')
    assert store_of(project).rejected() == 0


# --- reading


def test_thresholds_come_from_the_record(tmp_path, project):
    config = project.config
    record.write(tmp_path / "picks", "pick", config, {"threshold": 0.31}, [])
    found = loading.origin(tmp_path / "picks")
    assert (found.stored, found.picked_at) == (0.31, 0.31)
    assert "picked at 0.31" in found.note.lower()
    assert "--threshold 0.05" in found.note
    record.write(tmp_path / "picks", "propose", config, {}, [])
    assert "top_k" in loading.origin(tmp_path / "picks").note
    (tmp_path / "picks/run.toml").write_text("[run\n")
    assert loading.origin(tmp_path / "picks") == loading.Origin()


def test_picks_that_are_false_by_chance_are_told(tmp_path, project):
    about = Choice(0.1, 0.31, WANTED, 0.08, 50, 4, 3).about()
    entries = [Entry(f"m{number}", particles=100) for number in range(2)]
    record.write(tmp_path / "picks", "pick", project.config, about, entries)
    found = loading.origin(tmp_path / "picks")
    assert found.stored == 0.31
    assert "There, 16 of 200 picks (8.0%) are false by chance" in found.note


def test_where_another_threshold_was_given_that_of_the_weights_is_marked(tmp_path, project, monkeypatch):
    (tmp_path / "model.safetensors").touch()
    header = SimpleNamespace(threshold=0.42, by_views={1: 0.5, 4: 0.42})
    weights = SimpleNamespace(read_header=lambda path: header)
    monkeypatch.setitem(sys.modules, "upicker.model.weights", weights)
    about = {"threshold": 0.05, "model": str(tmp_path / "model.safetensors")}
    record.write(tmp_path / "picks", "pick", project.config.with_changes({"pick.threshold": 0.05}), about, [])
    found = loading.origin(tmp_path / "picks")
    assert (found.stored, found.picked_at) == (0.42, 0.05)
    assert "--threshold 0.01" in found.note
    fast = {"pick.threshold": 0.05, "pick.views": 1}
    record.write(tmp_path / "picks", "pick", project.config.with_changes(fast), about, [])
    assert loading.origin(tmp_path / "picks").stored == 0.5, "scores differ with the number of views"


@pytest.mark.parametrize("form", ["star", "relion", "particles", "topaz", "coco", "csv"])
def test_picks_are_read_from_what_any_program_writes(tmp_path, form):
    paths = make_micrographs(tmp_path / "micrographs", 2)
    truth = [Particles.of([[30, 40 + i], [100, 90]], 20, [0.9, 0.4 + i / 10]) for i in range(2)]
    all_picks = [Picks(str(path), particles, (371, 533), 2.0) for path, particles in zip(paths, truth)]
    files = coordinates.write_all(tmp_path / "picks", all_picks, form)
    single = form in ("particles", "topaz", "coco")
    found = loading.read_picks(files[0] if single else tmp_path / "picks", ["mic0", "mic1"], lambda done, of: None)
    assert found.problems == []
    for picks, particles in zip(found.values, truth):
        assert picks is not None
        np.testing.assert_allclose(picks.particles.xy, particles.xy, atol=1e-3)


def test_picks_beside_a_list_are_read_too(tmp_path):
    coordinates.write_all(tmp_path / "job", [Picks("M/mic0.mrc", Particles.of([[30, 40]]))], "relion")
    coordinates.write(tmp_path / "job/mic1.csv", Particles.of([[50, 60]]), "csv")
    found = loading.read_picks(tmp_path / "job", ["mic0", "mic1"], lambda done, of: None)
    assert [None if one is None else one.particles.xy.tolist() for one in found.values] == [[[30, 40]], [[50, 60]]]
    with pytest.raises(InputError, match="none of the 2 names"):
        loading.read_picks(tmp_path / "job", ["other"], lambda done, of: None)


def test_endings_of_names_that_were_seen_through_are_told(tmp_path):
    coordinates.write(tmp_path / "mic0_bad.csv", Particles.of([[30, 40]]), "csv")
    for given in (tmp_path, tmp_path / "mic0_bad.csv"):
        found = loading.read_picks(given, ["mic0"], lambda done, of: None)
        assert [problem for problem in found.problems if "names differ by '_bad'" in problem]


def test_labels_of_refined_particles_need_the_pixel_size(tmp_path):
    head = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n"
    (tmp_path / "mic0.star").write_text(f"{head}30 40 6\n")
    labels = LabelFolder(tmp_path, [Path("mic0.mrc")])
    [found] = loading.read_labels(labels, lambda done, of: None, DistinctReader(1.5)).values
    assert found is not None
    assert found.xy.tolist() == [[26, 40]]


def test_a_damaged_file_is_named_and_the_others_are_shown(tmp_path, project):
    (tmp_path / "picks/mic1.csv").write_text("x,y,score\n1,2,high\n")
    (tmp_path / "picks/stranger.csv").write_text("x,y,score\n1,2,0.5\n")
    store = store_of(project)
    assert [store.one(i).picks is None for i in range(3)] == [False, True, False]
    assert "mic1.csv" in store.found.problems[0]
    assert store.found.unmatched == 1
    assert store.counts()[1] is None
    with client(project) as visitor:
        loaded(visitor)
        assert visitor.get("/api/picks/counts").json()["counts"][1] is None


def test_picks_of_other_micrographs_are_an_error_in_words(tmp_path):
    paths = make_micrographs(tmp_path / "micrographs", 1)
    file = tmp_path / "picks.txt"
    file.write_text("image_name\tx_coord\ty_coord\tscore\nother\t3\t4\t0.5\n")
    with client(inspecting(paths, Reading(), file)) as visitor:
        loaded(visitor)
        found = visitor.get("/api/picks/summary")
        assert found.status_code == 400
        assert "other" in found.json()["error"]["found"]
        assert visitor.get("/api/picks/counts").status_code == 400


def test_while_picks_are_read_the_page_hears_how_far(project, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(loading, "read_picks", lambda *_: go_on.wait(PATIENCE_S) and loading.Read([None] * 3))
    with client(project) as visitor:
        assert visitor.get("/api/picks/summary").json() == {"loading": 0.0}
        assert visitor.get("/api/picks/counts").status_code == 503
        assert [one["picks"] for one in visitor.get("/api/micrographs").json()] == [None] * 3
        go_on.set()
        assert loaded(visitor)["micrographs"] == 0
