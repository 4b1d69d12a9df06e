"""Which file belongs to which micrograph, in spite of what programs do to names on the way.

cryoSPARC puts a number before a name, motion correction and pickers put words behind it, projects move, and zeros
in front of numbers get lost. The whole name counts first; what is left is compared without these, and where that
leaves a choice, nothing is chosen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from upicker.errors import InputError

PICTURES = (".mrc", ".mrcs", ".map", ".tif", ".tiff", ".eer", ".png", ".jpg", ".jpeg")
PACKED = (".gz", ".bz2")
_COORDINATES = (".csv", ".tsv", ".star", ".box", ".cbox", ".txt", ".json", ".cs")
# cryoSPARC's numbers have 17 to 21 digits; a date with its time has 14.
_UID = re.compile(r"^\d{17,21}_(?=.)")
_SUFFIX = re.compile(
    r"[_.-](?:patch_aligned|rigid_aligned|full_aligned|aligned|doseweighted|dose_weighted|non_dw|nodw|dws?|"
    r"fractions|eer|denoised|autopick|manualpick|autopicked|picks?|picked|particles|coords|labels|topaz|cryolo)$"
)
_LONGEST_SUFFIX = 16
# Not those of 1.05, which is another number than 1.5.
_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")
# So many pairs of one name are looked at, folder by folder; more are not told apart.
_MOST_PAIRS = 10_000

T = TypeVar("T", str, Path)


@dataclass(frozen=True)
class Matches(Generic[T]):
    """What belongs together.

    Attributes
    ----------
    pairs : dict
        Name -> candidate, each candidate once.
    unmatched_names : list of str
        Names without a candidate.
    unmatched_candidates : list
        Candidates without a name.
    ambiguous : dict
        Name -> the candidates that are as good as each other for it.
    """

    pairs: dict[str, T] = field(default_factory=dict)
    unmatched_names: list[str] = field(default_factory=list)
    unmatched_candidates: list[T] = field(default_factory=list)
    ambiguous: dict[str, list[T]] = field(default_factory=dict)

    def refuse_ambiguous(self, where: str | Path) -> None:
        """Refuse to guess.

        Raises
        ------
        InputError
            If a name may belong to several candidates, or a candidate to several names.
        """
        if not self.ambiguous:
            return
        candidates = next(iter(self.ambiguous.values()))
        rivals = [other for other, same in self.ambiguous.items() if set(same) & set(candidates)]
        meant = " or ".join(f"'{rival}'" for rival in rivals[:4])
        which = " or ".join(str(candidate) for candidate in candidates[:4])
        more = f" (and {len(self.ambiguous) - len(rivals)} more)" if len(self.ambiguous) > len(rivals) else ""
        raise InputError(
            where,
            f"names do not tell what belongs together: {meant} and {which}{more}",
            "Name the files as the micrographs, or leave out those that are not meant",
        )


def plain(path: str | Path) -> str:
    """Return a micrograph's name: the file's without folder and suffix, ``a.mrc.gz`` being `a`."""
    path = Path(path)
    return Path(path.stem).stem if path.suffix.lower() in PACKED and is_picture(path) else path.stem


def is_picture(path: str | Path) -> bool:
    """Tell from its suffix whether a file may be a micrograph."""
    path = Path(path)
    suffix = Path(path.stem).suffix if path.suffix.lower() in PACKED else path.suffix
    return suffix.lower() in PICTURES


def match(names: Sequence[str], candidates: Sequence[T]) -> Matches[T]:
    """Bring names and files together, each once.

    Compared are, one after the other, and only what is left each time:

    1. names without folder and suffix, as they are;
    2. without cryoSPARC's number in front and words of programs behind (``_patch_aligned_doseweighted``, ``_DW``,
       ``_rigid_aligned``, ``_EER``, ``_autopick`` ...), small and capital letters being the same;
    3. and without zeros in front of numbers.

    Where several are the same, those whose folders agree (from the name upward) belong together; if this does not
    tell, they are ambiguous.

    Parameters
    ----------
    names : sequence of str
        Names or paths, with or without suffix.
    candidates : sequence of str or Path
        Files, each once.

    Returns
    -------
    Matches
        See there. Equal names count once.
    """
    result: Matches[T] = Matches()
    left, free = list(dict.fromkeys(names)), list(dict.fromkeys(candidates))
    for key in (_bare, _core, _without_zeros):
        left, free = _round(left, free, key, result)
    result.unmatched_names.extend(left)
    result.unmatched_candidates.extend(free)
    return result


def _round(
    names: list[str], candidates: list[T], key: Callable[[str], Hashable], result: Matches[T]
) -> tuple[list[str], list[T]]:
    """Match by one key; return what is left."""
    by_name, by_candidate = _grouped(names, key), _grouped(candidates, key)
    done: set[object] = set()
    for value, same in by_name.items():
        options = by_candidate.get(value, [])
        if not options:
            continue
        pairs = {same[0]: options[0]} if len(same) == len(options) == 1 else _by_folder(same, options)
        taken = set(pairs.values())
        result.pairs.update(pairs)
        spare = [option for option in options if option not in taken]
        if spare:
            result.ambiguous.update({name: spare for name in same if name not in pairs})
        done.update(taken, pairs, spare if len(pairs) < len(same) else ())
    return (
        [name for name in names if name not in done and name not in result.ambiguous],
        [candidate for candidate in candidates if candidate not in done],
    )


def _by_folder(names: list[str], candidates: list[T]) -> dict[str, T]:
    """Pair those of equal names whose folders agree best, where it is one and the same seen from both sides."""
    if len(names) * len(candidates) > _MOST_PAIRS:
        return {}
    folders = {item: PurePosixPath(str(item).replace("\\", "/")).parts[-2::-1] for item in (*names, *candidates)}
    shared = {(name, option): _common(folders[name], folders[option]) for name in names for option in candidates}
    pairs = {}
    for name in names:
        best = max(shared[name, option] for option in candidates)
        [option, *others] = [option for option in candidates if shared[name, option] == best]
        rivals = [other for other in names if other != name and shared[other, option] >= best]
        if best and not others and not rivals:
            pairs[name] = option
    return pairs


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Count how many folders agree, from the file upward."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def _grouped(items: Iterable[T], key: Callable[[str], Hashable]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(str(item))].append(item)
    return groups


def _bare(text: str) -> str:
    """Return a name without its folder and the suffix of a picture or of coordinates."""
    name = text.replace("\\", "/").rsplit("/", 1)[-1]
    for suffixes in (PACKED, PICTURES + _COORDINATES):
        stem, dot, suffix = name.rpartition(".")
        if stem and dot + suffix.lower() in suffixes:
            name = stem
    return name


def _core(text: str) -> str:
    name = _UID.sub("", _bare(text)).lower()
    while found := _SUFFIX.search(name, max(1, len(name) - _LONGEST_SUFFIX)):
        name = name[: found.start()]
    return name


def _without_zeros(text: str) -> str:
    return _ZEROS.sub("", _core(text))
