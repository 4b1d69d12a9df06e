"""Micrographs as they arrive: found in rounds, each an ordinary run over those that are whole by then."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from upicker.errors import ConfigError, MicrographError, UPickerError
from upicker.io.arriving import Arriving
from upicker.io.lists import Listed
from upicker.io.look import Look, look
from upicker.run import entries, record
from upicker.run.arrivals import Arrivals, Seen
from upicker.run.batch import Outcome, Processes, Workers, each, staying
from upicker.run.entries import Entry, Journal
from upicker.run.find import Finding, begun, key_of
from upicker.run.outputs import Destination
from upicker.run.pool import Crew

# What is determined once for all micrographs, is so by a first round of at least so many.
FIRST = 5
# How many micrographs may come, for the number of processes.
MANY = 100_000
# A round has at most so many, so that lists and reports are written anew now and then where many are there already.
MOST = 64
_WAITED = "It is tried again when it changes; if it is whole, run again without --watch"
_NAMED_ALIKE = "its picks would be written to the files of those of {}, which has the same name"


@dataclass(frozen=True)
class Terms:
    """When a watch looks, what it takes for whole, and when it ends.

    Attributes
    ----------
    poll_s : float
        Seconds between two looks.
    settle_s : float
        So long a micrograph must not have changed.
    idle_s : float
        It ends when nothing has happened for so long.
    stop : Path
        When this file is there, no more are expected: what is there is done, and the watch ends.
    """

    poll_s: float
    settle_s: float
    idle_s: float
    stop: Path

    @property
    def pause_s(self) -> float:
        """Seconds between two looks: no more than the settle time."""
        return min(self.poll_s, self.settle_s)


@dataclass(frozen=True)
class Task:
    """What is done with the micrographs that arrive: that in which the commands differ.

    Attributes
    ----------
    source : Arriving
        The micrographs.
    outputs : callable
        Takes micrographs, and returns where the particles of these go.
    begin : callable
        Takes all micrographs, with those of earlier runs, and those of the first round; returns the work on all, with
        what is determined once, and the number of processes, or processes elsewhere.
    at : callable
        Takes the work and the micrographs of a round; returns the work on these: with their outputs and pixel sizes.
    least : int
        How many the first round must have.
    after : callable
        Called after each round, and at the end, with all micrographs that were done so far or tried.
    check : callable
        Called often; may raise an error to end the watch.
    """

    source: Arriving
    outputs: Callable[[Sequence[Listed]], Destination]
    begin: Callable[[Sequence[Listed], Sequence[Listed]], tuple[Finding, int | Workers]]
    at: Callable[[Any, Sequence[Listed]], Finding]
    least: int = 1
    after: Callable[[Sequence[Listed]], None] = lambda listed: None
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes
    ----------
    outcomes : generator of Outcome
        One for each micrograph; those that are not whole, and stay so, have an error. Left out are those that failed
        and have changed meanwhile.
    total : int
        How many there are.
    again : list of Path
        Those that were done before, and have changed since.
    unread : list of UPickerError
        Lists that cannot be read, and do not change any more; each is given once.
    """

    outcomes: Generator[Outcome[Entry], None, None]
    total: int
    again: list[Path]
    unread: list[UPickerError]


@dataclass
class Left:
    """What is not done at some time, or was before.

    Attributes
    ----------
    arriving : int
        Micrographs that were not at rest.
    waiting : int
        Those that were whole.
    earlier : int
        Those that an earlier run has done.
    """

    arriving: int = 0
    waiting: int = 0
    earlier: int = 0


@dataclass
class Watch:
    """A watch; `rounds` runs it.

    Attributes
    ----------
    task : Task
        What is done.
    terms : Terms
        When.
    clock, sleep : callable
        Those of the system.
    left : Left
        What was not done at the last look.
    """

    task: Task
    terms: Terms
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    left: Left = field(default_factory=Left)

    def rounds(self) -> Generator[Round, None, None]:
        """Look at what is there, and yield a round whenever some are to be done, until the watch ends.

        Yields
        ------
        Round
            Its outcomes have to be taken before the next one.

        Raises
        ------
        OutputError
            If the output folder cannot be written, or is removed meanwhile.
        ConfigError
            If the stop file is there already.
        InputError
            At the end, if a list of micrographs cannot be read.
        """
        stop = self.terms.stop
        if stop.exists():
            raise ConfigError("--stop-file", f"{stop} is there already", "Remove it, to watch")
        none = self.task.outputs([])
        none.prepare()
        with closing(Journal(none.folder)) as journal, closing(_Worker(self, journal)) as worker:
            try:
                yield from self._rounds(worker)
            finally:
                self.task.after(worker.listed())
        stop.unlink(missing_ok=True)
        for error in self.task.source.unread.values():
            raise error

    def _rounds(self, worker: _Worker) -> Generator[Round, None, None]:
        least, stopped_at = self.task.least, None
        while True:
            self.task.check()
            if stopped_at is None and self.terms.stop.exists():
                stopped_at = self.clock()
            seen = worker.look()
            ends = not seen.arriving and (stopped_at is not None or worker.idle_s() >= self.terms.idle_s)
            # What comes after the stop file is not waited for.
            ends |= stopped_at is not None and self.clock() - stopped_at >= self.terms.settle_s
            todo = seen.complete[:MOST] if ends or len(seen.complete) >= least else []
            unread = worker.unread()
            self.left = Left(seen.arriving, len(seen.complete), worker.earlier)
            if todo or seen.cut_short or unread:
                with closing(worker.outcomes(todo, seen.cut_short)) as outcomes:
                    again = [path for path in todo if path in seen.again]
                    yield Round(outcomes, len(todo) + len(seen.cut_short), again, unread)
                self.task.after(worker.listed())
                least = 1 if todo else least
            elif ends:
                worker.complete_entries()
                return
            else:
                self.sleep(self.terms.pause_s)


class _Worker:
    """Looks at the micrographs of a watch, and does those of a round."""

    def __init__(self, watch: Watch, journal: Journal) -> None:
        self._watch, self._task, self._journal = watch, watch.task, journal
        self._arrivals = Arrivals(watch.terms.settle_s)
        self._work: Finding | None = None
        self._jobs: int | Processes = 1
        self._crew: Crew | None = None
        folder = self._task.outputs([]).folder
        # On file systems that take A and a for the same name, outputs of two micrographs would be one file.
        self._same_case = (folder / entries.FOLDER.upper()).exists()
        before = record.read(folder)
        self._stamps, self._goes_on = _stamps(before), bool(before.about)
        self.earlier = 0
        self._keys: dict[Path, str] = {}
        self._owners: dict[str, Path] = {}
        self._tried: dict[Path, None] = {}
        self._told: dict[Path, UPickerError] = {}

    def close(self) -> None:
        """End the processes."""
        if self._crew is not None:
            self._crew.close()

    def listed(self) -> list[Listed]:
        """Return the micrographs that were done or tried, now or by an earlier run."""
        return [self._task.source.entries[path] for path in self._tried]

    def unread(self) -> list[UPickerError]:
        """Return the errors of lists that were not returned before."""
        now = self._task.source.unread
        new = [error for path, error in now.items() if self._told.get(path) is not error]
        self._told = dict(now)
        return new

    def idle_s(self) -> float:
        """Return for how long nothing has happened."""
        last = self._arrivals.last_event
        return 0.0 if last is None else self._watch.clock() - last

    def look(self) -> Seen:
        """Look at all micrographs; those with outputs of an earlier run are done, in the state that it noted."""
        now = self._watch.clock()
        looks = self._task.source.looks(self._arrivals.at_rest, now)
        new = self._arrivals.new(looks)
        if new:
            outputs = self._task.outputs([self._task.source.entries[path] for path in new])
            keys = {path: key_of(outputs, path) for path in new}
            self._keys |= {path: key.casefold() if self._same_case else key for path, key in keys.items()}
            missing = {*outputs.missing(new)}
        looks = {path: self._alone(path, at, looks) for path, at in looks.items()}
        for path in new:
            if path not in missing and self._owners[self._keys[path]] == path:
                self._arrivals.known(path, self._stamps.get(keys[path], looks[path]))
                self._tried[path] = None
                self.earlier += 1
        return self._arrivals.see(looks, now)

    def _alone(self, path: Path, at: Look, looks: Mapping[Path, Look]) -> Look:
        """Return a look at a micrograph; it lacks a name of its own if another one that is there came first with it."""
        owner = self._owners.setdefault(self._keys[path], path)
        if owner != path and owner not in looks:
            owner = self._owners[self._keys[path]] = path
        return at if owner == path else replace(at, lacks=_NAMED_ALIKE.format(owner))

    def outcomes(self, todo: Sequence[Path], cut_short: Mapping[Path, str]) -> Generator[Outcome[Entry], None, None]:
        """Do the micrographs of a round; see `Round`."""
        for path, lacks in cut_short.items():
            yield Outcome(path, None, MicrographError(path, lacks, _WAITED), 0.0)
        if not todo:
            return
        found = [self._task.source.entries[path] for path in todo]
        looks = {path: at for path in todo if (at := self._arrivals.look_at(path)) is not None}
        work = self._task.at(self._begun(found), found)
        self._tried |= dict.fromkeys(todo)
        with closing(record.recorded(_stamped(each(todo, work, self._jobs), looks), self._journal)) as done:
            for outcome in done:
                at = looks[outcome.path]
                if outcome.error is None or look(outcome.path) == at:
                    self._arrivals.tried(outcome.path, at, self._watch.clock(), outcome.error is None)
                    self._watch.left.waiting -= 1
                    yield outcome  # If it changes still, it has not failed yet.
                self._task.check()

    def complete_entries(self) -> None:
        """Complete the entries of an earlier run that was killed, if no round did so."""
        if self._goes_on and self._tried:
            self._begun([])

    def _begun(self, first: Sequence[Listed]) -> Finding:
        """Return the work for all; at the first round it is determined, and the record is written."""
        if self._work is None:
            tried = [self._task.source.entries[path] for path in self._tried]
            there = [*tried, *first]
            work, jobs = self._task.begin(there, first)
            paths, todo = ([entry.path for entry in listed] for listed in (there, first))
            self._work, _ = begun(paths, work, jobs, todo, self._journal)
            self._journal.begin(self._work.command, None, None)
            if isinstance(jobs, int) and jobs > 1:
                self._crew = staying(self._work, jobs)
            self._jobs = self._crew or jobs
        return self._work


def _stamps(earlier: record.Record) -> dict[str, Look]:
    """Return what micrographs were like when earlier runs did them, where that was noted, by the keys of entries."""
    return {
        entry.key: Look(entry.size_bytes, entry.modified_ns)
        for entry in earlier.micrographs
        if entry.size_bytes is not None and entry.modified_ns is not None
    }


def _stamped(
    outcomes: Generator[Outcome[Entry], None, None], looks: dict[Path, Look]
) -> Generator[Outcome[Entry], None, None]:
    """Note in each entry what its micrograph was like before it was read."""
    with closing(outcomes):
        for outcome in outcomes:
            at = looks[outcome.path]
            if outcome.value is not None:
                value = replace(outcome.value, size_bytes=at.size, modified_ns=at.modified_ns)
                yield replace(outcome, value=value)
            else:
                yield outcome
