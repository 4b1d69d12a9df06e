"""The inspecting page follows a run: picks and micrographs that arrive while it is open."""

from collections.abc import Callable, Iterator
from pathlib import Path

import browser
import numpy as np
import pytest
from waiting import until
from web_client import client, label_folder, make_labels, make_micrographs, make_picks, make_project

from upicker.errors import InputError
from upicker.io import coordinates
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.run.drift import BEFORE, LAST
from upicker.run.entries import Entry, Journal
from upicker.web.inspecting import summaries
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.project import Project
from upicker.web.responses import Refused

Open = Callable[[Project], PickStore]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Three micrographs with picks; the first two with labels."""
    return make_project(tmp_path, picks=True)


@pytest.fixture
def opened() -> Iterator[Open]:
    stores: list[PickStore] = []

    def open_(project: Project) -> PickStore:
        stores.append(PickStore(project, label_folder(project) if project.labels else None, poll_s=0.02))
        stores[-1].wait(30)
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def read_again(store: PickStore, before: int) -> None:
    until(lambda: store.found.number > before, "the picks to be read again")


def more(tmp_path: Path, project: Project, n: int) -> None:
    """Have the list of micrographs hold `n` of them."""
    paths = make_micrographs(tmp_path / "micrographs", n)
    project.again = lambda: (sorted(paths, reverse=True), Reading(1.25))


def test_micrographs_that_arrive_follow_the_others_and_nothing_else_is_read(tmp_path, project, opened):
    store = opened(project)
    before = store.found
    labels, picks = make_labels(tmp_path / "other", 4), make_picks(tmp_path / "another", 5)
    for folder, names in ((labels, ["mic2", "mic3"]), (picks, ["mic3", "mic4"])):
        for name in names:
            (folder / f"{name}.csv").rename(tmp_path / ("labels" if folder is labels else "picks") / f"{name}.csv")
    more(tmp_path, project, 5)
    until(lambda: len(store.found.micrographs) == 5, "the new micrographs")
    assert [project.name(number) for number in range(5)] == ["mic0", "mic1", "mic2", "mic4", "mic3"]
    assert [store.found.micrographs[i] is before.micrographs[i] for i in range(3)] == [True, True, False]
    assert [one.labels is not None for one in store.found.micrographs] == [True, True, True, False, True]
    assert len(store.found.scores) == 5 * 15
    assert store.counts() == [15] * 5
    assert project.pixel_size_A(4) == 1.25


def test_numbers_stay_where_nothing_that_was_shown_has_changed(tmp_path, project, opened):
    store = opened(project)
    (make_picks(tmp_path / "other", 4) / "mic3.csv").rename(tmp_path / "picks/mic3.csv")
    more(tmp_path, project, 4)
    until(lambda: len(store.found.micrographs) == 4, "the new micrograph")
    assert store.found.replaced == 0
    coordinates.write(tmp_path / "picks/mic1.csv", Particles.of([[30, 40]], 20, [0.5]), "csv")
    until(lambda: len(store.one(1).particles) == 1, "the picks to be read again")
    assert store.found.replaced == store.found.number == store.one(1).since
    assert store.one(0).since == 1


def test_labels_that_stand_twice_are_told_as_they_stand_now(tmp_path, project, opened):
    file = tmp_path / "labels/mic0.csv"
    good = coordinates.read(file)
    twice = Particles.of(np.concatenate([good.xy, good.xy[:1]]), good.median_diameter_px)
    coordinates.write(file, twice, "csv")
    store = opened(project)
    [before] = [problem for problem in store.found.problems if "counted once" in problem]
    seen = store.found.number
    coordinates.write(file, twice.select(np.arange(len(twice))[::-1]), "csv")
    (make_picks(tmp_path / "other", 4) / "mic3.csv").rename(tmp_path / "picks/mic3.csv")
    read_again(store, seen)
    assert [problem for problem in store.found.problems if "counted once" in problem] == [before]
    seen = store.found.number
    coordinates.write(file, good, "csv")
    (tmp_path / "picks/mic3.csv").unlink()
    read_again(store, seen)
    assert not [problem for problem in store.found.problems if "counted once" in problem]


def test_what_was_rejected_stays_rejected_and_indices_of_other_picks_are_refused(tmp_path, project, opened):
    store = opened(project)
    seen = store.found.number
    store.reject([(0, [1]), (1, [2, 5])], True, seen)
    gone = store.one(1).particles.xy[[2, 5]]
    picks = coordinates.read(tmp_path / "picks/mic1.csv")
    coordinates.write(tmp_path / "picks/mic1.csv", picks.select(np.arange(len(picks))[::-1]), "csv")
    read_again(store, seen)
    assert store.rejected() == 3
    np.testing.assert_array_equal(store.one(1).particles.xy[~store.one(1).accepted], gone[::-1])
    with pytest.raises(Refused, match="changed since they were shown"):
        store.reject([(0, [3]), (1, [0])], True, seen)
    assert store.rejected() == 3
    store.reject([(0, [3])], True, seen)
    store.reject([(1, [0])], True, store.found.number)
    assert store.rejected() == 5


def test_what_cannot_be_read_for_a_while_changes_nothing(tmp_path, project, opened):
    store = opened(project)

    def gone() -> tuple[list[Path], Reading]:
        raise InputError(tmp_path, "there is no such folder", "Mount it")

    project.again = gone
    (tmp_path / "picks").rename(tmp_path / "elsewhere")
    until(lambda: store.found.problems, "a word about it")
    assert "picks" in store.found.problems[0]
    assert store.counts() == [15] * 3
    (tmp_path / "elsewhere").rename(tmp_path / "picks")
    until(lambda: not store.found.problems, "the picks to be read again")
    assert store.counts() == [15] * 3


def test_picks_that_could_not_be_read_at_first_appear(tmp_path, opened):
    project = make_project(tmp_path, picks=True)
    files = sorted((tmp_path / "picks").iterdir())
    for number, file in enumerate(files):
        file.rename(tmp_path / f"picks/other{number}.csv")
    store = opened(project)
    with pytest.raises(InputError):
        _ = store.found
    for number, file in enumerate(files):
        (tmp_path / f"picks/other{number}.csv").rename(file)
    until(lambda: not isinstance(store._error, InputError), "the picks")
    assert store.counts() == [15] * 3


def test_what_the_last_micrographs_of_a_run_differ_in_is_told(tmp_path, project, opened):
    journal = Journal(tmp_path / "picks")
    counts = np.random.default_rng(3).poisson(np.repeat([300, 100], [BEFORE, LAST])).tolist()
    journal.append([Entry(f"mic{number:04d}", particles=count) for number, count in enumerate(counts)])
    journal.close()
    store = opened(project)
    assert [problem for problem in store.found.problems if "particles of a micrograph" in problem]


def test_the_page_is_told_the_number_of_the_reading(tmp_path, project):
    with client(project) as visitor:
        until(lambda: "loading" not in visitor.get("/api/picks/summary").json(), "picks to be read")
        number = visitor.get("/api/picks/state").json()["number"]
        assert visitor.get("/api/picks/summary").json()["number"] == number == 1
        content = {"micrograph": 0, "indices": [0], "rejected": True}
        assert visitor.post("/api/picks/reject", json={**content, "number": 0}).status_code == 409
        assert visitor.post("/api/picks/reject", json={**content, "number": number}).status_code == 200


def test_a_summary_is_of_one_reading(project, opened):
    found = summaries.summary(opened(project))
    assert (found["number"], found["replaced"], found["total"]) == (1, 0, 45)


@pytest.mark.slow
def test_the_page_goes_on_with_a_run_and_keeps_what_the_user_has_set(chromium, tmp_path):
    make_micrographs(tmp_path / "micrographs", 2)
    waiting = make_picks(tmp_path / "waiting", 3)
    picks = tmp_path / "picks"
    picks.mkdir()
    (waiting / "mic0.csv").rename(picks / "mic0.csv")
    with (
        browser.Server("inspect", picks, "--micrographs", tmp_path / "micrographs") as server,
        browser.visit(chromium, server.url) as page,
    ):
        page.wait_for_function("() => document.querySelector('#kept').textContent.includes('of 15 picks')")
        page.fill("#threshold", "0.62")
        page.keyboard.press("Enter")
        make_micrographs(tmp_path / "micrographs", 3)
        for name in ("mic1", "mic2"):
            (waiting / f"{name}.csv").rename(picks / f"{name}.csv")
        page.wait_for_function("() => document.querySelector('#kept').textContent.includes('of 45 picks')")
        assert page.input_value("#threshold") == "0.62"
        kept = sum(len(coordinates.read(picks / f"mic{i}.csv").above(0.62)) for i in range(3))
        page.wait_for_function("count => document.querySelector('#kept b').textContent === count", arg=str(kept))
        assert page.locator("#name").inner_text() == "mic0"
        page.click("#next")
        page.click("#next")
        page.wait_for_function("() => document.querySelector('#name').textContent === 'mic2'")
        assert page.mistakes == []
