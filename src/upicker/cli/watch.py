"""``--watch``: micrographs as they arrive, on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from upicker.cli.batches import Failures, show_warnings, watch
from upicker.cli.console import note, result, warning
from upicker.cli.live import has_begun
from upicker.cli.options import Duration, Flag
from upicker.cli.shares import OPTION, Share
from upicker.errors import ConfigError, OutputError, UPickerWarning, listed

if TYPE_CHECKING:
    from upicker.run.entries import Entry
    from upicker.run.watch import Left, Round, Task, Terms

STOP = "STOP"
_QUIET: Any = Parameter(show_default=False)


@Parameter(name="*")
@dataclass(frozen=True)
class Watching:
    """The options of a watch.

    Parameters
    ----------
    watch
        Go on with micrographs that arrive, also after a restart, until the stop file is there, Ctrl-C, or --idle;
        each is taken when it is whole. Folders, quoted patterns and lists are looked at again and again.
    poll
        With --watch: time between two looks; by default 10s.
    settle
        With --watch: so long a micrograph must not have changed; by default 30s.
    idle
        With --watch: end when nothing has happened for so long; by default 12h.
    stop_file
        With --watch: when this file is there, do what is there, and end; by default STOP in the output folder.
    report
        With --watch: an HTML file that follows the run, written anew after each round (as upicker report --live does).
    """

    watch: Annotated[bool, Flag] = False
    poll: Annotated[Duration, _QUIET] = 10.0
    settle: Annotated[Duration, _QUIET] = 30.0
    idle: Annotated[Duration, _QUIET] = 12 * 3600.0
    stop_file: Annotated[Path | None, Parameter(negative="", show_default=False)] = None
    report: Annotated[Path | None, Parameter(negative="", show_default=False)] = None

    def __post_init__(self) -> None:
        """Refuse options that have no effect; raises ConfigError."""
        if self.watch:
            return
        for one in fields(self):
            if getattr(self, one.name) != one.default:
                option = f"--{one.name.replace('_', '-')}"
                raise ConfigError(option, "it has no effect without --watch", "Give --watch, too, or leave it out")

    def require_whole(self, share: Share | None) -> None:
        """Refuse a share of a list that grows: what is the third of eight changes; raises ConfigError."""
        if self.watch and share is not None:
            remedy = "Leave one of them out; --watch with --cluster works on many machines"
            raise ConfigError(OPTION, "it cannot be combined with --watch", remedy)

    def terms(self, output: Path) -> Terms:
        """Return when a watch looks and ends, with its output folder."""
        from upicker.run.watch import Terms

        return Terms(self.poll, self.settle, self.idle, self.stop_file or output / STOP)


def follow_arriving(title: str, task: Task, watching: Watching, target: Path) -> int:
    """Run a watch: print a line for each round, and a summary at the end, which Ctrl-C is, too.

    Parameters
    ----------
    title : str
        The past participle, e.g. ``"picked"``.
    task : Task
        What is done.
    watching : Watching
        When, and whether a report follows it.
    target : Path
        The output folder.

    Returns
    -------
    int
        The exit code: 0, or 3 if any micrograph failed.
    """
    from upicker.run.watch import Watch

    terms = watching.terms(target)
    watched = Watch(task, terms)
    shown = _Shown(title, partial(_write_report, target, watching))
    note(f"Watching, every {terms.pause_s:g} s. Ctrl-C ends it, as does {terms.stop}, a file.")
    try:
        with closing(watched.rounds()) as rounds:
            shown.follow(rounds)
    except KeyboardInterrupt as stop:
        if type(stop) is not KeyboardInterrupt:  # A termination signal.
            raise
    _write_report(target, watching)
    return shown.summary(watched.left, target)


def _write_report(folder: Path, watching: Watching) -> None:
    """Write the page that follows the run, if one is asked for; a watch goes on without it."""
    if watching.report is None or not has_begun(folder):
        return
    from upicker.report import live

    try:
        live.follow(folder, watching.report, watching.poll)
    except OutputError as error:
        warning(f"{error} The watch goes on.")


class _Shown:
    """Prints rounds, and counts what they did."""

    def __init__(self, title: str, after: Callable[[], None]) -> None:
        self._title, self._after = title, after
        self._failures = Failures()
        self._particles: dict[Path, int] = {}
        self._told: set[tuple[str, str]] = set()
        self._done: list[Entry] = []
        self._drifting: set[str] = set()

    def follow(self, rounds: Generator[Round, None, None]) -> None:
        """Take all rounds."""
        for one in rounds:
            for error in one.unread:
                warning(f"{error} It is read again when it changes.")
            for path in one.again:
                note(f"{path}: it has changed since it was {self._title}, and is {self._title} again")
            before = len(self._particles)
            batch = watch(self._title, self._counted(one), one.total, "particles", failures=self._failures)
            self._show(batch.noticed)
            if batch.done:
                new = len(self._particles) - before
                count = f"{batch.done} micrographs" if batch.done > 1 else "1 micrograph"
                more = f", {batch.done - new} of them again" if new < batch.done and batch.done > 1 else ""
                note(f"{self._title}: {batch.particles} particles in {count}{more}; {len(self._particles)} so far")
                self._show_drift()
                self._after()

    def _show_drift(self) -> None:
        """Warn where the last micrographs differ from those before, once for each change."""
        from upicker.run.drift import BEFORE, LAST, drifts

        self._done = self._done[-(LAST + BEFORE) :]
        now = {drift.what: drift for drift in drifts(self._done)}
        for what in now.keys() - self._drifting:
            warning(f"{now[what]}.")
        self._drifting = set(now)

    def _counted(self, one: Round) -> Generator:
        for outcome in one.outcomes:
            if outcome.value is not None:
                self._particles[outcome.path] = outcome.value.particles or 0
                self._done.append(outcome.value)
            yield outcome

    def _show(self, noticed: list[UPickerWarning]) -> None:
        """Print warnings of each kind once: the next ones would be alike."""
        new = [one for one in noticed if (one.found, one.remedy) not in self._told]
        self._told |= {(one.found, one.remedy) for one in new}
        show_warnings(new)

    def summary(self, left: Left, target: Path) -> int:
        """Print what was done, and what was not; return the exit code."""
        total = sum(self._particles.values())
        before = f"; {left.earlier} were done before" if left.earlier else ""
        note(f"{self._title}: {total} particles in {len(self._particles)} micrographs{before} -> {target}")
        if left.waiting:
            warning(f"{left.waiting} micrographs are there and not {self._title}; start again to go on.")
        if left.arriving:
            warning(f"{left.arriving} micrographs were still arriving; start again to go on.")
        failed = self._failures.paths
        if failed:
            warning(f"{len(failed)} micrographs failed: {listed(failed)}")
        code = 3 if failed else 0
        counts = {"done": len(self._particles), "failed": len(failed), "earlier": left.earlier}
        failures = [{"path": path, "why": self._failures.reasons[path]} for path in failed]
        values = {"micrographs": counts, "particles": total, "failures": failures, "output": target}
        result({"result": self._title, **values, "exit_code": code})
        return code
