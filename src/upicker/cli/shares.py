"""``--share``: one task of a job array, on the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from upicker.cli.batches import Written
from upicker.cli.console import note
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from upicker.run.find import Finding

F = TypeVar("F", bound="Finding")
OPTION = "--share"


@dataclass(frozen=True)
class Share:
    """Every `of`-th micrograph of a list, from the `number`-th one on, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        """Return it as it is given."""
        return f"{self.number}/{self.of}"

    def select(self, paths: Sequence[Path]) -> list[Path]:
        """Return the micrographs of this share; none if there are fewer than shares."""
        return list(paths[self.number - 1 :: self.of])


def parse_share(text: str) -> Share:
    """Return the share that a text like ``"3/8"`` means.

    Raises
    ------
    ConfigError
        If it means none.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    remedy = "Give the number of the share and how many there are, e.g. --share 3/8; in SLURM --array=1-8"
    if not match:
        raise ConfigError(OPTION, f"'{text}' is no share", remedy)
    share = Share(int(match[1]), int(match[2]))
    if not 1 <= share.number <= share.of:
        raise ConfigError(OPTION, f"{text}: shares are numbered from 1 to {share.of}", remedy)
    return share


def own_share(share: Share | None, paths: list[Path]) -> list[Path]:
    """Return the micrographs of a share; all without one."""
    return paths if share is None else share.select(paths)


def shared(paths: Sequence[Path], work: Callable[[], F]) -> F:
    """Return the work with the settings of the folder, which the first of all tasks determines.

    Raises
    ------
    ConfigError
        If the folder has other settings.
    OutputError
        If it cannot be written.
    """
    from upicker.run.settling import settled

    return settled(paths, work(), work, OPTION)


def tell_of_all(share: Share, paths: list[Path], outputs: Written, code: int = 0) -> int:
    """Print how much all shares have done by now; return the exit code of this one."""
    if not share.select(paths):
        note(f"share {share}: there are only {len(paths)} micrographs, none for this share")
    left = len(outputs.missing(paths))
    note(f"share {share}: {len(paths) - left} of all {len(paths)} micrographs are done")
    return code
