"""Runs one version of the package and keeps all that it writes; see `behaviour.py`."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import behaviour_steps as steps
import behaviour_weights as weights
import numpy as np
from behaviour_steps import Step

# One thread, no colours, lines of one length, nothing from the user's cache, no GPU: what is recorded depends on none.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb",
    "COLUMNS": "120", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg", "LC_ALL": "C.UTF-8",
}  # fmt: skip
MODULE = [sys.executable, "-m", "upicker"]


class Recorder:
    """Runs commands and notes how they ended.

    Parameters
    ----------
    folder : Path
        The record's; must not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        for name in ("files/printed", "logs", "help", "given", "exact"):
            (folder / name).mkdir(parents=True)
        self.codes: dict[str, int] = {}
        self._environment = {**os.environ, **ENVIRONMENT, "XDG_CACHE_HOME": str(folder / "cache")}
        self._backbone = weights.backbone_knob()

    def run(self, *some: Step) -> None:
        """Run steps one after the other."""
        for step in some:
            began = time.monotonic()
            # A pattern goes to the package as it is; only names in it are ours to write.
            words = shlex.split(step.arguments.format(backbone=self._backbone))
            words = [word for given in words for word in self._expanded(given, step)]
            done = self._call(words, self.files / step.folder)
            self.codes[step.name] = done.returncode
            (self.folder / "logs" / f"{step.name}.txt").write_text(done.stdout + done.stderr)
            if step.printed:
                (self.files / "printed" / f"{step.name}.txt").write_text(done.stdout)
            print(f"{step.name}: exit {done.returncode}, {time.monotonic() - began:.1f} s", flush=True)

    def helps(self) -> None:
        """Write the help of all commands."""
        text = self._call(["--help"], self.files).stdout
        commands = [line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2].isalpha()]
        for command in commands:
            done = self._call([command, "--help"], self.files)
            self.codes[f"help of {command}"] = done.returncode
            (self.folder / "help" / f"{command}.txt").write_text(done.stdout)
        print(f"help of {len(commands)} commands", flush=True)

    def _expanded(self, word: str, step: Step) -> list[str]:
        """Do what a shell does with a pattern, for files of picks."""
        if "*" not in word or not word.startswith("proposals/"):
            return [word]
        folder = self.files / step.folder
        return sorted(str(path.relative_to(folder)) for path in folder.glob(word))

    def _call(self, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MODULE, *words], cwd=folder, env=self._environment, capture_output=True, text=True, check=False
        )


@dataclass(frozen=True)
class Options:
    """How to record.

    Attributes
    ----------
    before : Path or None
        The record of another version: its trained weights are picked with; None: the own ones.
    given : Path or None
        Weights of that version (or of this one without `before`) to pick with in the place of the 30 steps'.
    shared : Path or None
        A folder of real micrographs.
    quick : bool
        Leave out all trainings but one of six steps; needs `before`.
    by_hand : dict
        Tables ``tensors`` and ``knobs``: names before -> names after.
    """

    before: Path | None = None
    given: Path | None = None
    shared: Path | None = None
    quick: bool = False
    by_hand: dict = field(default_factory=dict)


def record(folder: Path, options: Options) -> None:
    """Run all steps.

    Parameters
    ----------
    folder : Path
        The record to make.
    options : Options
        How.
    """
    import upicker

    began, recorder = time.monotonic(), Recorder(folder.absolute())
    print(f"recording {upicker.__file__} to {folder}", flush=True)
    _parameters(folder)
    recorder.helps()
    recorder.run(*steps.SIMULATE)
    steps.prepare(recorder.files)
    recorder.run(*steps.PROPOSE)
    recorder.run(*(step for step in steps.TRAIN if step.name == steps.QUICK or not options.quick))
    _give(folder, options)
    recorder.run(*steps.PICK, *steps.USE, *steps.conversions())
    real = {} if options.shared is None else _real(recorder.files, options.shared)
    recorder.run(*steps.shared(real))
    _exact(folder, [file for file, _ in real.values()])
    about = {
        "package": str(Path(upicker.__file__).parent),
        "commit": _commit(Path(upicker.__file__).parent),
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "quick": options.quick,
        "seconds": round(time.monotonic() - began),
        "exit_codes": recorder.codes,
    }
    (folder / "record.json").write_text(json.dumps(about, indent=1))
    print(f"recorded {about['commit']} in {about['seconds']} s")


def _parameters(folder: Path) -> None:
    knob = weights.backbone_knob()
    networks = {
        name: weights.parameters({key.format(backbone=knob): value for key, value in changes.items()})
        for name, changes in steps.NETWORKS.items()
    }
    (folder / "parameters.json").write_text(json.dumps(networks))


def _give(folder: Path, options: Options) -> None:
    """Put the weights to pick with in their place."""
    source = options.before or folder
    names = weights.all_names(source, folder, options.by_hand.get("tensors", {}))
    for trained in steps.GIVEN:
        own = folder / f"files/training/{steps.QUICK if options.quick else trained}.safetensors"
        old = source / f"files/training/{trained}.safetensors"
        if options.given is not None and trained == "finetune":
            old = options.given
        weights.convert(old, folder / f"given/{trained}.safetensors", own, names, options.by_hand.get("knobs", {}))


def _real(files: Path, shared: Path) -> dict[str, tuple[str, str]]:
    """Return name -> (file, diameter) of the real micrographs that are there, as seen from the steps' folder."""
    (files / "shared").symlink_to(shared.absolute())
    found = {name: (sorted(shared.glob(pattern)), diameter) for name, (pattern, diameter) in steps.REAL.items()}
    return {
        name: (str(Path("shared") / paths[0].relative_to(shared)), diameter)
        for name, (paths, diameter) in found.items()
        if paths
    }


def _exact(folder: Path, real: list[str]) -> None:
    """Pick through the package's Python, and keep coordinates and scores with all their digits."""
    try:
        from upicker import Picker, read_micrograph
    except ImportError:  # before these were names of the package
        from upicker.io.micrographs import read as read_micrograph
        from upicker.pick.picker import Picker

    files = [*steps.SOME.split(), *real[:2]]
    for trained in steps.GIVEN:
        changes = {"pick.threshold": 0.03, "pick.views": 2, "train.threads": 1, "train.device": "cpu"}
        picker = Picker(folder / f"given/{trained}.safetensors", changes)
        for file in files if trained == "finetune" else files[:1]:
            picks = picker.pick(read_micrograph(folder / "files" / file), 24.0 if "20s" in file else 42.857)
            values = np.column_stack([picks.xy, picks.diameter_px, picks.score])
            np.save(folder / f"exact/{trained}-{Path(file).stem}.npy", values)


def _commit(package: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(package), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
