"""The project that one server shows: micrographs, folders of labels and picks, and the page's own state."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upicker.config import Config
from upicker.errors import ConfigError, InputError, MicrographError, OutputError, UPickerError
from upicker.io import folders, micrographs
from upicker.io.atomic import replacing
from upicker.io.labels import LabelFolder
from upicker.io.lock import Held, Lock, lock
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.pick.triage import Verdict
from upicker.run import record
from upicker.run.outputs import writable
from upicker.run.triage import beside, verdicts
from upicker.train.labels import median_diameter
from upicker.units import Length, parse_length
from upicker.web.session import opened_in, saved_session
from upicker.web.turns import one_at_a_time

STATE = ".upicker"
_SESSION, _BAD = "session.json", "bad.txt"
# Files of labels or picks from which the particle diameter is taken.
_FILES_FOR_DIAMETER = 5


class NotFound(UPickerError, KeyError):  # noqa: N818 - named after the HTTP status
    """A requested number or name that does not exist."""

    __str__ = Exception.__str__


@dataclass(eq=False)
class Project:
    """The project that one server shows. More micrographs may follow; diameter, opened and bad ones may change.

    Attributes
    ----------
    mode : str
        ``"label"`` or ``"inspect"``.
    micrographs : tuple of Path
        The micrographs; a micrograph's number is its index here.
    reading : Reading
        How they are read.
    config : Config
        That of the weights or the picks, with the changes of the command line.
    state : Path
        The folder of the page's own state; it need not exist yet.
    labels : Path or None
        The folder of labels; always given in the mode ``"label"``.
    picks : Path or None
        The folder or file of picks; always given in the mode ``"inspect"``.
    diameter : Length or None
        The particle diameter; None as long as it is unknown.
    model : Path or None
        Weights for proposals and suggestions.
    triage : mapping of str to Verdict
        By a micrograph's name, what ``upicker triage`` said of it.
    again : callable or None
        Lists the micrographs again, as `upicker.io.micrographs.entries` does, and returns how they are read.
    lock : Lock or None
        The right to write, see `claim`.
    """

    mode: str
    micrographs: tuple[Path, ...]
    reading: Reading
    config: Config
    state: Path
    labels: Path | None = None
    picks: Path | None = None
    diameter: Length | None = None
    model: Path | None = None
    triage: Mapping[str, Verdict] = field(default_factory=dict)
    again: Callable[[], tuple[Sequence[Path], Reading]] | None = None
    lock: Lock | None = field(default=None, init=False)
    _opened: set[str] = field(default_factory=set, init=False, repr=False)
    _sizes: dict[int, tuple[tuple[int, int], float | None]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        saved = saved_session(self.state / _SESSION)
        self._opened = opened_in(saved)
        if self.diameter is None and saved.get("diameter"):
            with contextlib.suppress(ConfigError):
                self.diameter = parse_length(str(saved["diameter"]))

    def extend(self, labels: LabelFolder | None = None) -> None:
        """List the micrographs again, and append those that are new, here and in a folder of labels.

        Those that have gone, or a list that cannot be read for the moment, change nothing.
        """
        with contextlib.suppress(UPickerError):
            paths, reading = (self.micrographs, self.reading) if self.again is None else self.again()
            known = set(self.micrographs)
            if new := [path for path in paths if path not in known]:
                if labels is not None:
                    labels.extend([*self.micrographs, *new])
                self.reading, self.micrographs = reading, (*self.micrographs, *new)

    def claim(self, address: str, force: bool = False) -> None:
        """Take the right to write, which one server at a time has; picks that nobody may write to need none.

        Parameters
        ----------
        address : str
            That of the page, without its token; shown to those who come second.
        force : bool
            Whether to take it from a server that has it.

        Raises
        ------
        Held
            If another server has it.
        OutputError
            If labels cannot be written.
        """
        try:
            self.lock = lock(self._lock_file(), f"upicker {self.mode}", address, force)
        except Held:
            raise
        except OutputError:
            if self.mode == "label":
                raise

    def release(self) -> None:
        """Give back the right to write."""
        if self.lock is not None:
            self.lock.release()

    def refuse_if_lost(self) -> None:
        """Refuse to write after another server has taken over.

        Raises
        ------
        Held
            If one has.
        """
        if self.lock is not None:
            self.lock.check()

    def _lock_file(self) -> Path:
        """Return one lock for labels, and one for the rejections of each folder or file of picks."""
        picks = self.picks if self.mode == "inspect" else None
        return self.state / (f"{self.mode}-{picks.name}.lock" if picks and picks.is_file() else f"{self.mode}.lock")

    def path(self, number: int) -> Path:
        """Return the file of a micrograph.

        Raises
        ------
        NotFound
            If there is no such number.
        """
        if not 0 <= number < len(self.micrographs):
            raise NotFound(f"micrograph {number}", "there is no such micrograph", "Reload the page")
        return self.micrographs[number]

    def name(self, number: int) -> str:
        """Return the name of a micrograph: that of its file, without folder and suffix.

        Raises
        ------
        NotFound
            If there is no such number.
        """
        return plain(self.path(number))

    def size(self, number: int) -> tuple[tuple[int, int], float | None]:
        """Return rows and columns of a micrograph, and its pixel size in Angstrom if known.

        Raises
        ------
        NotFound
            If there is no such number.
        MicrographError
            If it cannot be read.
        """
        if number not in self._sizes:
            path = self.path(number)
            self._sizes[number] = micrographs.size(path, self.reading.size_of(path))
        return self._sizes[number]

    def pixel_size_A(self, number: int) -> float | None:  # noqa: N802 - the unit
        """Return the pixel size of a micrograph in Angstrom; None if it is unknown or the file cannot be read."""
        try:
            return self.size(number)[1]
        except MicrographError:
            return None

    def diameter_px(self, number: int) -> float | None:
        """Return the particle diameter in raw pixels of a micrograph; None if it or the pixel size is unknown."""
        diameter, pixel_size_A = self.diameter, None
        if diameter is not None and diameter.unit != "px":
            pixel_size_A = self.pixel_size_A(number)
        if diameter is None or (diameter.unit != "px" and pixel_size_A is None):
            return None
        return diameter.to_px(pixel_size_A)

    def set_diameter(self, diameter: Length) -> None:
        """Set the particle diameter, and save it.

        Raises
        ------
        OutputError
            If it cannot be saved; then nothing changes.
        """
        with self._lock:
            self._save(self._opened, diameter)
            self.diameter = diameter

    def opened(self, number: int) -> bool:
        """Tell whether a user has opened a micrograph yet."""
        return self.name(number) in self._opened

    def note_opened(self, number: int) -> None:
        """Note that a user has opened a micrograph; until the server ends, if nothing can be saved."""
        with self._lock, contextlib.suppress(OutputError):
            if self.name(number) not in self._opened:
                self._opened.add(self.name(number))
                self._save(self._opened)

    def bad(self) -> set[str]:
        """Return the names of the micrographs that are marked as bad."""
        try:
            return set((self.state / _BAD).read_text("utf-8", "surrogateescape").splitlines())
        except OSError:
            return set()

    def mark_bad(self, number: int, bad: bool) -> None:
        """Mark a micrograph as bad, or no longer; saved when this returns.

        Raises
        ------
        OutputError
            If it cannot be saved.
        """
        self.refuse_if_lost()
        name = self.name(number)
        if len(name.splitlines()) != 1:
            raise OutputError(self.state / _BAD, f"it cannot hold the name {name!r}", "Rename the micrograph")
        with self._lock, one_at_a_time(self.state):
            names = self.bad() | {name} if bad else self.bad() - {name}
            with replacing(self.state / _BAD, lasting=True) as temporary:
                temporary.write_text("".join(f"{one}\n" for one in sorted(names)), "utf-8", "surrogateescape")

    def _save(self, opened: set[str], diameter: Length | None = None) -> None:
        """Save opened micrographs, and the diameter if it was set, beside what other servers have saved.

        Servers of several files of picks in one folder share the file.
        """
        self.refuse_if_lost()
        with one_at_a_time(self.state):
            saved = saved_session(self.state / _SESSION)
            content = {
                "diameter": saved.get("diameter") if diameter is None else str(diameter),
                "opened": sorted(opened | opened_in(saved)),
            }
            with replacing(self.state / _SESSION) as temporary:
                temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def labelling(
    paths: Sequence[Path],
    reading: Reading,
    labels: Path,
    diameter: Length | None = None,
    model: Path | None = None,
    changes: Mapping[str, object] | None = None,
) -> Project:
    """Return the project of ``upicker label``; creates the folder of labels.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, as `upicker.io.micrographs.entries` returns them.
    reading : Reading
        How they are read.
    labels : Path
        The folder of labels; it need not exist.
    diameter : Length, optional
        The particle diameter. By default the one last set on the page, that of the weights, or that of the labels.
    model : Path, optional
        Weights for proposals.
    changes : mapping, optional
        ``{"room.knob": value}``, changes to the config of the weights, or to the defaults.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to.
    WeightsError, ConfigError
        If the weights or the changes cannot be used.
    """
    config, trained_for = Config(), None
    if model is not None:
        from upicker.model.weights import read_header

        header = read_header(model)
        config, trained_for = config.with_tables(header.config, str(model)), header.length
    state = labels / STATE
    _make(labels, state)
    project = Project(
        "label", tuple(paths), reading, config.with_changes(changes or {}), state, labels, None, diameter, model
    )
    project.diameter = project.diameter or trained_for or _diameter_of_files(labels)
    return project


def inspecting(
    paths: Sequence[Path],
    reading: Reading,
    picks: Path,
    labels: Path | None = None,
    diameter: Length | None = None,
    changes: Mapping[str, object] | None = None,
    triage: Path | None = None,
) -> Project:
    """Return the project of ``upicker inspect``; writes nothing.

    Parameters
    ----------
    paths, reading
        The micrographs, as for `labelling`.
    picks : Path
        The folder of picks, or a file that holds the picks of several micrographs.
    labels : Path, optional
        The folder or file of labels to compare with.
    diameter : Length, optional
        The particle diameter. By default the one last set on the page, that of ``run.toml``, or that of the picks.
    changes : mapping, optional
        ``{"room.knob": value}``, changes to the config in ``run.toml`` beside the picks, or to the defaults.
    triage : Path, optional
        The table of ``upicker triage``; by default the one beside the picks, if there is just one and it can be read.

    Raises
    ------
    InputError
        If the picks or the folder of labels do not exist, or a given table cannot be read.
    ConfigError
        If the changes cannot be used.
    """
    if not picks.exists():
        raise InputError(picks, "there is no such folder or file of picks", "Check the path")
    folder = picks if picks.is_dir() else picks.parent
    if picks.is_dir() and not any(file.is_file() for file in picks.glob("[!.]*")):
        remedy = "Give the folder that upicker pick or propose wrote to, or any folder of coordinates files"
        raise InputError(picks, "there are no files of picks in this folder", remedy)
    if labels is not None and not labels.exists():
        raise InputError(labels, "there is no such folder or file of labels", "Check the path")
    config, recorded, model = _recorded(folder)
    config = config.with_changes(changes or {})
    project = Project("inspect", tuple(paths), reading, config, folder / STATE, labels, picks, diameter, model)
    project.diameter = project.diameter or recorded or (_diameter_of_files(picks) if picks.is_dir() else None)
    project.triage = {} if triage is None else verdicts(triage)
    with contextlib.suppress(InputError):
        if triage is None and (table := beside(picks)) is not None:
            project.triage = verdicts(table)
    return project


def _make(labels: Path, state: Path) -> None:
    """Create the folders of labels and of the page's state, and check that they are writable."""
    remedy = "Choose a folder that you may write to"
    if labels.exists() and not labels.is_dir():
        remedy = f"Give a folder; upicker convert {labels} --to csv -o labels makes one of a file of labels"
        raise OutputError(labels, "this is a file, not a folder", remedy)
    try:
        writable(state)
    except OutputError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.found
        raise OutputError(labels, f"labels cannot be kept there ({reason})", remedy) from error


def _diameter_of_files(folder: Path) -> Length | None:
    """Return the median diameter in the first files of a folder; None if they have none."""
    files = list(folders.stems(folder).values())[:_FILES_FOR_DIAMETER]
    try:
        return median_diameter(files) if files else None
    except InputError:
        return None


def _recorded(folder: Path) -> tuple[Config, Length | None, Path | None]:
    """Return config, diameter and weights from the ``run.toml`` beside picks; defaults if there is none."""
    found, config = record.read(folder), Config()
    # Picks can be shown even if their record cannot be read, for example after a knob was renamed.
    with contextlib.suppress(UPickerError):
        config = config.with_changes(found.knobs, str(folder / record.NAME))
    return config, found.diameter, found.model
