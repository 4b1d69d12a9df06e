"""The job scripts of docs/slurm.md, on a SLURM of two nodes: as they stand there, but for names and GPUs."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from command_line import CENTRES, DIAMETER, ROOT, TOY, environment, micrograph
from safetensors.torch import load_file
from toy_slurm import free_ports
from waiting import until

from upicker.cli.app import run
from upicker.io import coordinates
from upicker.model import weights
from upicker.particles import Particles
from upicker.run import record

COUNT = 5


def script(after: str, changes: dict[str, str]) -> str:
    """The first script after a line of the document, with these changes, each of which must be possible."""
    text = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
    found = re.search(r"```bash\n(#!/bin/bash\n.*?)```", text[text.index(after) :], re.S)
    assert found
    code = found[1]
    for old, new in changes.items():
        assert old in code, old
        code = code.replace(old, new)
    return code


class Jobs:
    """Batch jobs in a folder, on the SLURM of a configuration."""

    def __init__(self, folder: Path, slurm: Path) -> None:
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.folder, self._variables = folder, environment() | {"SLURM_CONF": str(slurm), "PATH": paths}

    def _said(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self._variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, code: str) -> str:
        """Submit a script, wait for the end of its job, and return its number."""
        (self.folder / "job.sh").write_text(code)
        where = ["--output", f"{self.folder}/log-%A-%a.txt", "--parsable", "--mem=1G"]
        return self.wait(self._said("sbatch", *where, "job.sh"))

    def requeue(self, job: str, task: int) -> None:
        """Have SLURM run a task once more, as it does after a node has failed, and wait for its end."""
        (self.folder / f"log-{job}-{task}.txt").unlink()
        self._said("scontrol", "requeue", f"{job}_{task}")
        self.wait(job)

    def wait(self, job: str) -> str:
        """Wait for the end of a job, and return its number."""
        until(lambda: not self._said("squeue", "-h", "-j", job), "the end of the job", lambda: time.sleep(0.3))
        return job

    def told(self, job: str) -> str:
        """Return what all tasks of a job have printed."""
        return "".join(log.read_text() for log in sorted(self.folder.glob(f"log-{job}-*.txt")))


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.csv")}


def test_a_job_array_fills_one_folder_as_one_run_does(slurm, tmp_path, monkeypatch):
    """Three of its eight tasks have no micrograph; a task that SLURM requeues does what is missing."""
    monkeypatch.chdir(tmp_path)
    name = "a-very-long-name-" * 10
    for number in range(COUNT):
        micrograph(Path("mics") / f"{name}{number}.mrc", number)
    words = ["--diameter", f"{DIAMETER}px", "--set", "propose.mask=false"]
    changes = {
        "#SBATCH --gpus=1\n": "",
        "#SBATCH --cpus-per-task=4\n": "",
        "source ~/upicker/bin/activate\n": "",
        "upicker pick": f"{sys.executable} -m upicker propose",
        "--diameter 190A": " ".join(words),
    }
    code = script("### A job array", changes)
    jobs = Jobs(tmp_path, slurm)
    job = jobs.submit(code)
    told = jobs.told(job)
    assert run(["propose", "mics/*.mrc", "-o", "one", *words]) == 0
    assert files(Path("picks")) == files(Path("one"))
    assert len(files(Path("one"))) == COUNT
    assert told.count("none for this share") == 3
    assert f"{COUNT} of all {COUNT} micrographs are done" in told
    assert record.read(Path("picks")).micrographs == record.read(Path("one")).micrographs
    missing = Path("picks") / f"{name}2.csv"
    missing.unlink()
    jobs.requeue(job, 3)
    assert "in 1 of 1 micrographs" in (tmp_path / f"log-{job}-3.txt").read_text()
    assert files(Path("picks")) == files(Path("one"))


def test_two_nodes_train_as_one_process_with_twice_the_batch(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, some in enumerate((5, 2, 5)):
        micrograph(Path("mics") / f"m{number}.mrc", number)
        coordinates.write(Path("labels") / f"m{number}.csv", Particles.of(CENTRES[:some], DIAMETER), "csv")
    # 8 channels, and two tiles at once, are too few for the convolutions of torch 2.13, see test_train_ranks.
    knobs = TOY | {"model.widths": "16,16,16,16,16", "train.device": "cpu", "train.bfloat16": "false"}
    knobs |= {"train.learning_rate": 4e-4, "train.finetune_steps": 2, "train.validate_every": 2}
    settings = [word for key, value in knobs.items() for word in ("--set", f"{key}={value}")]
    changes = {
        "#SBATCH --gpus-per-node=4\n": "",
        "#SBATCH --cpus-per-task=16\n": "",
        "source ~/upicker/bin/activate\n": "",
        "OMP_NUM_THREADS=4": "OMP_NUM_THREADS=1",
        '"$SLURM_GPUS_ON_NODE"': "1",
        "$head:29500": f"127.0.0.1:{free_ports(1)[0]}",
        "--init pre.safetensors -o model.safetensors": f"--init none -o two.safetensors {' '.join(settings)}",
    }
    jobs = Jobs(tmp_path, slurm)
    told = jobs.told(jobs.submit(script("Two nodes:", changes)))
    assert Path("two.safetensors").is_file(), told
    common = ["finetune", "mics/*.mrc", "--labels", "labels", "--init", "none", "-o", "one.safetensors"]
    assert run([*common, *settings, "--set", "train.batch=2"]) == 0
    one, two = (load_file(f"{name}.safetensors") for name in ("one", "two"))
    assert list(one) == list(two)
    difference = torch.cat([(one[name].double() - two[name].double()).flatten() for name in one])
    assert np.quantile(np.abs(difference.numpy()), 0.99) < 0.01 * 4e-4
    assert weights.read_header(Path("two.safetensors")).steps == 2
