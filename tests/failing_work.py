"""Work that fails in each way a file can; in a module of its own, so that other processes can import it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from upicker.errors import MicrographError


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
