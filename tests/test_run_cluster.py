"""Work on a cluster: the same outputs as on one machine, whatever happens to workers; and what a site may say."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import upicker

from upicker.errors import ConfigError, DeviceError, InputError, MicrographError, OutputError
from upicker.io import mrc
from upicker.pick.picker import Picker
from upicker.run import record, site
from upicker.run.batch import each
from upicker.run.cluster import Cluster, started
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking
from upicker.run.site import Site
from upicker.simulate.scene import Scene, make

distributed = pytest.importorskip("distributed")
SCENE = Scene(shape=(330, 410), pixel_size_A=4.0, specimens=("globule",), particles=14, seed=5)


class Length:
    """Work that writes the length of a name; some names stand for what may go wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, path: Path) -> int:
        if path.name == "bad":
            raise MicrographError(path, "it is bad")
        if path.name == "hot" and not (self.folder / "cool").exists():
            (self.folder / "cool").touch()
            raise DeviceError("cuda:0", "it has fallen off the bus", "Look at the node")
        if path.name.startswith("broken"):
            raise DeviceError("cuda:0", "it has fallen off the bus", "Look at the node")
        if path.name == "full":
            raise OutputError(path, "the disk is full")
        if path.name == "deadly" or (path.name == "once" and not (self.folder / "tried").exists()):
            (self.folder / "tried").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / path.name).write_text(str(len(path.name)))
        return len(path.name)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(Site(kind="local", jobs=2, cores=1), tmp_path_factory.mktemp("cluster") / "out") as found:
        yield found


def test_every_file_has_its_outcome(cluster, tmp_path):
    paths = [Path(f"{'m' * (1 + i % 7)}-{i}") for i in range(40)]
    outcomes = list(each([*paths, Path("bad")], Length(tmp_path), cluster))
    assert {one.path: one.value for one in outcomes if one.error is None} == {p: len(p.name) for p in paths}
    [failed] = [one for one in outcomes if one.error is not None]
    assert (failed.path, type(failed.error), failed.error.found) == (Path("bad"), MicrographError, "it is bad")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_a_file_whose_worker_dies_is_done_by_another_one(cluster, tmp_path):
    names = ["a", "once", "b", "c"]
    outcomes = {one.path.name: one for one in each([Path(name) for name in names], Length(tmp_path), cluster)}
    assert {name: one.value for name, one in outcomes.items()} == {"a": 1, "once": 4, "b": 1, "c": 1}
    assert all(one.error is None for one in outcomes.values())


def test_a_file_that_kills_its_workers_fails_alone(cluster, tmp_path):
    outcomes = {one.path.name: one for one in each([Path(n) for n in ("a", "deadly", "b")], Length(tmp_path), cluster)}
    assert {name: one.value for name, one in outcomes.items()} == {"a": 1, "deadly": None, "b": 1}
    assert "the process working on it was killed, 4 times" in outcomes["deadly"].error.found


def test_a_gpu_that_fails_costs_its_worker_a_new_start_and_no_file(cluster, tmp_path):
    names = ["a", "hot", "b"]
    outcomes = {one.path.name: one for one in each([Path(name) for name in names], Length(tmp_path), cluster)}
    assert {name: one.value for name, one in outcomes.items()} == {"a": 1, "hot": 3, "b": 1}
    assert "cuda:0 failed while working on it (it has fallen off the bus)" in str(outcomes["hot"].warnings[0])


def test_a_file_at_which_gpus_fail_fails_alone_and_gpus_that_all_fail_end_the_run(cluster, tmp_path):
    outcomes = {one.path.name: one for one in each([Path("a"), Path("broken"), Path("b")], Length(tmp_path), cluster)}
    assert {name: one.value for name, one in outcomes.items()} == {"a": 1, "broken": None, "b": 1}
    assert "fallen off the bus), 2 times" in outcomes["broken"].error.found
    with pytest.raises(DeviceError, match="fallen off the bus"):
        list(each([Path(f"broken{i}") for i in range(40)], Length(tmp_path), cluster))
    assert len(list(each([Path("after")], Length(tmp_path), cluster))) == 1


def test_what_concerns_all_files_is_raised_and_the_rest_is_dropped(cluster, tmp_path):
    with pytest.raises(OutputError, match="the disk is full"):
        list(each([Path("full"), *(Path(f"m{i}") for i in range(300))], Length(tmp_path), cluster))
    assert len(list(tmp_path.iterdir())) < 300


def test_what_is_not_wanted_any_more_is_not_done(cluster, tmp_path):
    outcomes = each([Path(f"m{i}") for i in range(400)], Length(tmp_path), cluster)
    next(outcomes)
    outcomes.close()
    assert len(list(tmp_path.iterdir())) < 100
    assert len(list(each([Path("after")], Length(tmp_path), cluster))) == 1


def test_a_scheduler_that_is_gone_ends_the_run(tmp_path):
    (tmp_path / "done").mkdir()
    with started(Site(kind="local", jobs=1, cores=1), tmp_path / "out") as own:
        outcomes = each([Path(f"m{i}") for i in range(400)], Length(tmp_path / "done"), own)
        next(outcomes)
        own.client.shutdown()
        with pytest.raises(InputError, match=r"the scheduler is gone.*--skip-existing"):
            list(outcomes)
    assert len(list((tmp_path / "done").iterdir())) < 400


def test_pages_of_workers_are_not_open_to_others(cluster):
    """They listen on this machine only, and connections are encrypted."""
    workers = cluster.client.scheduler_info(n_workers=-1)["workers"]
    assert workers
    assert all(address.startswith("tls://127.0.0.1:") for address in workers)
    listening = cluster.client.run(lambda dask_worker: dask_worker.http_server.port, nanny=False)
    assert all(isinstance(port, int) for port in listening.values())


def test_commands_give_the_same_bytes_as_on_this_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        mrc.write(Path(f"mics/m{number}.mrc"), make(SCENE, number).micrograph.pixels, SCENE.pixel_size_A)
    propose = ("propose", "mics", "--diameter", "260A", "--no-mask", "--set", "propose.template=false")
    assert upicker(capsys, *propose, "-o", "here")[0] == 0
    code, out, err = upicker(capsys, *propose, "-o", "there", "--cluster", "local", "--jobs", 2)
    assert code == 0, err
    assert "cluster: local, 2 workers of 1 cores" in out
    assert "particles in 4 of 4 micrographs" in out
    assert contents(Path("there")) == contents(Path("here"))
    extract = ("extract", "here", "--micrographs", "mics", "--box", "64px")
    assert upicker(capsys, *extract, "-o", "a/p.star")[0] == 0
    code, _, err = upicker(capsys, *extract, "-o", "b/p.star", "--cluster", "local", "-j", 1)
    assert code == 0, err
    assert len(contents(Path("b"))) == len(contents(Path("a")))
    quick = ("--watch", "--poll", "0.1s", "--settle", "0.1s", "--idle", "0.5s")
    code, _, err = upicker(capsys, *propose, "-o", "arrived", *quick, "--cluster", "local", "-j", 1)
    assert code == 0, err
    assert contents(Path("arrived")) == contents(Path("here"))


def test_picks_of_workers_are_those_of_this_machine(tmp_path, monkeypatch, capsys):
    """With the precision and the threads that all workers have, which are recorded, and hold when the run goes on."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        mrc.write(Path(f"mics/m{number}.mrc"), make(SCENE, number).micrograph.pixels, SCENE.pixel_size_A)
    pick = ("pick", "mics", "--diameter", "260A", "--fast", "--set", "pick.follow=false")
    plain = ("--set", "train.bfloat16=false", "--set", "train.threads=1")
    assert upicker(capsys, *pick, *plain, "-o", "here")[0] == 0
    code, out, err = upicker(capsys, *pick, "-o", "there", "--cluster", "local", "-j", 1)
    assert code == 0, err
    assert "particles in 2 of 2 micrographs" in out
    assert contents(Path("there")) == contents(Path("here"))
    knobs = record.read(Path("there")).knobs
    assert (knobs["train.bfloat16"], knobs["train.threads"]) == (False, 1)
    Path("there/m1.csv").unlink()
    assert upicker(capsys, *pick, "--set", "train.threads=1", "-o", "there", "--skip-existing", "-j", 1)[0] == 0
    assert contents(Path("there")) == contents(Path("here"))


def test_triage_by_workers_is_that_of_this_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mrc.write(Path("mics/m0.mrc"), make(SCENE, 0).micrograph.pixels, SCENE.pixel_size_A)
    plain = ("--set", "train.bfloat16=false", "--set", "train.threads=1")
    assert upicker(capsys, "triage", "mics", "-o", "here.txt", *plain)[0] == 0
    code, _, err = upicker(capsys, "triage", "mics", "-o", "there.txt", "--cluster", "local", "-j", 1)
    assert code == 0, err
    assert Path("there_triage.csv").read_bytes() == Path("here_triage.csv").read_bytes()


class Elsewhere:
    """What workers are asked for."""

    threads, bfloat16 = 3, True


def test_what_a_machine_decides_by_itself_is_decided_for_all_workers():
    work = Picking(Picker(), Outputs(Path("picks")), readers=2).elsewhere(Elsewhere())
    assert (work.config.train.threads, work.config.train.bfloat16, work.readers) == (3, True, 0)
    said = Picking(Picker(None, {"train.bfloat16": False}), Outputs(Path("picks")))
    assert said.elsewhere(Elsewhere()).config.train.bfloat16 is False
    assert said.settled({"train.bfloat16": True}).config.train.bfloat16 is False
    free = Picking(Picker(), Outputs(Path("picks")))
    assert free.settled({"train.bfloat16": True}).config.train.bfloat16 is True
    assert free.settled({"train.bfloat16": "none"}) is free


def contents(folder: Path) -> dict[str, bytes]:
    """What is written, but for the record of the run, which has times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("run.", ".")) and path.suffix != ".jsonl"
    }


def test_a_site_is_a_word_an_address_a_file_or_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert site.read("local").cores == 1
    assert site.read("slurm", 7).jobs == 7
    assert site.read("tls://head:8786").kind == "running"
    (tmp_path / "upicker").mkdir()
    text = 'partition = "gpu"\njobs = 8\ngpus = 1\nwalltime = "1-2:30:00"\ndirectives = ["--constraint=a100"]\n'
    (tmp_path / "upicker" / "ours.toml").write_text(text)
    found = site.read("ours")
    assert (found.kind, found.partition, found.jobs, found.gpus) == ("slurm", "gpu", 8, 1)
    assert found.seconds == ((24 + 2) * 60 + 30) * 60
    assert found.directives == ("--constraint=a100",)
    Path("here.toml").write_text('address = "tcp://head:8786"\n')
    assert site.read("here.toml").kind == "running"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("partitoin = 'a'\n", "unknown 'partitoin'.*nearest is 'partition'"),
        ("jobs = 0\n", "'jobs' cannot be 0"),
        ("gpus = 2\n", "'gpus' cannot be 2"),
        ("kind = 'pbs'\n", "'kind' cannot be 'pbs'"),
        ("memory = 'much'\n", "'memory' cannot be 'much'. It takes e.g. 8GB"),
        ("walltime = '30'\n", "'walltime' cannot be '30'"),
        ("walltime = '0:00:10'\n", "'walltime' cannot be '0:00:10'"),
        ("kind = 'slurm'\naddress = 'tls://a:1'\n", "there is an address, but the kind is 'slurm'"),
        ("kind = 'running'\n", "a running scheduler has no address"),
        ("jobs = \n", "cannot be read as TOML"),
    ],
)
def test_a_site_that_cannot_be_used_is_explained(tmp_path, text, says):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        site.read(str(tmp_path / "s.toml"))


def test_a_missing_site_says_what_may_be_given(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"upicker/slrum.toml: there is no such file. Give local, slurm"):
        site.read("slrum")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"address": "tcp://127.0.0.1:1"}, "not encrypted: whoever reaches a worker.*--insecure"),
        ({"address": "tls://127.0.0.1:1"}, "needs certificates"),
        ({"address": "tls://127.0.0.1:1", "ca": "a.pem"}, "some of ca, certificate and key are missing"),
    ],
)
def test_connections_that_are_not_safe_are_refused(tmp_path, given, says):
    with pytest.raises(ConfigError, match=says), started(Site(kind="running", **given), tmp_path / "out"):
        pass
