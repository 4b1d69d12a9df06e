"""The output files of each micrograph: coordinates, and an overlay to check them by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from upicker.errors import OutputError
from upicker.io import coordinates
from upicker.io.atomic import remove_stale, temporary_name
from upicker.io.names import plain
from upicker.particles import Micrograph, Particles
from upicker.run import record
from upicker.run.entries import Entry


class Destination(Protocol):
    """Where a run writes the particles of its micrographs: `Outputs`, or the job of another program."""

    @property
    def folder(self) -> Path:
        """The folder of all files."""
        ...

    @property
    def overlay(self) -> bool:
        """Whether the pixels of micrographs are drawn; `write` needs them."""
        ...

    def prepare(self) -> None:
        """Make the folder; raises OutputError if it cannot be written."""

    def missing(self, micrographs: Sequence[Path], /) -> list[Path]:
        """Return the micrographs whose files are not all there yet."""
        ...

    def write(self, micrograph: Micrograph, particles: Particles, diameter_px: float) -> Entry:
        """Write the particles of one micrograph, raw pixels; raises OutputError if that cannot be done."""
        ...

    def entry(
        self, path: Path, shape: tuple[int, int], pixel_size_A: float | None, particles: Particles, diameter_px: float
    ) -> Entry:
        """Return the entry of a micrograph with the particles that were written."""
        ...

    def read(self, path: Path) -> Particles:
        """Return the particles that were written of a micrograph; raises CoordinatesError if they cannot be read."""
        ...


@dataclass(frozen=True)
class Outputs:
    """The files of one run.

    Attributes
    ----------
    folder : Path
        The output folder.
    formats : tuple of str
        Coordinate formats, of `upicker.io.coordinates.FORMATS`.
    overlay : bool
        Whether to draw ``<stem>_overlay.png``, too.
    """

    folder: Path
    formats: tuple[str, ...] = ("csv",)
    overlay: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown formats."""
        for name in self.formats:
            coordinates.format_of(name, coordinates.FORMATS)

    def paths(self, stem: str) -> list[Path]:
        """Return the files of one micrograph."""
        files = [coordinates.output_path(self.folder, stem, name) for name in self.formats]
        return [*files, self.folder / f"{stem}_overlay.png"] if self.overlay else files

    def missing(self, micrographs: Sequence[Path]) -> list[Path]:
        """Return those micrographs whose outputs are not all there yet."""
        since = record.read(self.folder, micrographs=False).since_ns
        return [path for path in micrographs if not all(there(file, since) for file in self.paths(plain(path)))]

    def prepare(self) -> None:
        """Make the folder, and try to write there, so that an error comes first and not after hours.

        Raises
        ------
        OutputError
            If the folder cannot be made, or nothing can be written in it.
        """
        writable(self.folder)

    def write(self, micrograph: Micrograph, particles: Particles, diameter_px: float) -> Entry:
        """Write the particles of one micrograph.

        Parameters
        ----------
        micrograph : Micrograph
            For its name, its pixel size and the overlay.
        particles : Particles
            In raw pixels.
        diameter_px : float
            The nominal diameter, raw pixels, for particles without one of their own.

        Returns
        -------
        Entry
            For ``run.toml``.

        Raises
        ------
        OutputError
            If something cannot be written.
        """
        particles = particles.with_diameter(diameter_px, only_missing=True)
        if self.overlay:
            from upicker import draw  # matplotlib takes half a second

            draw.overlay(micrograph, particles, self.folder / f"{micrograph.name}_overlay.png")
        for name in self.formats:
            path = coordinates.output_path(self.folder, micrograph.name, name)
            coordinates.write(path, particles, name, micrograph.pixel_size_A, micrograph.shape)
        path = micrograph.path or Path(micrograph.name)
        return self.entry(path, micrograph.shape, micrograph.pixel_size_A, particles, diameter_px)

    def entry(
        self, path: Path, shape: tuple[int, int], pixel_size_A: float | None, particles: Particles, diameter_px: float
    ) -> Entry:
        """Return the entry of a micrograph with the particles that were written."""
        return Entry.of(path, plain(path), shape, pixel_size_A, particles, diameter_px)

    def read(self, path: Path) -> Particles:
        """Return the particles that were written of a micrograph.

        Raises
        ------
        CoordinatesError
            If they cannot be read.
        """
        return coordinates.read(self.paths(plain(path))[0])


def there(file: Path, since_ns: int | None = None) -> bool:
    """Return whether a file exists, and was changed at `since_ns` or later.

    False if its name is too long for the file system, as writing it will tell.
    """
    try:
        return file.stat().st_mtime_ns >= (since_ns or 0)
    except OSError:
        return False


def writable(folder: Path) -> None:
    """Make a folder, and try to write in it; what killed processes left there is removed.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    probe = folder / temporary_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        remove_stale(folder)
    except OSError as error:
        raise OutputError(folder, f"cannot be written ({error.strerror})", "Choose another output with -o") from error
