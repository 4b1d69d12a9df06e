"""Work that fails in each way a file can; in a module of its own, so that other processes can import it."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from upicker.errors import ConfigError, DeviceError, MicrographError, UPickerWarning, warn


@dataclass(frozen=True)
class Work:
    """Fails by the file's name."""

    killed: bool = False

    def __call__(self, path: Path) -> str:
        if path.stem == "bad":
            raise MicrographError(path, "is broken", "Mend it")
        if path.stem == "bug":
            raise ZeroDivisionError("nought")
        if path.stem == "huge":
            if self.killed:
                os._exit(9)
            raise MemoryError
        return path.stem.upper()


def dying(*arguments: object) -> None:
    """Ends a process before it has received anything."""
    os._exit(9)


@dataclass(frozen=True)
class Raising:
    """Raises one error for every file."""

    error: Exception

    def __call__(self, path: Path) -> None:
        raise self.error


@dataclass(frozen=True)
class Killed:
    """Kills its process at one file, the first `times` times; notes in a folder which processes had which files."""

    notes: Path
    times: int

    def __call__(self, path: Path) -> int:
        with (self.notes / path.stem).open("a") as file:
            file.write(f"{os.getpid()}\n")
        if path.stem == "bad" and len((self.notes / path.stem).read_text().split()) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()


@dataclass(frozen=True)
class Stepwise:
    """Work in two steps, each of which fails by the file's name, e.g. of ``finish_bad.mrc``.

    With `notes`, a folder, each step notes its process and thread in a file of the step and the file's name, and
    ``..._kill`` kills its process the first `times` times.
    """

    readers: int = 1
    notes: Path | None = None
    times: int = 1
    gpus: tuple[str, ...] = ()

    def __call__(self, path: Path) -> str:
        return self.finish(self.load(path))

    def load(self, path: Path) -> Path:
        warn(UPickerWarning(path, "it was loaded"))
        self._step("load", path)
        return path

    def finish(self, loaded: Path) -> str:
        warn(UPickerWarning(loaded, "it was finished"))
        self._step("finish", loaded)
        return loaded.stem.upper()

    def _step(self, step: str, path: Path) -> None:
        if self.notes is not None:
            note = self.notes / f"{step} {path.stem}"
            with note.open("a") as file:
                file.write(f"{os.getpid()} {threading.current_thread().name}\n")
            if path.stem == f"{step}_kill" and len(note.read_text().splitlines()) <= self.times:
                os.kill(os.getpid(), signal.SIGKILL)
        errors = {
            f"{step}_bad": MicrographError(path, "is broken", "Mend it"),
            f"{step}_bug": ZeroDivisionError("nought"),
            f"{step}_huge": MemoryError(),
            f"{step}_knob": ConfigError("propose.top_k", "is no number"),
        }
        if path.stem in errors:
            raise errors[path.stem]


@dataclass(frozen=True)
class Endless:
    """Notes its process in a folder, and works for very long."""

    notes: Path

    def __call__(self, path: Path) -> None:
        (self.notes / str(os.getpid())).touch()
        while True:
            time.sleep(60)


@dataclass(frozen=True)
class FailingToStart:
    """Cannot be unpickled."""

    error: Exception

    def __reduce__(self) -> tuple:
        return _raise, (self.error,)

    def __call__(self, path: Path) -> None:
        raise AssertionError


def _raise(error: Exception) -> None:
    raise error


@dataclass(frozen=True)
class OnGpus:
    """Work whose process notes which GPU it sees, and fails as `broken` says.

    Attributes
    ----------
    notes : Path
        A folder; for each file one of the GPUs that it was tried on, and for each GPU one of the files.
    gpus : tuple of str
        As of `upicker.run.ahead.TwoSteps`.
    broken : dict of str to tuple of int
        GPU or file -> at which of the times that it is used it fails, counted from 0.
    """

    notes: Path
    gpus: tuple[str, ...]
    broken: dict[str, tuple[int, ...]]
    readers: int = 1

    def __call__(self, path: Path) -> str:
        return self.finish(self.load(path))

    def load(self, path: Path) -> Path:
        return path

    def finish(self, path: Path) -> str:
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        times = {name: self._noted(name, line) for name, line in ((gpu, path.stem), (path.stem, gpu))}
        for name, count in times.items():
            if count in self.broken.get(name, ()):
                raise DeviceError(f"the GPU {gpu}", "CUDA error", "Look at it")
        return gpu

    def _noted(self, name: str, line: str) -> int:
        with (self.notes / name).open("a+") as file:
            file.seek(0)
            count = len(file.readlines())
            file.write(f"{line}\n")
        return count
