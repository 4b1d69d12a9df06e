"""What of a name is compared when files are paired with micrographs: less and less of it."""

from __future__ import annotations

import re

from upicker.io.formats import FORMATS
from upicker.io.names import COMPRESSED, SUFFIXES, is_micrograph_name, plain

_COORDINATES = tuple({f".{format.ending.rpartition('.')[2]}" for format in FORMATS})
# cryoSPARC's numbers have 17 to 21 digits; a date with its time has 14.
_UID = re.compile(r"^\d{17,21}_(?=.)")
# Shorter numbers of other programs; without a zero in front it may be a date.
NUMBER = re.compile(r"^0\d{2,15}_(?=[^\W\d_])")
_SUFFIX = re.compile(
    r"[_.-](?:patch_aligned|rigid_aligned|full_aligned|aligned|doseweighted|dose_weighted|non_dw|nodw|dws?|"
    r"fractions|eer|denoised|autopick|manualpick|autopicked|picks?|picked|particles|coords|labels|topaz|cryolo)$"
)
_LONGEST_SUFFIX = 16
# Not those of 1.05, which is another number than 1.5.
_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")


def last(text: str) -> str:
    """Return a name without its folder."""
    return text.replace("\\", "/").rsplit("/", 1)[-1]


def without(text: str, ending: str) -> str:
    """Return a name without a given ending, regardless of case."""
    name = bare(text)
    return name[: -len(ending)] if ending and name.lower().endswith(ending.lower()) else text


def named(text: str) -> str:
    """Return the name that the files of a micrograph have."""
    name = last(text)
    return plain(name) if is_micrograph_name(name) else name


def bare(text: str) -> str:
    """Return a name without its folder and the suffix of a micrograph or of coordinates."""
    name = last(text)
    for suffixes in (COMPRESSED, SUFFIXES + _COORDINATES):
        stem, dot, suffix = name.rpartition(".")
        if stem and dot + suffix.lower() in suffixes:
            name = stem
    return name


def unnumbered(text: str, lower: bool = True) -> str:
    """Return a bare name without cryoSPARC's number, in lower case."""
    name = _UID.sub("", bare(text))
    return name.lower() if lower else name


def core(text: str) -> str:
    """Return a bare name without further suffixes and the additions of programs, in lower case."""
    name = unnumbered(text)
    while (shorter := bare(name)) != name:
        name = shorter
    while found := _SUFFIX.search(name, max(1, len(name) - _LONGEST_SUFFIX)):
        name = name[: found.start()]
    return name


def numberless(text: str) -> str:
    """Return a bare name like `core`, also without a number that begins with 0 in front."""
    return core(NUMBER.sub("", bare(text)))


def without_zeros(text: str) -> str:
    """Return a name like `core`, also without leading zeros of numbers."""
    return _ZEROS.sub("", core(text))
