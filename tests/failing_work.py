"""Work that fails in each way a file can; in a module of its own, so that other processes can import it."""

import os
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
