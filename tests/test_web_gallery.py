"""Galleries of picks, and exports: what is chosen, drawn and written, against the files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient
from web_client import client, make_project, pick_store

from upicker.errors import UPickerError
from upicker.io import coordinates
from upicker.units import parse_length
from upicker.web.inspecting import exporting, gallery, loading
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.project import Project
from upicker.web.responses import Refused


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Three micrographs with picks; the first two with labels. The current folder is ``tmp_path/here``."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return make_project(tmp_path, picks=True)


@pytest.fixture
def store(project: Project) -> PickStore:
    return pick_store(project)


@pytest.fixture
def visitor(project: Project) -> Iterator[TestClient]:
    with client(project) as found:
        while "loading" in found.get("/api/picks/summary").json():
            pass
        yield found


# --- gallery


def test_galleries_choose_by_score(store):
    scores = store.found.scores
    ordered = np.sort(scores.score)
    highest = gallery.select(scores, "highest", 0.0, 10)
    np.testing.assert_array_equal(scores.score[highest], ordered[::-1][:10])
    lowest = gallery.select(scores, "lowest", 0.5, 6)
    np.testing.assert_array_equal(scores.score[lowest], ordered[ordered >= 0.5][:6])
    border = scores.score[gallery.select(scores, "borderline", 0.6, 8)]
    np.testing.assert_array_equal(border[:4], ordered[ordered >= 0.6][:4][::-1])
    np.testing.assert_array_equal(border[4:], ordered[ordered < 0.6][::-1][:4])
    np.testing.assert_array_equal(scores.score[gallery.select(scores, "borderline", 0.0, 8)], ordered[:8][::-1])
    assert len(gallery.select(scores, "borderline", 2.0, 8)) == 8
    false = gallery.select(scores, "false", 0.0, 100)
    assert len(false) == 8
    assert not scores.hit[false].any()
    some = gallery.select(scores, "random", 0.5, 7)
    assert len(set(some.tolist())) == 7
    assert (scores.score[some] >= 0.5).all()
    assert len(gallery.select(scores, "highest", 2.0, 10)) == len(gallery.select(scores, "lowest", 0.0, 0)) == 0
    with pytest.raises(Refused):
        gallery.select(scores, "all", 0.0, 1)


def test_an_image_shows_the_particles_it_names(visitor):
    found = visitor.get("/api/gallery", params={"kind": "highest", "count": 30}).json()
    names = ",".join(f"{cell['micrograph']}.{cell['index']}" for cell in found["cells"])
    answered = visitor.get("/api/gallery/sheet", params={"cells": names})
    assert answered.headers["content-type"] == "image/jpeg"
    image = cv2.imdecode(np.frombuffer(answered.content, np.uint8), cv2.IMREAD_GRAYSCALE)
    grid = np.asarray(image, float)
    assert grid.shape == (2 * 64, 25 * 64)
    y, x = np.mgrid[:64, :64]
    inside = np.hypot(x - 31.5, y - 31.5) < 15
    darker = [
        np.mean(cell[~inside]) - np.mean(cell[inside])
        for cell in (grid[64 * (i // 25) :, 64 * (i % 25) :][:64, :64] for i in range(len(found["cells"])))
    ]
    # The highest are right ones but for the few false ones above 0.5, which have no disc in the middle.
    right = [cell["score"] > 0.6 for cell in found["cells"]]
    assert min(d for d, r in zip(darker, right) if r) > 30


def test_low_pass_smooths_and_lost_micrographs_leave_cells_empty(store):
    class Noise:
        def boxes(self, number, xy, side_px, out_px):
            if number == 1:
                raise UPickerError("mic1", "it is gone")
            return np.random.default_rng(number).standard_normal((len(xy), out_px, out_px), np.float32)

    shown = gallery.Gallery(store, Noise())  # type: ignore[arg-type]
    which = np.array([[0, 1], [1, 0], [0, 2]])
    sharp, smooth = (shown.image(which, lowpass)[:64, :192].astype(float) for lowpass in (None, parse_length("30A")))
    assert len(np.unique(sharp[:, 64:128])) == 1
    steps = [np.abs(np.diff(grid[:, :64], axis=1)).mean() for grid in (sharp, smooth)]
    assert steps[1] < 0.5 * steps[0]


# --- exporting


def test_every_format_is_offered_with_its_use(visitor):
    found = visitor.get("/api/export").json()
    assert {one["name"] for one in found["formats"]} == set(coordinates.TARGETS)
    assert Path(found["folder"]).name == "picks_selected"


def test_an_export_reads_back_as_what_was_kept(store):
    store.reject([(0, [0, 1])], True)
    for format in coordinates.TARGETS:
        done: dict[str, Any] = exporting.export(store, format, 0.6, f"out_{format}")
        folder = Path(done["folder"])
        kept = {
            f"mic{i}": store.one(i).particles.select(store.one(i).accepted & (store.one(i).particles.score >= 0.6))
            for i in range(3)
        }
        assert done["written"] == sum(map(len, kept.values()))
        found = loading.read_picks(folder, list(kept), lambda done, of: None)
        for picks, expected in zip(found.values, kept.values()):
            assert picks is not None, format
            np.testing.assert_allclose(picks.particles.xy, expected.xy, atol=2e-3, err_msg=format)
        again = loading.origin(folder)
        assert (again.stored, again.command) == (0.6, "inspect")


def test_exports_go_to_new_places_below_allowed_folders_only(tmp_path, store):
    (tmp_path / "outside").mkdir()
    inner = tmp_path / "here" / "link"
    inner.symlink_to("/")
    for folder in ("", "..", "/tmp/elsewhere", "link/x", str(tmp_path / "picks"), str(tmp_path / "picks/in"), "a\0b",
                   str(tmp_path / "labels"), str(tmp_path)):  # fmt: skip
        with pytest.raises(Refused) as caught:
            exporting.export(store, "csv", 0.5, folder)
        assert caught.value.status == 400, folder
    exporting.export(store, "csv", 0.5, str(tmp_path / "beside"))
    with pytest.raises(Refused) as caught:
        exporting.export(store, "star", 0.5, str(tmp_path / "beside"))
    assert caught.value.status == 409
    before = (tmp_path / "picks/mic0.csv").read_bytes()
    exporting.export(store, "csv", 0.9, str(tmp_path / "beside"), overwrite=True)
    assert (tmp_path / "picks/mic0.csv").read_bytes() == before
    assert len(coordinates.read(tmp_path / "beside/mic0.csv")) == store.found.scores.counts(0.9)[0]


def test_exports_that_make_no_sense_are_refused(visitor):
    good = {"format": "csv", "threshold": 0.5, "folder": "x"}
    for change in ({"format": "xml"}, {"format": 3}, {"threshold": "0.5"}, {"threshold": True}, {"folder": None}):
        assert visitor.post("/api/export", json={**good, **change}).status_code == 400, change
    assert not Path("x").exists()


def test_an_export_over_http(visitor, tmp_path):
    done = visitor.post("/api/export", json={"format": "star", "threshold": 0.5, "folder": "stars"})
    assert done.status_code == 200
    assert done.json()["folder"] == "stars"
    assert len(list((tmp_path / "here/stars").glob("*_autopick.star"))) == 3
    again = visitor.post("/api/export", json={"format": "star", "threshold": 0.5, "folder": "stars"})
    assert again.status_code == 409
