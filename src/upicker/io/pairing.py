"""Pairing: which file belongs to which micrograph, in spite of what programs do to names on the way.

cryoSPARC puts a number before a name, motion correction and pickers add words behind it, projects move, and leading
zeros of numbers get lost. Names that are equal as they are count first; what is left is compared without these
additions, and where that leaves a choice, nothing is chosen. Endings of programs that are not known here are seen
through last: a file whose name begins with that of one micrograph belongs to it; and so are other numbers in front.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from upicker.errors import InputError, listed
from upicker.io.name_keys import NUMBER, bare, core, last, named, numberless, unnumbered, without, without_zeros
from upicker.io.sources import Part, Source, by_micrograph

# What may follow the name of a micrograph: a number would rather be part of another one's name.
_ENDING = re.compile(r"[_.-](?=[^\W\d_])")
# At most this many pairs of equal names are compared folder by folder; more stay ambiguous.
_MOST_PAIRS = 10_000

M = TypeVar("M", str, Path)
"""A micrograph: its name, or its path."""
N = TypeVar("N", str, Path)
F = TypeVar("F")
"""What belongs to a micrograph: a file, or what was read from one."""


@dataclass(frozen=True)
class Pairing(Generic[M, F]):
    """Which files belong to which micrographs.

    Attributes
    ----------
    pairs : dict
        Micrograph -> file, in the order of the micrographs; each file once.
    unmatched_micrographs : list
        Micrographs without a file.
    unmatched_files : list
        Files without a micrograph.
    ambiguous : dict
        Micrograph -> the files that match it equally well; always empty in what `pair` returns.
    endings : tuple of str
        What pairs of names differ by, where the file's begins with the micrograph's: ``_extract``.
    numbers : tuple of str
        What pairs of names differ by, where one has a number in front: ``000123456_``.
    """

    pairs: dict[M, F] = field(default_factory=dict)
    unmatched_micrographs: list[M] = field(default_factory=list)
    unmatched_files: list[F] = field(default_factory=list)
    ambiguous: dict[M, list[F]] = field(default_factory=dict)
    endings: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endings:
    """How endings of names that are not known here are treated.

    Attributes
    ----------
    given : str
        An ending to leave out, e.g. ``_extract``.
    any : bool
        Whether a file whose name begins with that of one micrograph belongs to it.
    """

    given: str = ""
    any: bool = True


EXACT, ANY = Endings(any=False), Endings()


def pair(
    micrographs: Iterable[M],
    files: Mapping[str, F],
    where: str | Path,
    required: bool = True,
    endings: Endings = ANY,
) -> Pairing[M, F]:
    """Pair micrographs and files by name; see `match`.

    Parameters
    ----------
    micrographs : iterable of str or Path
        Names or paths.
    files : mapping of str to anything
        By the names to compare, as `upicker.io.sources.by_micrograph` gives them.
    where : str or Path
        The folder or option to name in an error.
    required : bool
        Whether it is an error if there is not one pair.
    endings : Endings
        See `match`.

    Raises
    ------
    InputError
        If names are ambiguous, or, where `required`, there is not one pair.
    """
    micrographs = list(micrographs)
    found = match(micrographs, list(files), endings)
    if found.ambiguous:
        raise InputError(where, *_ambiguity(found.ambiguous))
    if required and not found.pairs:
        raise InputError(where, *_no_pair(micrographs, list(files)))
    return Pairing(
        {micrograph: files[name] for micrograph, name in found.pairs.items()},
        found.unmatched_micrographs,
        [files[name] for name in found.unmatched_files],
        endings=found.endings,
        numbers=found.numbers,
    )


def pair_folder(
    micrographs: Iterable[M], folder: Path, required: bool = True, endings: Endings = ANY
) -> Pairing[M, Source]:
    """Pair micrographs and the coordinates in a folder, a list or a file by name; arguments and errors as in `pair`.

    Raises
    ------
    InputError
        If there is no such folder or file, too.
    """
    return pair(micrographs, by_micrograph(folder), folder, required, endings)


def unmatched(items: Sequence[Source | str], noun: str, lacking: str) -> str:
    """Return the sentence about what is left over: ``2 micrographs without picks: a.mrc, b.mrc``.

    Parameters
    ----------
    items : sequence of Path, Part or str
        The names or files, at least one.
    noun : str
        What they are, singular, e.g. ``"pick file"``.
    lacking : str
        What they are without, and what follows, e.g. ``"a micrograph, not extracted"``.
    """
    names = [item.micrograph if isinstance(item, Part) else item for item in items]
    return f"{len(items)} {noun}{'s' if len(items) > 1 else ''} without {lacking}: {listed(names)}"


def differing(pairing: Pairing) -> str:
    """Return the sentence about endings and numbers that were seen through, empty if there were none."""
    said = []
    if pairing.endings:
        said.append(f"{_shown(pairing.endings)}: files belong to the micrograph whose name they begin with")
    if pairing.numbers:
        said.append(f"{_shown(pairing.numbers)}: numbers in front were left out")
    return "; ".join(said)


def _shown(words: Sequence[str]) -> str:
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f"names differ by {' or '.join(repr(word) for word in words[:3])}{more}"


def match(micrographs: Sequence[M], files: Sequence[N], endings: Endings = ANY) -> Pairing[M, N]:
    """Match micrographs and files by name, each at most once; `pair` also refuses what is ambiguous.

    Compared are, one after the other, and each time only what is left:

    1. names without folder, as they are: ``tab.tif`` belongs to ``tab.tif.mrc``;
    2. also without the suffix of a micrograph or of coordinates;
    3. without cryoSPARC's number in front and without the additions of programs (``_patch_aligned_doseweighted``,
       ``_DW``, ``_rigid_aligned``, ``_EER``, ``_autopick`` ...), regardless of case;
    4. and without leading zeros of numbers;
    5. files whose names begin with that of a micrograph (the longest counts), followed by ``_``, ``-`` or ``.`` and a
       letter: ``mic1_extract`` belongs to ``mic1``, if no other file does;
    6. without a number that begins with 0 in front: ``000123456_mic1`` belongs to ``mic1``, if no other does.

    Where several names are equal, those whose folders agree (from the name upward) belong together; where folders do
    not decide, they are ambiguous.

    Parameters
    ----------
    micrographs, files : sequence of str or Path
        Names or paths, with or without suffix; equal ones count once.
    endings : Endings
        An ending to leave out of all names, and whether there are the last two rounds.
    """
    left, free = list(dict.fromkeys(micrographs)), list(dict.fromkeys(files))
    all_of_them = left
    pairs: dict[M, N] = {}
    ambiguous: dict[M, list[N]] = {}

    def without_ending(key: _Key) -> _Key:
        return lambda text: key(without(text, endings.given))

    rounds = [*_as_they_are(left, free), *((key, key) for key in (bare, core, without_zeros))]
    for ours, theirs in rounds:
        left, free = _round(left, free, ours, theirs, pairs, ambiguous)
    for ours, theirs in rounds if endings.given else ():
        left, free = _round(left, free, without_ending(ours), without_ending(theirs), pairs, ambiguous)
    seen_through: list[str] = []
    # With tens of thousands of names the keys of all of them take a second: none where nothing is left.
    for key in (unnumbered, core) if endings.any and left and free else ():
        left, free = _by_beginning(all_of_them, left, free, key, pairs, seen_through)
    any_left = endings.any and left and free
    numbered = _by_number(all_of_them, list(dict.fromkeys(files)), left, set(free)) if any_left else {}
    pairs.update(numbered)
    used = set(numbered.values())
    numbers = [found[0] for both in numbered.items() for one in both if (found := NUMBER.match(bare(str(one))))]
    left = [one for one in left if one not in numbered]
    free = [file for file in free if file not in used]
    ordered = {one: pairs[one] for one in all_of_them if one in pairs}
    return Pairing(ordered, left, free, ambiguous, tuple(dict.fromkeys(seen_through)), tuple(numbers))


_Key = Callable[[str], str]


def _as_they_are(micrographs: Sequence[M], files: Sequence[N]) -> list[tuple[_Key, _Key]]:
    """Return the keys of the first round for micrographs and files, the one that more names agree in first.

    Names of files may or may not have the suffix of their micrograph: ``tab.tif`` may mean itself, or ``tab.tif.mrc``.
    """
    keys: list[tuple[_Key, _Key]] = [(named, last), (last, last), (last, named)]

    def agreeing(ours: _Key, theirs: _Key) -> int:
        found = _grouped(files, theirs)
        return sum(len(same) == 1 == len(found.get(name, ())) for name, same in _grouped(micrographs, ours).items())

    return sorted(keys, key=lambda pair: -agreeing(*pair))


def _by_beginning(
    micrographs: Sequence[M], left: list[M], free: list[N], key: _Key, pairs: dict[M, N], endings: list[str]
) -> tuple[list[M], list[N]]:
    """Pair micrographs in `left` with the only file that begins with their name; see `_round`."""
    names = {key(str(one)) for one in micrographs}
    beginning = {file: _beginning(unnumbered(str(file)), names) for file in free}
    found: dict[M, N] = {}
    candidates = [file for file in free if beginning[file]]
    _round(left, candidates, key, lambda text: _beginning(unnumbered(text), names), found, {})
    endings += [unnumbered(str(file), lower=False)[len(beginning[file]) :] for file in found.values()]
    pairs.update(found)
    used = set(found.values())
    return [one for one in left if one not in found], [one for one in free if one not in used]


def _by_number(micrographs: Sequence[M], files: Sequence[N], left: Sequence[M], free: Collection[N]) -> dict[M, N]:
    """Pair those in `left` and `free` that differ by a number in front, where no other name of all is alike."""
    ours, theirs = _grouped(micrographs, numberless), _grouped(files, numberless)
    found: dict[M, N] = {}
    for one in left:
        name = numberless(str(one))
        [file, *others] = theirs.get(name, [None])
        if file is None or others or len(ours[name]) > 1 or file not in free:
            continue
        if (NUMBER.match(bare(str(one))) is None) != (NUMBER.match(bare(str(file))) is None):
            found[one] = file
    return found


def _beginning(name: str, names: Collection[str]) -> str:
    """Return the longest of some names that a name begins with, if a word follows; else nothing."""
    cuts = (match.start() for match in _ENDING.finditer(name, 1))
    return max((name[:cut] for cut in cuts if name[:cut] in names), key=len, default="")


def _ambiguity(ambiguous: Mapping[M, list[str]]) -> tuple[str, str]:
    """Return what is ambiguous, and what to do."""
    names = next(iter(ambiguous.values()))
    rivals = [micrograph for micrograph, others in ambiguous.items() if set(others) & set(names)]
    some = " or ".join(f"'{rival}'" for rival in rivals[:4])
    which = " or ".join(f"'{name}'" for name in names[:4])
    more = f" (and {len(ambiguous) - len(rivals)} more)" if len(ambiguous) > len(rivals) else ""
    remedy = "Name the files exactly as the micrographs, or leave out those that are not meant"
    return f"names are ambiguous: {which} may belong to {some}{more}", remedy


def _no_pair(micrographs: Sequence[str | Path], names: Sequence[str]) -> tuple[str, str]:
    """Return what was found, and what to do."""
    remedy = "Files are matched by name: mic001.csv, mic001.box or mic001_autopick.star belongs to mic001.mrc"
    if not names:
        return f"there are no coordinate files for the {len(micrographs)} micrographs", remedy
    some = f" (e.g. '{Path(micrographs[0]).name}')" if micrographs else ""
    found = (
        f"none of the {len(names)} names (e.g. '{names[0]}') matches one of the {len(micrographs)} micrographs{some}"
    )
    ours, theirs = ({unnumbered(str(one)) for one in some} for some in (micrographs, names[:1]))
    name = next(iter(theirs))
    beginning = max((one for one in ours if name.startswith(one) and name != one), key=len, default="")
    if not beginning:
        return found, remedy
    ending = unnumbered(names[0], lower=False)[len(beginning) :]
    return f"{found}; names differ by '{ending}'", f"If they belong together, give --suffix {ending}"


def _round(
    micrographs: list[M],
    files: list[N],
    ours: _Key,
    theirs: _Key,
    pairs: dict[M, N],
    ambiguous: dict[M, list[N]],
) -> tuple[list[M], list[N]]:
    """Match by one key of each, adding to `pairs` and `ambiguous`; return what is left of both."""
    by_file = _grouped(files, theirs)
    used: set[N] = set()
    for value, same in _grouped(micrographs, ours).items():
        options = by_file.get(value, [])
        if not options:
            continue
        found = {same[0]: options[0]} if len(same) == len(options) == 1 else _by_folder(same, options)
        pairs.update(found)
        used.update(found.values())
        spare = [option for option in options if option not in used]
        if spare and len(found) < len(same):
            ambiguous.update({micrograph: spare for micrograph in same if micrograph not in found})
            used.update(spare)
    return [one for one in micrographs if one not in pairs and one not in ambiguous], [
        one for one in files if one not in used
    ]


def _by_folder(micrographs: list[M], files: list[N]) -> dict[M, N]:
    """Pair those of equal names whose folders agree best, where each is the only best one of the other."""
    if len(micrographs) * len(files) > _MOST_PAIRS:
        return {}
    ours = {one: _folders(one) for one in micrographs}
    theirs = {one: _folders(one) for one in files}
    shared = {(one, file): _common(ours[one], theirs[file]) for one in micrographs for file in files}
    pairs: dict[M, N] = {}
    for one in micrographs:
        best = max(shared[one, file] for file in files)
        [file, *others] = [file for file in files if shared[one, file] == best]
        rivals = [other for other in micrographs if other != one and shared[other, file] >= best]
        if best and not others and not rivals:
            pairs[one] = file
    return pairs


def _folders(path: str | Path) -> tuple[str, ...]:
    """Return the names of the folders of a path, from the file upward."""
    return PurePosixPath(str(path).replace("\\", "/")).parts[-2::-1]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Count how many folders agree, from the file upward."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def _grouped(items: Iterable[N], key: _Key) -> dict[str, list[N]]:
    groups: dict[str, list[N]] = defaultdict(list)
    for item in items:
        groups[key(str(item))].append(item)
    return groups
