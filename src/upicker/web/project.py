"""What one server shows: the micrographs, the folders of labels and picks, and what the page remembers of itself."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upicker.config import Config
from upicker.errors import ConfigError, InputError, MicrographError, OutputError, UPickerError
from upicker.io import coordinates, micrographs
from upicker.io.atomic import replacing
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.run import record
from upicker.train.labels import median_diameter
from upicker.units import Length, parse_length

STATE = ".upicker"
_SESSION = "session.json"
# Files of labels or picks that are asked for the particles' diameter.
_ASKED = 5


class NotThere(UPickerError, KeyError):  # noqa: N818 - says what is the matter
    """Something that was asked for by a number or name, and does not exist."""

    __str__ = Exception.__str__


@dataclass(eq=False)
class Project:
    """What one server shows; nothing of it changes but the diameter and the list of what was opened.

    Attributes
    ----------
    mode : str
        ``"label"`` or ``"inspect"``.
    micrographs : tuple of Path
        Their numbers here are their places in this tuple.
    reading : Reading
        How they are read.
    config : Config
        Of the weights or the picks, with what the command line changed.
    state : Path
        The folder for what the page keeps for itself; perhaps not made yet.
    labels : Path or None
        The folder of labels; in the mode ``"label"`` there always is one.
    picks : Path or None
        The folder or file of picks; in the mode ``"inspect"`` there always is one.
    diameter : Length or None
        The particles'; None where nobody has said it yet.
    model : Path or None
        Weights for proposals and suggestions.
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
    _opened: set[str] = field(default_factory=set, init=False, repr=False)
    _sizes: dict[int, tuple[tuple[int, int], float | None]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        remembered = _remembered(self.state / _SESSION)
        opened = remembered.get("opened")
        self._opened = {name for name in opened if isinstance(name, str)} if isinstance(opened, list) else set()
        if self.diameter is None and remembered.get("diameter"):
            with contextlib.suppress(ConfigError):
                self.diameter = parse_length(str(remembered["diameter"]))

    def path(self, number: int) -> Path:
        """Return a micrograph's file.

        Raises
        ------
        NotThere
            If there is no such number; this is a KeyError, too.
        """
        if not 0 <= number < len(self.micrographs):
            raise NotThere(f"micrograph {number}", "there is no such micrograph", "Reload the page")
        return self.micrographs[number]

    def name(self, number: int) -> str:
        """Return a micrograph's name: the file's without folder and suffix.

        Raises
        ------
        NotThere
            If there is no such number.
        """
        return plain(self.path(number))

    def size(self, number: int) -> tuple[tuple[int, int], float | None]:
        """Return rows and columns of a micrograph, and its pixel size in Angstrom where known.

        Raises
        ------
        NotThere
            If there is no such number.
        MicrographError
            If it cannot be read.
        """
        if number not in self._sizes:
            path = self.path(number)
            self._sizes[number] = micrographs.size(path, self.reading.size_of(path))
        return self._sizes[number]

    def pixel_size_A(self, number: int) -> float | None:  # noqa: N802 - the unit
        """Return a micrograph's pixel size in Angstrom; None where it is not known or cannot be read."""
        try:
            return self.size(number)[1]
        except MicrographError:
            return None

    def diameter_px(self, number: int) -> float | None:
        """Return the particles' diameter in raw pixels of a micrograph; None where that cannot be told."""
        diameter, pixel_size_A = self.diameter, None
        if diameter is not None and diameter.unit != "px":
            pixel_size_A = self.pixel_size_A(number)
        if diameter is None or (diameter.unit != "px" and pixel_size_A is None):
            return None
        return diameter.to_px(pixel_size_A)

    def set_diameter(self, diameter: Length) -> None:
        """Take another diameter from now on, and remember it.

        Raises
        ------
        OutputError
            If it cannot be written; then nothing changes.
        """
        with self._lock:
            self._write(diameter, self._opened)
            self.diameter = diameter

    def opened(self, number: int) -> bool:
        """Tell whether anybody has looked at a micrograph yet."""
        return self.name(number) in self._opened

    def note_opened(self, number: int) -> None:
        """Remember that somebody has looked at a micrograph; where nothing can be written, for this time only."""
        with self._lock, contextlib.suppress(OutputError):
            if self.name(number) not in self._opened:
                self._opened.add(self.name(number))
                self._write(self.diameter, self._opened)

    def _write(self, diameter: Length | None, opened: set[str]) -> None:
        content = {"diameter": None if diameter is None else str(diameter), "opened": sorted(opened)}
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
    """Return the project of ``upicker label``; makes the folder of labels.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, as `upicker.io.micrographs.entries` finds them.
    reading : Reading
        How they are read.
    labels : Path
        The folder of labels; need not exist.
    diameter : Length, optional
        The particles'. By default what was said on the page before, what the weights say, or the labels.
    model : Path, optional
        Weights for proposals.
    changes : mapping, optional
        ``{"room.knob": value}``, changes to the weights' config, or to the defaults.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to.
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
    project.diameter = project.diameter or trained_for or _diameter_in(labels)
    return project


def inspecting(
    paths: Sequence[Path],
    reading: Reading,
    picks: Path,
    labels: Path | None = None,
    diameter: Length | None = None,
    changes: Mapping[str, object] | None = None,
) -> Project:
    """Return the project of ``upicker inspect``; writes nothing.

    Parameters
    ----------
    paths, reading
        The micrographs, as for `labelling`.
    picks : Path
        The folder of picks, or a file that holds the picks of several micrographs.
    labels : Path, optional
        The folder of labels to compare with.
    diameter : Length, optional
        The particles'. By default what was said on the page before, what the picking run recorded, or the picks.
    changes : mapping, optional
        ``{"room.knob": value}``, changes to the config that the picking run recorded, or to the defaults.

    Raises
    ------
    InputError
        If there are no picks, or no folder of labels.
    ConfigError
        If the changes cannot be used.
    """
    if not picks.exists():
        raise InputError(picks, "there is no such folder or file of picks", "Check the path")
    folder = picks if picks.is_dir() else picks.parent
    if picks.is_dir() and not any(file.is_file() for file in picks.glob("[!.]*")):
        remedy = "Give the folder that upicker pick or propose wrote to, or any folder of coordinates files"
        raise InputError(picks, "no file of picks is in this folder", remedy)
    if labels is not None and not labels.is_dir():
        raise InputError(labels, "there is no such folder of labels", "Check the path")
    config, recorded, model = _recorded(folder)
    config = config.with_changes(changes or {})
    project = Project("inspect", tuple(paths), reading, config, folder / STATE, labels, picks, diameter, model)
    project.diameter = project.diameter or recorded or (_diameter_in(picks) if picks.is_dir() else None)
    return project


def _make(labels: Path, state: Path) -> None:
    """Make the folders of labels, and see that they can be written to."""
    remedy = "Choose a folder that you may write to"
    if labels.exists() and not labels.is_dir():
        raise OutputError(labels, "this is a file, not a folder", "Give a folder for the labels")
    try:
        state.mkdir(parents=True, exist_ok=True)
        probe = state / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(labels, f"labels cannot be kept there ({error.strerror or error})", remedy) from error


def _diameter_in(folder: Path) -> Length | None:
    """Return the diameter that files of particles carry, if they do."""
    files = list(coordinates.stems(folder).values())[:_ASKED]
    try:
        return median_diameter(files) if files else None
    except InputError:
        return None


def _recorded(folder: Path) -> tuple[Config, Length | None, Path | None]:
    """Return config, diameter and weights of the run that made some picks; defaults where it left no record."""
    found, config = record.read(folder), Config()
    # Picks stay good when their record cannot be used, say because another version has renamed a knob.
    with contextlib.suppress(UPickerError):
        config = config.with_changes(found.knobs, str(folder / record.NAME))
    return config, found.diameter, found.model


def _remembered(path: Path) -> dict:
    """Return what the page wrote into a file of its own; nothing if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
