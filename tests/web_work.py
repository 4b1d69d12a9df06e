"""Changes of labels, and what runs in other processes: a worker's errand, and a labeller without end; to be killed."""

import itertools
import os
import sys
from pathlib import Path


def add(key: str, x: float = 10.0, y: float = 20.0) -> dict:
    return {"op": "add", "key": key, "x": x, "y": y}


def move(key: str, x: float, y: float) -> dict:
    return {"op": "move", "key": key, "x": x, "y": y}


def remove(key: str) -> dict:
    return {"op": "remove", "key": key}


def setting(op: str, value: object) -> dict:
    return {"op": op, "px" if op == "diameter" else "value": value}


def number_of_process(path: Path) -> int:
    """Return the number of the process that does this work."""
    return os.getpid()


def label(micrograph: Path, folder: Path) -> None:
    """Label one micrograph, and say after each change that is saved how many there were."""
    from upicker.io.labels import LabelFolder
    from upicker.io.micrographs import Reading
    from upicker.units import Length
    from upicker.web.labelling.label_store import LabelStore
    from upicker.web.project import labelling

    project = labelling([micrograph], Reading(), folder, Length(28.0, "px"))
    store = LabelStore(project, LabelFolder(folder, project.micrographs))
    for n in itertools.count():
        changes = [add(f"k{n}", n % 500 + 0.25, n // 500 + 3.5)]
        if n % 5 == 4:
            changes.append(remove(f"k{n - 2}"))
        store.apply(0, store.epoch, 0, changes)
        say(n)


def work() -> None:
    """Have a worker do something, say which process it is, and wait."""
    from upicker.run.worker import Worker

    worker = Worker()
    say(worker.do(number_of_process, Path("a.mrc")))
    sys.stdin.read()


def say(number: int) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "label":
        label(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        work()
