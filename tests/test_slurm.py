"""Picking over the nodes of a SLURM: workers that are killed and jobs that are cancelled change nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import _heeding_ctrl_c, environment
from waiting import until

from upicker.io import mrc
from upicker.simulate.scene import Scene, make

pytest.importorskip("dask_jobqueue")
SCENE = Scene(shape=(400, 500), pixel_size_A=4.0, specimens=("globule",), particles=12, seed=5)
COUNT = 40
SITE = 'jobs = 2\ncores = 1\nmemory = "1GB"\nwalltime = "0:20:00"\ninterface = "lo"\n'


@pytest.fixture(scope="module")
def project(slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with micrographs and a site, and what one machine proposes in them."""
    folder = tmp_path_factory.mktemp("project")
    first = [make(SCENE, number).micrograph.pixels for number in range(4)]
    for number in range(COUNT):
        mrc.write(folder / "mics" / f"m{number:02d}.mrc", first[number % 4], SCENE.pixel_size_A)
    (folder / "toy.toml").write_text(SITE)
    assert propose(folder, slurm, "one").wait(timeout=300) == 0
    return folder


def propose(folder: Path, slurm: Path, output: str, *more: str) -> subprocess.Popen:
    words = ["propose", "mics", "--diameter", "260A", "--no-mask", "-o", output, "--set", "propose.template=false"]
    with (folder / f"{output}.txt").open("w") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "upicker", *words, *more],
            cwd=folder,
            env=environment() | {"SLURM_CONF": str(slurm), "OMP_NUM_THREADS": "1"},
            stdout=told,
            stderr=told,
            preexec_fn=_heeding_ctrl_c,  # Tests in the background of a shell inherit that it is ignored.
        )


def queue(slurm: Path) -> list[str]:
    """The numbers of the jobs."""
    found = subprocess.run(
        ["squeue", "-h", "-o", "%i"], env=os.environ | {"SLURM_CONF": str(slurm)}, capture_output=True, text=True
    )
    return found.stdout.split()


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def workers(folder: Path) -> list[int]:
    """The processes of dask's workers of a project."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, cwd = path.read_bytes().split(b"\0"), (path.parent / "cwd").resolve()
        except OSError:
            continue
        if b"distributed.cli.dask_worker" in words and cwd == folder:
            found.append(int(path.parent.name))
    return found


def test_two_nodes_find_what_one_machine_finds_whatever_happens_to_them(project, slurm):
    run = propose(project, slurm, "two", "--cluster", "toy.toml", "--overlay")
    until(lambda: len(written(project / "two")) > 3 or run.poll() is not None, "the first results")
    os.kill(workers(project)[0], signal.SIGKILL)
    jobs = queue(slurm)
    subprocess.run(["scancel", jobs[-1]], env=os.environ | {"SLURM_CONF": str(slurm)}, check=True)
    assert run.wait(timeout=300) == 0, (project / "two.txt").read_text()
    assert written(project / "two") == written(project / "one")
    assert len(written(project / "two")) == COUNT
    until(lambda: not queue(slurm), "the end of all jobs", lambda: time.sleep(0.5))
    until(lambda: not workers(project), "the end of all workers")
    assert not list(project.glob(".upicker-cluster-*"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_ends_early_leaves_no_job_and_is_continued(project, slurm, how):
    output = f"after-{how.name}"
    run = propose(project, slurm, output, "--cluster", "toy.toml", "--overlay")
    until(lambda: len(written(project / output)) > 3 or run.poll() is not None, "the first results")
    run.send_signal(how)
    assert run.wait(timeout=120) != 0, (project / f"{output}.txt").read_text()
    assert 3 < len(written(project / output)) < COUNT
    until(lambda: not queue(slurm), "the end of all jobs", lambda: time.sleep(0.5))
    again = propose(project, slurm, output, "--cluster", "toy.toml", "--skip-existing", "--overlay")
    assert again.wait(timeout=300) == 0, (project / f"{output}.txt").read_text()
    assert written(project / output) == written(project / "one")
    until(lambda: not queue(slurm), "the end of all jobs", lambda: time.sleep(0.5))


@pytest.mark.parametrize(
    ("site", "says"),
    [
        ('partition = "gold"\ninterface = "lo"\n', "partition"),
        ('interface = "ib7"\n', "ib7"),
    ],
)
def test_what_slurm_refuses_is_told(project, slurm, site, says):
    (project / "bad.toml").write_text(SITE.replace('interface = "lo"\n', "") + site)
    run = propose(project, slurm, "bad", "--cluster", "bad.toml")
    assert run.wait(timeout=120) in (1, 2)
    assert says in (project / "bad.txt").read_text()
    shutil.rmtree(project / "bad", ignore_errors=True)
