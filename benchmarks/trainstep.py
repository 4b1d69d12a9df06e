"""What a training step and a short training cost in CPU seconds, of this tree and of an older commit, interleaved.

    python benchmarks/trainstep.py --before 7528275 --rounds 3

The step: the default network, 2 tiles, on drawn noise with particles, on one thread: forward, backward and the rest,
the median of its steps and then of the rounds. The stages: `upicker pretrain` and `upicker finetune` with few steps on
three micrographs of EMPIAR-10017, as whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from speed import DATA, ROOT, measured

STEPS, WARM_UP = 12, 3
PARTS = ("forward", "backward", "rest", "step")


def step_costs() -> dict[str, float]:
    """Return the median CPU milliseconds of the parts of a step, in this process and its tree."""
    import torch

    from upicker.config import Config
    from upicker.model import weights
    from upicker.run.allocator import keep_freed_memory
    from upicker.train import loop
    from upicker.train.sample import Sample

    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, rng = Config().with_changes({"train.device": "cpu"}), np.random.default_rng(0)
    drawn = Sample(
        rng.standard_normal((900, 900)).astype(np.float32), rng.uniform(0, 900, (350, 2)), np.full(350, 24.0)
    )
    unused = Path("unused")
    plan = loop.Plan("finetune", config, 100, 4e-4, [drawn], [], unused, {}, lambda *_: None)
    state = loop.initial_state(weights.build(config), plan, False)
    seconds: dict[str, float] = {}

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            began = time.process_time()
            result = function(*args, **more)
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - began
            return result

        return call

    kind = type(state.model)
    kind.forward = timed(kind.forward, "forward")
    torch.Tensor.backward = timed(torch.Tensor.backward, "backward")  # type: ignore[method-assign]
    costs = []
    for _ in range(WARM_UP + STEPS):
        seconds.clear()
        began = time.process_time()
        loop._compute_gradients(plan, state)
        loop._update_weights(plan, state)
        whole = time.process_time() - began
        costs.append([seconds["forward"], seconds["backward"], whole - seconds["forward"] - seconds["backward"], whole])
    return dict(zip(PARTS, (1e3 * np.median(costs[WARM_UP:], 0)).tolist(), strict=True))


def stage_costs(source: Path, steps: int, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of both stages, with a validation every third of their steps."""
    environment = {"PYTHONPATH": str(source)}
    images = [str(path) for path in sorted((DATA / "micrographs").iterdir())[:3]]
    every = max(1, steps // 3)
    common = ["--set", "train.threads=1", "--set", f"train.validate_every={every}"]
    pretrained, tuned = (str(folder / f"{name}.safetensors") for name in ("pretrained", "tuned"))
    upicker = [sys.executable, "-m", "upicker"]
    pretrain = ["pretrain", *images, "-o", pretrained, "--diameter", "108px", "--set", f"train.pretrain_steps={steps}"]
    finetune = ["finetune", *images, "--labels", str(DATA / "coords"), "--init", pretrained, "-o", tuned]
    finetune += ["--set", f"train.finetune_steps={steps}"]
    return {
        name: measured([[*upicker, *command, *common]], environment, folder).cpu_s
        for name, command in (("pretraining", pretrain), ("fine-tuning", finetune))
    }


def worker(source: Path) -> dict[str, float]:
    """Return `step_costs` of a tree."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker"],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """A working tree of an older commit, removed at the end."""
    with tempfile.TemporaryDirectory() as text:
        tree = Path(text) / "before"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def compare(trees: dict[str, Path], options: argparse.Namespace) -> None:
    """Measure all trees in turn, and print a row for each."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for _ in range(options.rounds):
        for name, tree in trees.items():
            with tempfile.TemporaryDirectory() as folder:
                stages = stage_costs(tree / "src", options.steps, Path(folder)) if options.steps else {}
            found[name].append(worker(tree / "src") | stages)
    columns = list(next(iter(found.values()))[0])
    units = {name: "ms" if name in PARTS else f"CPU-s, {options.steps} steps" for name in columns}
    print(f"| tree | {' | '.join(f'{name}, {units[name]}' for name in columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, rounds in found.items():
        print(f"| {name} | {' | '.join(f'{np.median([one[c] for one in rounds]):.1f}' for c in columns)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a commit of this repository to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="of each stage; 0 leaves the stages out")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if options.worker:
        print(json.dumps(step_costs()))
    elif options.before:
        with tree_of(options.before) as before:
            compare({options.before: before, "this tree": ROOT}, options)
    else:
        compare({"this tree": ROOT}, options)


if __name__ == "__main__":
    main()
