"""What a server shows, and where it is found."""

import fcntl
import json
import os
import socket
import tempfile
import threading
from dataclasses import replace

import pytest
import web_client
import web_work
from web_client import (
    DIAMETER_PX,
    PIXEL_SIZE_A,
    SHAPE,
    client,
    jobs_of,
    label_store,
    make_labels,
    make_micrographs,
    make_picks,
    make_project,
    pick_store,
)

from upicker.config import Config
from upicker.errors import ConfigError, InputError, OutputError
from upicker.io import coordinates, mrc
from upicker.io.lock import Held
from upicker.io.micrographs import Reading
from upicker.io.processes import Identity
from upicker.particles import Particles
from upicker.pick.triage import Verdict
from upicker.run import record
from upicker.units import Length
from upicker.web import serve
from upicker.web.launching import has_screen, launch_file
from upicker.web.project import NotFound, inspecting, labelling
from upicker.web.serve import Address


def test_numbers_name_micrographs(tmp_path):
    project = make_project(tmp_path)
    assert [project.name(number) for number in range(3)] == ["mic0", "mic1", "mic2"]
    assert project.size(1) == (SHAPE, PIXEL_SIZE_A)
    for number in (-1, 3, 10**30):
        with pytest.raises(NotFound):
            project.path(number)
        with pytest.raises(KeyError):
            project.name(number)


def test_diameters_in_pixels(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 2)
    mrc.write(paths[1], web_client.draw(1), None)
    project = labelling(paths, Reading(), tmp_path / "labels", Length(56, "A"))
    assert project.diameter_px(0) == 28.0
    assert project.diameter_px(1) is None
    assert project.pixel_size_A(1) is None
    project.set_diameter(Length(31, "px"))
    assert [project.diameter_px(number) for number in (0, 1)] == [31, 31]
    assert labelling(paths, Reading(4.0), tmp_path / "labels", Length(56, "A")).diameter_px(1) == 14.0
    assert labelling(paths, Reading(), tmp_path / "others").diameter_px(0) is None


def test_an_unreadable_micrograph_has_no_size(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 2)
    paths[0].write_bytes(b"nothing of the kind")
    project = labelling(paths, Reading(), tmp_path / "labels", Length(56, "A"))
    assert project.pixel_size_A(0) is None
    assert project.diameter_px(0) is None
    with client(project) as visitor:
        assert visitor.get("/api/session").json()["pixel_size_A"] is None
        assert len(visitor.get("/api/micrographs").json()) == 2


def test_labels_say_the_diameter(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 2)
    make_labels(tmp_path / "labels", 2)
    assert labelling(paths, Reading(), tmp_path / "labels").diameter == Length(DIAMETER_PX, "px")
    coordinates.write(tmp_path / "bare" / "mic0.csv", Particles.of([[5, 5]]), "csv")
    assert labelling(paths, Reading(), tmp_path / "bare").diameter is None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "mic0.csv").write_text("x,y\n1,2,3\na,b\n")
    assert labelling(paths, Reading(), tmp_path / "broken").diameter is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 99999, '{"diameter": 7}', '{"diameter": [], "opened": 3}', "\0\udcff"]
)
def test_a_broken_memory_is_forgotten(tmp_path, content):
    paths = make_micrographs(tmp_path / "mics", 1)
    state = tmp_path / "labels" / ".upicker"
    state.mkdir(parents=True)
    (state / "session.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    project = labelling(paths, Reading(), tmp_path / "labels")
    assert project.diameter == (Length(7, "A") if "7" in content else None)
    assert not project.opened(0)


def test_the_run_that_picked_is_known(tmp_path):
    paths, picks = make_micrographs(tmp_path / "mics", 1), tmp_path / "picks"
    coordinates.write(picks / "mic0.csv", Particles.of([[5, 5]]), "csv")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    config = Config().with_changes({"image.particles": "bright"})
    record.write(picks, "pick", config, {"model": str(weights), "diameter": "190A", "threshold": 0.4}, [])
    before = sorted(picks.rglob("*"))
    project = inspecting(paths, Reading(), picks, changes={"pick.batch": 2})
    assert (project.diameter, project.model) == (Length(190.0, "A"), weights)
    assert (project.config.image.particles, project.config.pick.batch) == ("bright", 2)
    (picks / "run.toml").write_text("[image]\nno_such_knob = 1\n[run]\ndiameter = '80px'\nmodel = 'gone'\n")
    project = inspecting(paths, Reading(), picks)
    assert (project.diameter, project.model, project.config) == (Length(80.0, "px"), None, Config())
    (picks / "run.toml").write_text("[run]\ndiameter = 'wide'\nmodel = 3\n")
    assert inspecting(paths, Reading(), picks).diameter is None
    assert sorted(picks.rglob("*")) == before


def test_folders_that_cannot_be_used(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 1)
    (tmp_path / "file").write_text("")
    for labels in (tmp_path / "file", tmp_path / "file" / "labels"):
        with pytest.raises(OutputError):
            labelling(paths, Reading(), labels)
    (tmp_path / "empty").mkdir()
    for picks in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError):
            inspecting(paths, Reading(), picks)
    make_labels(tmp_path / "picks", 1)
    with pytest.raises(InputError):
        inspecting(paths, Reading(), tmp_path / "picks", tmp_path / "nowhere")


# ---- one server at a time


def test_one_server_writes_labels_and_another_may_take_over(tmp_path):
    project = make_project(tmp_path)
    project.claim("http://127.0.0.1:8765")
    store = label_store(project)
    state = store.state(0)
    with pytest.raises(Held, match=r"upicker label .* at http://127\.0\.0\.1:8765\) uses it"):
        make_project(tmp_path).claim("http://127.0.0.1:8766")
    other = make_project(tmp_path)
    other.claim("http://127.0.0.1:8767", force=True)
    before = (tmp_path / "labels" / "mic0.csv").read_bytes()
    lost = r"at http://127\.0\.0\.1:8767\) has taken it over"
    for write in (
        lambda: store.apply(0, state["epoch"], state["revision"], [web_work.add("k1")]),
        lambda: project.set_diameter(Length(31, "px")),
        lambda: project.mark_bad(0, True),
        lambda: jobs_of(project, ("false",)).finetune(),
    ):
        with pytest.raises(Held, match=lost):
            write()
    project.note_opened(0)  # of no account to the user: it is not saved, and nothing is said
    project.release()
    assert (tmp_path / "labels" / "mic0.csv").read_bytes() == before
    assert sorted(path.name for path in project.state.iterdir()) == ["label.lock"]
    other.set_diameter(Length(31, "px"))
    other.release()
    assert sorted(path.name for path in project.state.iterdir()) == ["session.json"]


def test_one_server_rejects_picks_of_a_folder_or_file(tmp_path):
    project = make_project(tmp_path, picks=True)
    project.claim("http://127.0.0.1:8765")
    store = pick_store(project)
    with pytest.raises(Held, match="upicker inspect"):
        make_project(tmp_path, picks=True).claim("http://127.0.0.1:8766")
    store.reject([(0, [1])], True)
    make_project(tmp_path, picks=True).claim("http://127.0.0.1:8767", force=True)
    with pytest.raises(Held, match="8767"):
        store.reject([(0, [2])], True)
    assert len(json.loads((project.state / "rejected.json").read_text())["rejected"]["mic0"]) == 1


def test_files_of_picks_in_one_folder_have_a_server_each(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 2)
    projects = []
    for name in ("a.star", "b.star"):
        (tmp_path / name).write_text("data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\nmic0 1 2\n")
        projects.append(inspecting(paths, Reading(), tmp_path / name))
        projects[-1].claim("http://127.0.0.1:8765")
    projects[0].note_opened(0)
    projects[1].note_opened(1)  # does not drop what the other has noted
    assert [inspecting(paths, Reading(), tmp_path / "a.star").opened(number) for number in (0, 1)] == [True, True]
    with pytest.raises(Held):
        inspecting(paths, Reading(), tmp_path / "a.star").claim("http://127.0.0.1:8766")


def test_a_diameter_set_by_one_server_outlives_what_another_notes(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 2)
    for name in ("a.star", "b.star"):
        (tmp_path / name).write_text("data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\nmic0 1 2\n")
    one, other = (inspecting(paths, Reading(), tmp_path / name) for name in ("a.star", "b.star"))
    one.set_diameter(Length(100, "A"))
    other.note_opened(1)
    assert inspecting(paths, Reading(), tmp_path / "a.star").diameter == Length(100, "A")


def test_servers_change_what_they_share_one_at_a_time(tmp_path):
    paths = make_micrographs(tmp_path / "mics", 1)
    project = labelling(paths, Reading(), tmp_path / "labels")
    handle = os.open(project.state, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    changes = [lambda: project.mark_bad(0, True), lambda: project.set_diameter(Length(31, "px"))]
    threads = [threading.Thread(target=change, daemon=True) for change in changes]
    for thread in threads:
        thread.start()
        thread.join(0.2)
    assert list(project.state.iterdir()) == []
    os.close(handle)
    for thread in threads:
        thread.join()
    assert {path.name for path in project.state.iterdir()} == {"bad.txt", "session.json"}


def test_what_killed_servers_left_is_removed(tmp_path, monkeypatch):
    ended = replace(Identity.mine(), started="1").token
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    for folder in (tmp_path, tmp_path / "labels/.upicker"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".upicker-{ended}-0123456789ab.html").touch()
    labelling(make_micrographs(tmp_path / "mics", 1), Reading(), tmp_path / "labels")
    assert list((tmp_path / "labels/.upicker").iterdir()) == []
    with launch_file("http://127.0.0.1:8765") as path:
        assert [*tmp_path.glob(".upicker-*")] == [path]
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_picks_that_nobody_may_write_to_are_shown_by_many(tmp_path):
    project = make_project(tmp_path, picks=True)
    (project.state).write_text("a file where the folder would be")
    project.claim("http://127.0.0.1:8765")
    assert project.lock is None
    labelled = make_project(tmp_path)
    labelled.state.rmdir()
    labelled.state.write_text("")
    with pytest.raises(OutputError, match="lock cannot be taken"):
        labelled.claim("http://127.0.0.1:8765")


# ---- the address


def test_a_taken_port_is_left_alone(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(serve, "PORT", port)
        with serve._listen("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)
        with pytest.raises(ConfigError, match="another program uses it"):
            serve._listen("127.0.0.1", port)
    with serve._listen("127.0.0.1", None) as free:
        assert free.getsockname()[1] == port


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", -1), ("127.0.0.1", 65_536), ("203.0.113.9", 0)])
def test_addresses_that_cannot_be_listened_on(host, port):
    """203.0.113.0/24 is for documentation: no machine has it."""
    with pytest.raises(ConfigError):
        serve._listen(host, port)


def test_addresses(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    environ = {"USER": "ada"}
    local = Address("127.0.0.1", 8765, "T")
    assert (local.url(), local.origin) == ("http://127.0.0.1:8765/?token=T", "http://127.0.0.1:8765")
    assert local.tunnel(environ) == "ssh -N -L 8765:127.0.0.1:8765 ada@node7"
    cluster = environ | {"SLURM_SUBMIT_HOST": "login1"}
    assert local.tunnel(cluster) == "ssh -N -L 8765:127.0.0.1:8765 -J ada@login1 ada@node7"
    assert local.tunnel({}) == "ssh -N -L 8765:127.0.0.1:8765 you@node7"
    everywhere = Address("0.0.0.0", 80, "T")
    assert everywhere.url() == "http://node7:80/?token=T"
    assert Address("::1", 80, "T").tunnel(environ) == "ssh -N -L 80:[::1]:80 ada@node7"
    six = Address("fe80::1", 80, "T")
    assert six.url() == "http://[fe80::1]:80/?token=T"
    assert (local.is_local, everywhere.is_local, six.is_local) == (True, False, False)


def test_a_browser_is_opened_where_the_user_sits():
    assert has_screen({"DISPLAY": ":0"}, "linux")
    assert has_screen({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert has_screen({}, "darwin")
    assert has_screen({}, "win32")
    assert not has_screen({}, "linux")
    assert not has_screen({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "1 2 3 4"}, "linux")
    assert not has_screen({"SSH_TTY": "/dev/pts/1"}, "darwin")


def test_a_table_of_triage_is_found_beside_the_picks_or_given(tmp_path):
    paths, picks = make_micrographs(tmp_path / "mics", 2), make_picks(tmp_path / "picks", 2)
    said = 'micrograph,class,score,reason\n/elsewhere/mic1.mrc,empty,0.02,"nothing, in ice"\nmic9.mrc,usable,0.9,x\n'
    (tmp_path / "good_triage.csv").write_text(said)
    expected = Verdict("empty", 0.02, "nothing, in ice")
    assert inspecting(paths, Reading(), picks).triage["mic1"] == expected
    (tmp_path / "bad_triage.csv").write_text(said.replace("empty", "lost"))
    assert inspecting(paths, Reading(), picks).triage == {}  # there are two
    assert inspecting(paths, Reading(), picks, triage=tmp_path / "good_triage.csv").triage["mic1"] == expected
    with pytest.raises(InputError, match="bad_triage"):
        inspecting(paths, Reading(), picks, triage=tmp_path / "bad_triage.csv")
    (tmp_path / "good_triage.csv").unlink()
    assert inspecting(paths, Reading(), picks).triage == {}  # what nobody asked for may be anything
