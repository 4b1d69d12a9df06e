"""Finding the particles of many micrographs: what picking and proposing share."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import filterfalse
from pathlib import Path
from typing import Protocol, Self, TypeVar

from upicker.config import Config
from upicker.errors import ConfigError, UPickerError
from upicker.io import micrographs
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.run import record
from upicker.run.batch import Outcome, Workers, each
from upicker.run.entries import Entry, Journal
from upicker.run.outputs import Destination


class Finding(Protocol):
    """The work on one micrograph, picklable: `upicker.run.pick.Picking` or `upicker.run.propose.Proposing`."""

    @property
    def command(self) -> str:
        """The command's name, for ``run.toml``."""
        ...

    @property
    def outputs(self) -> Destination:
        """Where particles are written."""
        ...

    @property
    def config(self) -> Config:
        """All knobs."""
        ...

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms of knobs that the results depend on."""
        ...

    @property
    def reading(self) -> Reading:
        """How micrographs are read."""
        ...

    def about(self) -> dict[str, object]:
        """Return more for ``run.toml``: the model, the diameter, the pixel size ..."""
        ...

    def settled(self, knobs: Mapping[str, object]) -> Self:
        """Return it with what an earlier run into the same folder, with the same settings, determined for all."""
        ...

    def adapted(self, paths: Sequence[Path]) -> Self:
        """Return it with everything determined once for all micrographs; ``run.toml`` records its config."""
        ...

    def diameter_px(self, path: Path, pixel_size_A: float | None) -> float:
        """Return the particle diameter in a micrograph, raw pixels; raises ConfigError without a pixel size."""
        ...

    def for_processes(self, jobs: int) -> Self:
        """Return it for each of `jobs` processes, which share the cores."""
        ...

    def elsewhere(self, workers: Workers) -> Self:
        """Return it for processes elsewhere, with all settled that they would decide by their own machine."""
        ...

    def recorded(self) -> Self:
        """Return it with what this machine decides made part of its config, for other machines to do the same."""
        ...

    def __call__(self, path: Path, /) -> Entry:
        """Find the particles of one micrograph, and write them."""
        ...


def changed_settings(work: Finding) -> list[str]:
    """Return the settings, by name, that differ from those of the last run into the same folder; none without one."""
    return _changed(record.read(work.outputs.folder), work)


def require_same_settings(work: Finding, option: str = "--skip-existing") -> None:
    """Refuse to add to what another model, threshold or other knobs found: one folder would hold two kinds of results.

    A folder without results takes any settings: perhaps the earlier run failed for its settings.

    Parameters
    ----------
    work : Finding
        The work on each micrograph.
    option : str
        What the user gave to add to the folder, for the message.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    folder = work.outputs.folder
    earlier = record.read(folder)
    if earlier.micrographs and (changed := _changed(earlier, work)):
        remedy = (
            f"Give the same settings (those of {folder / record.NAME}), choose another folder with -o, "
            f"or leave out {option} to do all again"
        )
        raise ConfigError(option, f"{folder} holds results with another {' and '.join(changed)}", remedy)


def find_all(
    paths: Sequence[Path],
    work: Finding,
    jobs: int | Workers = 1,
    todo: Sequence[Path] | None = None,
    total: int | None = None,
) -> Generator[Outcome[Entry], None, None]:
    """Find the particles of many micrographs; ``run.toml`` and an entry for each are written beside them.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, of different names, as `upicker.io.micrographs.find` returns them.
    work : Finding
        The work on each.
    jobs : int or Workers
        Number of processes, or processes elsewhere.
    todo : sequence of Path, optional
        To continue an earlier run: those whose outputs are missing. What that run determined for all micrographs is
        used again, and entries that it could not write are added. By default all micrographs are done anew.
    total : int, optional
        How many micrographs there are with those that other processes do.

    Yields
    ------
    Outcome
        One per micrograph to do, see `upicker.run.batch.each`.

    Raises
    ------
    OutputError
        If the folder cannot be written, or is removed meanwhile.
    """
    work.outputs.prepare()
    with closing(Journal(work.outputs.folder)) as journal:
        if isinstance(jobs, int):
            jobs = min(jobs, len(paths if todo is None else todo))
        work, todo = begun(paths, work, jobs, todo, journal)
        journal.begin(work.command, len(paths) if total is None else total, len(todo))
        yield from record.recorded(each(todo, work, jobs), journal)


F = TypeVar("F", bound=Finding)


def begun(
    paths: Sequence[Path], work: F, jobs: int | Workers, todo: Sequence[Path] | None, journal: Journal
) -> tuple[F, Sequence[Path]]:
    """Determine what holds for all micrographs, write ``run.toml``, and complete the entries of earlier runs.

    Parameters
    ----------
    paths, work, jobs, todo
        As of `find_all`.
    journal : Journal
        Of this run.

    Returns
    -------
    work : Finding
        With what was determined, for each of the processes.
    todo : sequence of Path
        The micrographs to do.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    folder = work.outputs.folder
    earlier = record.read(folder)
    work = work if todo is None else continued(work, earlier)
    if todo is None or todo:
        work = work.adapted(paths)
    since = earlier.since_ns
    if todo is None and (not earlier.about or _changed(earlier, work)):
        since = journal.since_ns  # If this run is killed, what it has not done again must not count as done.
    todo, done = (paths, ()) if todo is None else (todo, [*filterfalse(frozenset(todo).__contains__, paths)])
    if not isinstance(jobs, int):
        work = work.elsewhere(jobs)
    if todo or not earlier.about:
        record.write(folder, work.command, work.config, {**work.about(), record.SINCE: since})
    journal.append(_unlisted(done, work, earlier.micrographs))
    return work.for_processes(jobs) if isinstance(jobs, int) else work, todo


def continued(work: F, earlier: record.Record) -> F:
    """Return the work with what an earlier run determined for all micrographs, if that had the same settings."""
    return work if _changed(earlier, work) else work.settled(earlier.knobs)


def key_of(outputs: Destination, path: Path) -> str:
    """Return what tells the entry of a micrograph from the other entries of a folder."""
    return outputs.entry(path, (0, 0), None, Particles.of([]), 0.0).key


def _unlisted(done: Sequence[Path], work: Finding, listed: Sequence[Entry]) -> Iterator[Entry]:
    """Yield entries of micrographs whose outputs are there without one: the run that wrote them was killed."""
    known = {entry.key for entry in listed}
    for path in done:
        if key_of(work.outputs, path) in known:
            continue
        # What cannot be read stays unlisted, as if it had failed.
        with suppress(UPickerError):
            shape, pixel_size_A = micrographs.size(path, work.reading.size_of(path))
            diameter_px = work.diameter_px(path, pixel_size_A)
            yield work.outputs.entry(path, shape, pixel_size_A, work.outputs.read(path), diameter_px)


# What a run records about itself that results depend on; of a file, its content or its name.
SETTINGS = ("command", "diameter", "threshold", "fdr", "gain", "mask", "mask_good")
# Knobs that results hardly depend on; the threshold that holds is among the settings; a template may be learned.
LEFT_OUT = frozenset({"pick.batch", "pick.threshold", "propose.profile"})


def _changed(earlier: record.Record, work: Finding) -> list[str]:
    """Return the names of settings that differ from those of an earlier run; none without one."""
    if not earlier.about:
        return []
    now = {"command": work.command, **work.about()}
    then = earlier.about
    # Earlier versions recorded the file's name only.
    model = "model_sha256" if "model_sha256" in then else "model"
    changed = [] if name_of(then.get(model)) == name_of(now.get(model)) else ["model"]
    changed += [key for key in SETTINGS if name_of(then.get(key)) != name_of(now.get(key))]
    sizes = then.get("pixel_size_A"), now.get("pixel_size_A")
    if (None not in sizes and sizes[0] != sizes[1]) or _at_other_pixel_size(earlier, work.reading):
        changed.append("pixel size")
    knobs, default = record.flat(work.config), record.flat(Config())
    for key, value in knobs.items():
        if key.partition(".")[0] in work.rooms and key not in LEFT_OUT:
            changed += [key] if earlier.knobs.get(key, default[key]) != value else []
    given = knobs["propose.profile"]
    if "propose" in work.rooms and given not in ("none", earlier.knobs.get("propose.profile")):
        changed.append("propose.profile")
    # Other settings bring another working scale.
    if not changed and then.get("relative_size") != now.get("relative_size"):
        changed.append("relative_size")
    return changed


def _at_other_pixel_size(earlier: record.Record, reading: Reading) -> bool:
    """Return whether a micrograph of an earlier run would have another pixel size now, given or of its header.

    Headers are looked up if the earlier run was given a pixel size, and of one micrograph only.
    """
    known = [(Path(one.path), one.pixel_size_A) for one in earlier.micrographs if one.path and one.pixel_size_A]
    pairs = [(reading.size_of(path), then) for path, then in known]
    if pairs and pairs[0][0] is None and "pixel_size_A" in earlier.about:
        with suppress(UPickerError):
            pairs.append((micrographs.size(known[0][0], None)[1], known[0][1]))
    return any(now is not None and not math.isclose(now, then, rel_tol=1e-4) for now, then in pairs)


def name_of(value: object) -> object:
    """Return the last part of a path, which is all that counts of it."""
    return Path(value).name if isinstance(value, str) and value else value
