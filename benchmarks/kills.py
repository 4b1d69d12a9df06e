"""Random kill -9, and what the commands make of it: nothing lost, nothing changed, nothing left behind.

    python benchmarks/kills.py --kills 100 --seed 0

Small micrographs are simulated, and each command (with two workers, where it has workers) is run once without
interruption. Then it is killed at random times, the main process only or its whole group, gone on with (by
--skip-existing, --resume, or as it is), killed again, and at last left to finish. Findings are

- results that differ from the uninterrupted run's (byte by byte; of logs all but seconds, of run.toml all but time),
- an entry that is missing in run.toml, or differs,
- processes that live 5 s after the main process was killed,
- files, or shared memory, that the uninterrupted run does not leave,
- labels that the page acknowledged, and that are not in the files.

Prints a line for each command; exits with 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import kills_page

from upicker.run import record

SOURCE = Path(__file__).resolve().parents[1] / "src"
# Most time until orphaned processes have ended.
ORPHANS_END_S = 5.0
TOY = {
    "image.mask": "false", "propose.mask": "false", "image.working_diameter_px": 32, "train.tile_px": 96,
    "train.batch": 1, "train.pretrain_steps": 24, "train.finetune_steps": 24, "train.validate_every": 4,
    "train.threads": 1, "train.device": "cpu", "pick.views": 1, "model.widths": "8,8,8,8,8", "model.dim": 32,
    "model.heads": 2, "model.feedforward": 16, "model.encoder_layers": 1, "model.decoder_layers": 1,
    "model.query_density": 1,
}  # fmt: skip
KNOBS = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
LIST = """# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
opticsGroup1 1 5.0

# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
"""


@dataclass(frozen=True)
class Command:
    """A command line, run in a folder of its own.

    Attributes
    ----------
    name : str
        For the table.
    arguments : list of str
        The command line.
    again : tuple of str
        What is added to it to go on.
    prepare : callable
        Called with the folder before the first run.
    recorded : str
        The output folder with a run.toml; may be empty.
    """

    name: str
    arguments: list[str]
    again: tuple[str, ...] = ("--skip-existing",)
    prepare: Callable[[Path], None] = lambda folder: None
    recorded: str = ""


@dataclass
class Tally:
    """What was seen of one command."""

    rounds: int = 0
    kills: int = 0
    main_only: int = 0
    slowest_orphan_s: float = 0.0
    findings: list[str] = field(default_factory=list)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of commands; their temporary files go to ``tmp`` in the folder."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    python_path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    more = {"PYTHONPATH": python_path, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return {**os.environ, **more}


def started(arguments: list[str], folder: Path) -> subprocess.Popen:
    """Start a command in a session of its own, whose output goes to ``../NAME.txt``."""
    with Path(f"{folder}.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "upicker", *arguments],
            cwd=folder,
            env=environment(folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == leader and words[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def killed(process: subprocess.Popen, main_only: bool, tally: Tally) -> None:
    """Kill a process, and see that those that it started end."""
    tally.kills += 1
    tally.main_only += main_only
    (process.kill if main_only else lambda: os.killpg(process.pid, signal.SIGKILL))()
    process.wait()
    begun = time.monotonic()
    while left := session(process.pid):
        if time.monotonic() - begun > ORPHANS_END_S:
            tally.findings.append(f"{len(left)} processes live {ORPHANS_END_S:.0f} s after the main process was killed")
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    tally.slowest_orphan_s = max(tally.slowest_orphan_s, time.monotonic() - begun)


def shared_memory() -> set[str]:
    """Return the files in shared memory that Python or torch may have left, and that no process uses."""
    names = [path.name for path in Path("/dev/shm").iterdir()]
    there = {name for name in names if name.startswith(("sem.mp-", "sem.loky", "torch_", "psm_"))}
    for maps in Path("/proc").glob("[0-9]*/maps") if there else ():
        try:
            used = maps.read_text()
        except OSError:
            continue
        there -= {name for name in there if f"/dev/shm/{name}" in used}
    return there


def results(folder: Path) -> dict[str, bytes]:
    """Return the files that a command left, without what differs from one run to the next."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        name, content = file.relative_to(folder).as_posix(), file.read_bytes()
        if re.search(r"\.upicker/run-[^/]*\.jsonl$", name):
            continue  # compared as what `record.read` makes of them
        if file.name == "run.toml":
            content = re.sub(rb"(?m)^(time|since_ns) = .*\n", b"", content)
        elif name.endswith(".log.csv"):
            content = b"\n".join(b",".join(row.split(b",")[:2] + row.split(b",")[3:]) for row in content.split(b"\n"))
        elif name.endswith(".safetensors"):
            content = re.sub(rb'\\"seconds\\": [0-9.e-]+', b"", content)
        found[name] = content
    return found


def differences(reference: Path, folder: Path, recorded: str) -> list[str]:
    """Return what differs from the uninterrupted run."""
    before, after = results(reference), results(folder)
    found = [f"{name} is missing" for name in before.keys() - after.keys()]
    found += [f"{name} was left behind" for name in after.keys() - before.keys()]
    found += [f"{name} differs" for name in before.keys() & after.keys() if before[name] != after[name]]
    if recorded:
        # The usable area is not noted of a micrograph whose picks were written right before a kill.
        expected, listed = (
            [replace(entry, usable=None) for entry in record.read(root / recorded).micrographs]
            for root in (reference, folder)
        )
        if expected != listed:
            found.append(f"run.toml lists {len(listed)} of {len(expected)} micrographs, or lists them differently")
    return found


def simulated(folder: Path, count: int) -> None:
    """Simulate small micrographs and their labels, and train weights of toy size on them."""
    folder.mkdir(parents=True)
    options = ["--shape", "300x260", "--pixel-size", "5A", "--particles", "14", "--diameter", "150A", "--micrographs"]
    run(["simulate", "barrel", "-o", "set", *options, str(count), "--contamination", "none", "--jobs", "2"], folder)
    run(["pretrain", "set/micrographs", "-o", "weights.safetensors", "--diameter", "150A", *KNOBS], folder)


def run(arguments: list[str], folder: Path) -> float:
    """Run a command to its end; return how many seconds it took."""
    begun = time.monotonic()
    code = started(arguments, folder).wait()
    if code:
        raise RuntimeError(f"upicker {' '.join(arguments[:2])} ended with {code}: see {folder}.txt")
    return time.monotonic() - begun


def commands(data: Path) -> list[Command]:
    """Return the commands, on the files in a folder."""
    mics, weights = str(data / "set/micrographs"), str(data / "weights.safetensors")
    few = sorted((data / "set/micrographs").glob("*.mrc"))
    labels = data / "labels"
    labels.mkdir(exist_ok=True)
    for path in few[:4]:
        shutil.copy(data / f"set/truth/{path.stem}.csv", labels)
    options = [
        "--shape",
        "300x260",
        "--pixel-size",
        "5A",
        "--particles",
        "14",
        "--diameter",
        "150A",
        "--micrographs",
        "12",
    ]
    train = [*map(str, few[:4]), "-o", "weights.safetensors", *KNOBS]
    diameter = ["--diameter", "150A"]
    no_mask = ["--set", "propose.mask=false", "--set", "image.mask=false"]

    def relion(folder: Path) -> None:
        (folder / "Micrographs").symlink_to(mics)
        rows = "".join(f"Micrographs/{path.name} 1\n" for path in few)
        (folder / "micrographs.star").write_text(LIST + rows)

    job = ["relion-job", "--in_mics", "micrographs.star", "--o", "External/job001/", "--j", "2", *diameter, *no_mask]
    extract = [
        "extract",
        str(data / "set/truth"),
        "--micrographs",
        mics,
        "--box",
        "30px",
        "-o",
        "job/p.star",
        "--jobs",
        "2",
    ]
    return [
        Command("pretrain", ["pretrain", *train, *diameter], ("--resume",)),
        Command("finetune", ["finetune", *train, "--labels", str(labels), "--init", weights], ("--resume",)),
        Command(
            "pick", ["pick", mics, "--model", weights, "-o", "out", "--threshold", "0", "--jobs", "2"], recorded="out"
        ),
        Command("propose", ["propose", mics, "-o", "out", *diameter, "--jobs", "2", *no_mask], recorded="out"),
        Command("extract", extract),
        Command("simulate", ["simulate", "barrel", "-o", "sim", *options, "--jobs", "2"]),
        Command("relion-job", job, (), relion, "External/job001"),
    ]


def one_round(command: Command, root: Path, took: float, kills: int, rng: random.Random, tally: Tally) -> None:
    """Kill a command some times, let it finish, and compare."""
    folder = root / "rounds" / f"{command.name}-{tally.rounds}"
    folder.mkdir(parents=True)
    command.prepare(folder)
    tally.rounds += 1
    for number in range(kills):
        process = started([*command.arguments, *(command.again if number else ())], folder)
        try:
            process.wait(rng.uniform(0.2, 1.0) * took)
        except subprocess.TimeoutExpired:
            killed(process, rng.random() < 0.5, tally)
    code = started([*command.arguments, *command.again], folder).wait()
    found = [] if code == 0 else [f"gone on with, it ended with {code}"]
    found += differences(root / "reference" / command.name, folder, command.recorded)
    tally.findings += [f"round {tally.rounds}: {what}" for what in found]
    if not found:
        shutil.rmtree(folder)
        Path(f"{folder}.txt").unlink()


def main() -> None:
    """Parse the command line, and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="at least this many, of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="some of the commands")
    parser.add_argument("--micrographs", type=int, default=24)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder, removed at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        root = (options.folder or Path(temporary)).resolve()
        sys.exit(kill_all(root, options))


def kill_all(root: Path, options: argparse.Namespace) -> int:
    """Kill all commands, print the table, and return the exit code."""
    rng, memory = random.Random(options.seed), shared_memory()
    simulated(root / "data", options.micrographs)
    chosen = [one for one in commands(root / "data") if not options.only or one.name in options.only]
    took = {}
    for command in chosen:
        folder = root / "reference" / command.name
        folder.mkdir(parents=True)
        command.prepare(folder)
        took[command.name] = run(command.arguments, folder)
    tallies = {command.name: Tally() for command in chosen}
    with_page = not options.only or kills_page.NAME in options.only
    if with_page:
        tallies[kills_page.NAME] = Tally()
    while sum(tally.kills for tally in tallies.values()) < options.kills:
        for command in chosen:
            one_round(command, root, took[command.name], rng.randint(1, 3), rng, tallies[command.name])
        if with_page:
            tally = tallies[kills_page.NAME]
            kills_page.one_round(root / "rounds" / f"page-{tally.rounds}", root / "data/set/micrographs", rng, tally)
    time.sleep(1.0)
    left = shared_memory() - memory
    return told(tallies, took, sorted(left & shared_memory()))


def told(tallies: dict[str, Tally], took: dict[str, float], left: list[str]) -> int:
    """Print the table; return the exit code."""
    print(
        "| command | uninterrupted | rounds | kills | of the main process only | last orphan ended after | findings |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, tally in tallies.items():
        seconds = f"{took[name]:.1f} s" if name in took else "-"
        cells = [name, seconds, tally.rounds, tally.kills, tally.main_only, f"{tally.slowest_orphan_s:.2f} s"]
        print(f"| {' | '.join(map(str, cells))} | {len(tally.findings)} |")
    findings = [f"{name}: {what}" for name, tally in tallies.items() for what in tally.findings]
    findings += [f"/dev/shm/{name} was left behind" for name in left]
    print(f"\n{sum(tally.kills for tally in tallies.values())} kills, {len(findings)} findings")
    for finding in findings:
        print(f"- {finding}")
    return 1 if findings else 0


if __name__ == "__main__":
    main()
