"""Which of the micrographs that arrive are whole: judged by looks at them, without a clock or files of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upicker.io.look import Look


@dataclass
class _File:
    """What is known of one micrograph.

    Attributes
    ----------
    seen : Look or None
        The last look; None while it is not there.
    since : float
        When it was first seen like that.
    rests : bool
        Whether it has been whole like that for the settle time.
    taken : Look or None
        What it was like when it was done, or when it failed.
    is_done : bool
        Whether it was done, in whatever state, and not only tried.
    told : Look or None
        What it was like when it was told that it is not whole.
    """

    seen: Look | None = None
    since: float = 0.0
    rests: bool = False
    taken: Look | None = None
    is_done: bool = False
    told: Look | None = None


@dataclass(frozen=True)
class Seen:
    """What is to be done after a look at all micrographs.

    Attributes
    ----------
    complete : list of Path
        Whole, at rest for the settle time, and not done like that.
    again : frozenset of Path
        Those among them that were done, and have changed since.
    arriving : int
        How many have changed within the settle time.
    cut_short : dict of Path to str
        At rest, and not whole: what they lack. Each is given once, unless it changes.
    """

    complete: list[Path]
    again: frozenset[Path]
    arriving: int
    cut_short: dict[Path, str]


class Arrivals:
    """What successive looks tell.

    A micrograph is taken when it is whole, as far as its header tells, and has been the same at all looks for the
    settle time by the caller's clock. Times of files are only compared with each other: they are of other clocks.

    Parameters
    ----------
    settle_s : float
        The settle time.

    Attributes
    ----------
    last_event : float or None
        When something last changed, or was done; None before the first look.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._files: dict[Path, _File] = {}
        self.last_event: float | None = None

    @property
    def at_rest(self) -> dict[Path, Look]:
        """Micrographs that were whole and at rest, done or not: it is enough to see whether size or time change."""
        files = self._files.items()
        return {path: file.seen for path, file in files if file.seen and (file.rests or file.seen == file.taken)}

    def new(self, looks: Mapping[Path, Look]) -> list[Path]:
        """Return the micrographs that were never seen before."""
        return [path for path in looks if path not in self._files]

    def known(self, path: Path, taken: Look) -> None:
        """Take a micrograph for done that was never seen before; `taken` is what it was like then."""
        self._files[path] = _File(taken=taken, is_done=True)

    def see(self, looks: Mapping[Path, Look], now: float) -> Seen:
        """Compare looks at all micrographs that are there with earlier ones.

        Parameters
        ----------
        looks : mapping of Path to Look
            In the order in which they are to be done.
        now : float
            Seconds of a clock that nobody sets.
        """
        if self.last_event is None:
            self.last_event = now
        for path in self._files.keys() - looks.keys():
            self._change(self._files[path], None, now)
        complete, again, arriving, cut_short = [], set(), 0, {}
        for path, look in looks.items():
            file = self._files.setdefault(path, _File())
            self._change(file, look, now)
            if look == file.taken:
                continue
            if now - file.since < self._settle_s:
                arriving += 1
            elif look.lacks is None:
                file.rests = True
                complete.append(path)
                again |= {path} if file.is_done else set()
            elif look != file.told:
                file.told, cut_short[path] = look, look.lacks
        return Seen(complete, frozenset(again), arriving, cut_short)

    def look_at(self, path: Path) -> Look | None:
        """Return the last look at a micrograph; None if it was not there."""
        return self._files[path].seen

    def tried(self, path: Path, look: Look, now: float, is_done: bool) -> None:
        """Note that a micrograph was done, or failed, as it was at a look: while it stays so, it is left alone."""
        file = self._files[path]
        file.taken, self.last_event = look, now
        file.is_done |= is_done

    def _change(self, file: _File, look: Look | None, now: float) -> None:
        if look != file.seen:
            file.seen, file.since, file.rests, self.last_event = look, now, False, now
