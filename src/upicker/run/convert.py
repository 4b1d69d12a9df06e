"""Conversion of coordinates between any two formats, for many micrographs; the output is read back and compared."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError, InputError, UPickerError
from upicker.io import coordinates, folders
from upicker.io.lists import Listed
from upicker.io.micrographs import Reading, size
from upicker.io.pairing import ANY, Endings, Pairing, differing, pair
from upicker.io.picks import EXTRA_WORDS, FLIPS, Picks, ReadOptions, WriteOptions, stem, to_contract
from upicker.io.sources import distinct, repeats
from upicker.particles import Particles
from upicker.units import Length

# Differences that rounding explains: in pixels for positions, else relative to the larger value. cryoSPARC stores
# positions as 32-bit fractions, texts have four decimals.
_ROUNDED_PX, _ROUNDED = 0.01, 1e-4
# The largest number that cryoSPARC's tables hold.
_SINGLE = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Found:
    """The picks of one micrograph, and where they come from.

    Attributes
    ----------
    file : Path
        The input file; of a list, the list.
    picks : Picks
        Its content.
    micrograph : Path or None
        The micrograph's file, if known.
    """

    file: Path
    picks: Picks
    micrograph: Path | None = None


@dataclass(frozen=True)
class Converting:
    """The output of a conversion, and how to read and write.

    Attributes
    ----------
    format : str
        One of `upicker.io.coordinates.TARGETS`.
    output : Path
        A file or a folder, see `upicker.io.coordinates.write_all`.
    reading : ReadOptions
        Flip, scale and threshold of the input; sizes come from the micrographs.
    writing : WriteOptions
        Flip and scale of the output.
    diameter : Length or None
        Of particles without one.
    box : Length or None
        Side of boxes; by default the diameter of the particle.
    endings : Endings
        Of the files' names, see `upicker.io.pairing.match`.
    """

    format: str
    output: Path
    reading: ReadOptions = field(default_factory=ReadOptions)
    writing: WriteOptions = field(default_factory=WriteOptions)
    diameter: Length | None = None
    box: Length | None = None
    endings: Endings = ANY


@dataclass(frozen=True)
class Report:
    """The result of a conversion.

    Attributes
    ----------
    micrographs, particles : int
        The numbers written.
    written : list of Path
        The files.
    lost : list of str
        What is not kept, in words: the output, or UPicker itself, does not hold it.
    picks_without_micrograph : list of str
        Names in the input without a micrograph: not written.
    micrographs_without_picks : list of Path
        Micrographs without picks.
    outside : dict of str to int
        Micrograph -> the number of its particles that lie outside it, if not 0.
    unnamed : list of str
        Micrographs that the other program needs by path, of which only the name is known.
    failed : list of UPickerError
        Micrographs that could not be read: not written.
    differing : str
        See `upicker.io.pairing.differing`.
    repeated : str
        The sentence about positions that stand twice, see `upicker.io.sources.repeats`.
    """

    micrographs: int
    particles: int
    written: list[Path]
    lost: list[str]
    picks_without_micrograph: list[str]
    micrographs_without_picks: list[Path]
    outside: dict[str, int]
    unnamed: list[str]
    failed: list[UPickerError]
    differing: str = ""
    repeated: str = ""


def load(inputs: Sequence[str | Path]) -> list[Found]:
    """Read coordinates files of any format, in their own frame and pixels.

    Parameters
    ----------
    inputs : sequence of str or Path
        Files, quoted patterns, and folders: the files that a list of RELION names, and those named after micrographs.

    Raises
    ------
    InputError
        If there is no such file, or two files hold picks of the same micrograph.
    CoordinatesError
        If a file cannot be read.
    """
    found: list[Found] = []
    seen: dict[str, Path] = {}
    for file, picks in [one for word in inputs for one in _stored(str(word))]:
        other = seen.setdefault(picks.micrograph, file)
        if other != file:
            raise InputError(file, f"{other} also has picks of {picks.micrograph!r}", "Give one of the two")
        found.append(Found(file, picks))
    return found


def _stored(word: str) -> list[tuple[Path, Picks]]:
    """Return input files, which may be lists, and their picks."""
    path = Path(word).expanduser()
    by_list, by_name = folders.in_folder(path) if path.is_dir() else ({}, {})
    if path.is_dir() and not by_list and not by_name:
        raise InputError(path, "has no coordinates file named after a micrograph", "Give the files themselves")
    files = by_name.values() if path.is_dir() else _files(path, word)
    beside = [(file, picks) for file in files for _, picks in coordinates.read_stored(file)]
    return coordinates.read_listed(by_list.items()) + beside


def _files(path: Path, word: str) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())  # noqa: PTH207
    if not files:
        raise InputError(word, "there is no such file, folder or match", "Check the path")
    return files


def with_micrographs(
    found: Sequence[Found], entries: Sequence[Listed], endings: Endings = ANY
) -> tuple[list[Found], Pairing[Path, str]]:
    """Find the micrographs of picks by name; see `upicker.io.pairing.match`.

    Returns
    -------
    list of Found
        Those with a micrograph, under the name that the list of micrographs has for it.
    Pairing
        Micrograph -> name of its picks.

    Raises
    ------
    InputError
        If there are picks, but of none of the micrographs, or names are ambiguous.
    """
    by_path = {entry.path: entry for entry in entries}
    names = {one.picks.micrograph: one.picks.micrograph for one in found}
    pairing = pair(by_path, names, "--micrographs", required=bool(found), endings=endings)
    path_of = {name: path for path, name in pairing.pairs.items()}
    kept = [
        Found(one.file, replace(one.picks, micrograph=by_path[path].name), path)
        for one in found
        if (path := path_of.get(one.picks.micrograph))
    ]
    return kept, pairing


def convert(inputs: Sequence[str | Path], work: Converting, entries: Sequence[Listed] | None = None) -> Report:
    """Convert coordinates files, and read the output back to report what it does not hold.

    Parameters
    ----------
    inputs : sequence of str or Path
        See `load`.
    work : Converting
        The output, and how to read and write.
    entries : sequence of Listed, optional
        The micrographs, as returned by `upicker.io.micrographs.entries`.

    Raises
    ------
    ConfigError
        If sizes are needed and no micrographs are given, or an option is invalid.
    UPickerError
        As `load`, `with_micrographs`, `upicker.io.picks.to_contract` and `upicker.io.coordinates.write_all`.
    """
    found = load(inputs)
    pairing: Pairing[Path, str] = Pairing()
    failed: list[UPickerError] = []
    if entries is None:
        _check_shapes(found, work)
        measured = [replace(one, picks=to_contract(one.file, one.picks, work.reading)) for one in found]
    else:
        found, pairing = with_micrographs(found, entries, work.endings)
        measured, failed = in_raw_pixels(found, work.reading, Reading.of(entries, work.reading.pixel_size_A))
    done = [one.picks for one in measured]
    repeated = [again for one in measured for again in distinct(one.picks.particles, one.file)[1]]
    if failed and not done:
        raise failed[0]
    if work.diameter:
        done = [_with_diameter(picks, work.diameter) for picks in done]
    uids = {entry.name: entry.uid for entry in entries or ()}
    writing = replace(work.writing, box_px=_box_px(work.box, done), uid_of=uids.get)
    written = coordinates.write_all(work.output, done, work.format, writing)
    format = coordinates.format_of(work.format)
    return Report(
        micrographs=len(done),
        particles=sum(len(picks.particles) for picks in done),
        written=written,
        lost=_lost(done, _read_back(written[:-1] if format.repeats else written, done, writing)),
        picks_without_micrograph=pairing.unmatched_files,
        micrographs_without_picks=pairing.unmatched_micrographs,
        outside={p.micrograph: n for p in done if p.shape and (n := int((~p.particles.inside(p.shape)).sum()))},
        unnamed=[p.micrograph for p in done if format.by_path and stem(p.micrograph) == p.micrograph],
        failed=failed,
        differing=differing(pairing),
        repeated=repeats(repeated, "kept"),
    )


def _check_shapes(found: Sequence[Found], work: Converting) -> None:
    """Refuse what needs the size of micrographs that are not given."""
    without = next((one for one in found if one.picks.shape is None), None)
    why = None
    if FLIPS[work.reading.flip] or FLIPS[work.writing.flip]:
        why = "to flip its picks"
    elif "shape" in coordinates.format_of(work.format).needs:
        why = f"by the format '{work.format}'"
    if without and why:
        name = without.picks.micrograph
        needed = f"the size of micrograph {name!r} is needed {why}, and {without.file} does not have it"
        raise ConfigError("--micrographs", needed, "Give the micrographs, e.g. --micrographs 'micrographs/*.mrc'")


def in_raw_pixels(
    found: Sequence[Found], options: ReadOptions, reading: Reading, needed_only: bool = False
) -> tuple[list[Found], list[UPickerError]]:
    """Convert picks to raw pixels, with the sizes and pixel sizes of their micrographs.

    Parameters
    ----------
    found : sequence of Found
        Each with its micrograph.
    options : ReadOptions
        Flip, scale and threshold.
    reading : Reading
        Gives the pixel sizes that the headers of the micrographs do not give.
    needed_only : bool
        Whether micrographs are opened only where positions cannot be converted without; the headers of many take a
        while to read.

    Returns
    -------
    list of Found
        In raw pixels.
    list of UPickerError
        Of the micrographs that cannot be read, whose picks are left out.

    Raises
    ------
    UPickerError
        As `upicker.io.picks.to_contract`.
    """
    done: list[Found] = []
    failed: list[UPickerError] = []
    for one in found:
        assert one.micrograph is not None
        if needed_only and not one.picks.needs_sizes:
            done.append(replace(one, picks=to_contract(one.file, one.picks, options)))
            continue
        try:
            shape, pixel_size_A = size(one.micrograph, reading.size_of(one.micrograph))
        except UPickerError as error:
            failed.append(error)
            continue
        own = replace(options, shape_of=_always(shape), pixel_size_A=pixel_size_A)
        done.append(replace(one, picks=to_contract(one.file, one.picks, own)))
    return done, failed


def _always(shape: tuple[int, int] | None) -> Callable[[str], tuple[int, int] | None]:
    return lambda _: shape


def _with_diameter(picks: Picks, diameter: Length) -> Picks:
    px = diameter.to_px(picks.pixel_size_A, picks.micrograph)
    return replace(picks, particles=picks.particles.with_diameter(px, only_missing=True))


def _box_px(box: Length | None, done: Sequence[Picks]) -> float | None:
    if box is None or box.unit == "px":
        return box and box.value
    sizes = {picks.pixel_size_A for picks in done}
    if len(sizes) > 1:
        raise ConfigError("--box", "the micrographs have several pixel sizes", f"Give pixels, e.g. {box.value:g}px")
    return box.to_px(next(iter(sizes), None), "--box")


def _read_back(files: Sequence[Path], done: Sequence[Picks], options: WriteOptions) -> list[Picks]:
    """Read the output back, into raw pixels of our frame."""
    back = ReadOptions(None, options.flip, options.scale)
    if len(files) == len(done):
        # A file per micrograph may have its name only, which another folder may have, too.
        return [
            again
            for file, picks in zip(files, done)
            for again in coordinates.read_all(file, replace(back, shape_of=_always(picks.shape)))
        ]
    shapes = {name: picks.shape for picks in done for name in (picks.micrograph, stem(picks.micrograph))}
    return [picks for file in files for picks in coordinates.read_all(file, replace(back, shape_of=shapes.get))]


def _lost(before: Sequence[Picks], after: Sequence[Picks]) -> list[str]:
    """Return in words what is not kept."""
    lost = list(dict.fromkeys(word for picks in before for word in picks.unread))
    if sum(len(p.particles) > 0 for p in before) != sum(len(p.particles) > 0 for p in after):
        lost.append("which micrograph is meant: some differ by their folders only")
    olds, news = ([p.particles for p in some if len(p.particles)] for some in (before, after))
    old, new = Particles.concatenate(olds), Particles.concatenate(news)
    if len(old) != len(new):
        return [*lost, f"{len(old) - len(new)} particles"]
    distance = float(np.abs(old.xy - new.xy).max(initial=0))
    if distance > _ROUNDED_PX:
        lost.append(f"exact positions (up to {distance:.2g} px off)")
    far = np.abs(old.score) > _SINGLE
    if not _alike(old.score[~far], new.score[~far]):
        lost.append("scores")
    elif not _alike(old.score, new.score):
        lost.append(f"scores beyond {_SINGLE:.2g}, which were clipped to it")
    elif kinds := {p.score_kind for p in olds if p.score_kind.declaration} - {p.score_kind for p in news}:
        lost.append(f"what the scores are ({', '.join(sorted(kind.noun for kind in kinds))})")
    known = np.isfinite(old.diameter_px)
    if (known & ~np.isfinite(new.diameter_px)).any():
        lost.append("diameters")
    elif not _alike(old.diameter_px[known], new.diameter_px[known]):
        lost.append("diameters, which became the size of boxes")
    return lost + [word for name, word in EXTRA_WORDS.items() if not _same_extra(name, olds, news)]


def _same_extra(name: str, olds: Sequence[Particles], news: Sequence[Particles]) -> bool:
    """Tell whether a column of `Particles.extra` has the same values; 0, NaN and no column all mean unknown."""
    if name == "label_key":
        old, new = ([key for p in some for key in p.extra.get(name, [""] * len(p))] for some in (olds, news))
        return old == new or not any(old)
    old, new = (
        np.concatenate([np.nan_to_num(p.extra.get(name, np.zeros(len(p)))) for p in some] or [np.zeros(0)])
        for some in (olds, news)
    )
    return _alike(old, new)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.all(np.abs(one - other) <= _ROUNDED * np.maximum(np.abs(one), np.abs(other))))
