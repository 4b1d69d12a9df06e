"""Two files of the same name, compared by what they are; see `behaviour.py`."""

from __future__ import annotations

import csv
import io
import re
import tomllib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import behaviour_weights as weights
import numpy as np
from behaviour_intended import of_part

CLOSE = 1e-5
# Times and versions: keys, and text in files of a suffix. A stack's fingerprint depends on its micrograph's time.
FLEETING = ("*.time", "*.since_ns", "*.version", "*.seconds")
FLEETING_TEXT = {
    ".csg": re.compile(rb"^created: .*$", re.M),
    ".mrcs": re.compile(rb"(?<=\0)[0-9a-f]{16}(?= \d+ \d+ )"),
}
# The kind of score in a STAR file's comment; the criterion under the table of scores; the height of the strip below an
# overlay, pixels.
_SCORE_COMMENT = re.compile(rb"^(#.*); score: (?:probability|filter_response|correlation)$", re.M)
_CAPTION = re.compile(rb"^(?:(?:box )?IoU at least|centres? (?:distance )?at most half a diameter)[\w. ]*$", re.M)
_FOOTER_PX = 64
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


@dataclass
class Difference:
    """What a comparison found.

    Attributes
    ----------
    notes : list of str
        What differs and should not; empty: nothing.
    largest : float or None
        The largest difference of two numbers, where numbers were compared.
    reasons : list of str
        Of differences that were intended.
    """

    notes: list[str] = field(default_factory=list)
    largest: float | None = None
    reasons: list[str] = field(default_factory=list)

    def saw(self, difference: float) -> None:
        """Note a difference of two numbers."""
        self.largest = max(self.largest or 0.0, float(difference))

    def part(self, what: str, name: str, note: str) -> None:
        """Note a key or a column that differs, intended or not."""
        reason = of_part(what, name)
        if reason is None:
            self.notes.append(note)
        elif reason not in self.reasons:
            self.reasons.append(reason)


@dataclass(frozen=True)
class Names:
    """How things were called before and are called after: tensors of each network, and knobs."""

    tensors: list[dict[str, str]]
    knobs: dict[str, str]


def compare(what: str, before: Path, after: Path, names: Names) -> Difference:
    """Compare two files of one name by what they are."""
    if before.suffix == ".safetensors":
        return _weights(what, before, after, names)
    if before.suffix == ".toml":
        old, new = (tomllib.loads(path.read_text(encoding="utf-8")) for path in (before, after))
        return _keys(what, *(_renamed(weights.flat(tables), names) for tables in (old, new)))
    kinds: dict[str, Callable[[str, bytes, bytes], Difference]] = {".png": _pictures, ".html": _page}
    kind = _log if what.endswith(".log.csv") else kinds.get(before.suffix, _bytes)
    return kind(what, before.read_bytes(), after.read_bytes())


def _bytes(what: str, before: bytes, after: bytes) -> Difference:
    """Byte for byte, but for columns that were added on purpose, and for when it was written."""
    found = Difference()
    if before == after:
        return found
    fleeting = FLEETING_TEXT.get(Path(what).suffix)
    if fleeting:
        before, after = (fleeting.sub(b"", text, count=1) for text in (before, after))
    reason = of_part(what, "score comment")
    if reason and _SCORE_COMMENT.search(after) and not _SCORE_COMMENT.search(before):
        after = _SCORE_COMMENT.sub(rb"\1", after)
        found.reasons.append(reason)
    reason = of_part(what, "caption")
    if reason and _CAPTION.findall(before) != _CAPTION.findall(after):
        before, after = (_CAPTION.sub(b"", text) for text in (before, after))
        found.reasons.append(reason)
    if what.endswith((".csv", ".tsv")):
        before, after = _without_columns(what, before, after, found)
    if before == after:
        return found
    old, new = before.split(b"\n"), after.split(b"\n")
    line = next(i for i, (one, other) in enumerate(zip_longest(old, new)) if one != other)
    texts = [repr(text[line][:60]) if line < len(text) else "nothing" for text in (old, new)]
    found.notes.append(f"line {line + 1} of {len(old)}/{len(new)}: {texts[0]} became {texts[1]}")
    numbers = [_NUMBER.findall(text) for text in (before, after)]
    if b"\0" not in before and len(numbers[0]) == len(numbers[1]):
        for one, other in zip(*numbers, strict=True):
            found.saw(abs(float(one) - float(other)))
    return found


def _without_columns(what: str, before: bytes, after: bytes, found: Difference) -> tuple[bytes, bytes]:
    """Return tables of text without the columns that only the newer one has, on purpose."""
    mark = b"\t" if what.endswith(".tsv") else b","
    old, new = (text.split(b"\n") for text in (before, after))
    had, has = old[0].strip().split(mark), new[0].strip().split(mark)
    added = [i for i, name in enumerate(has) if name not in had and of_part(what, name.decode(errors="replace"))]
    if not added:
        return before, after
    found.reasons += sorted({of_part(what, has[i].decode()) or "" for i in added})
    ending = b"\r" if new[0].endswith(b"\r") else b""

    def kept(line: bytes) -> bytes:
        cells = line.rstrip(b"\r").split(mark)
        return mark.join(cell for i, cell in enumerate(cells) if i not in added) + ending

    return before, b"\n".join(kept(line) if line else line for line in new)


def _log(what: str, before: bytes, after: bytes) -> Difference:
    """A training's log: the same rows, numbers within 1e-5, but for the time that it took."""
    found = Difference(largest=0.0)
    old, new = (list(csv.DictReader(io.StringIO(text.decode()))) for text in (before, after))
    if len(old) != len(new):
        found.notes.append(f"{len(old)} rows became {len(new)}")
    columns = [set(rows[0]) if rows else set() for rows in (old, new)]
    for column in columns[0] ^ columns[1]:
        found.part(what, column, f"column {column} is in one of them only")
    for row, (one, other) in enumerate(zip(old, new, strict=False)):
        for column in sorted(columns[0] & columns[1] - {"seconds"}):
            a, b = one[column], other[column]
            try:
                difference = abs(float(a) - float(b))
            except ValueError:
                difference = 0.0 if a == b else float("inf")
            found.saw(difference if np.isfinite(difference) else 0.0)
            if not difference <= CLOSE * max(1.0, abs(float(a or 0)) if _is_number(a) else 1.0):
                found.part(what, column, f"row {row + 1}, {column}: {a} became {b}")
    return found


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text.encode()))


def _weights(what: str, before: Path, after: Path, names: Names) -> Difference:
    """A weights file: tensors within 1e-5 under their new names, and the header but for renamed knobs."""
    old, new = weights.tensors(before), weights.tensors(after)
    table = weights.names_for(set(old), names.tensors)
    if table is None:
        return Difference([f"its {len(old)} tensors are of no network whose parameters are recorded"])
    headers = [weights.header(path) for path in (before, after)]
    keys = [weights.flat({key: v for key, v in one.items() if key not in weights.OF_THE_FILE}) for one in headers]
    found = _keys(what, *(_renamed(some, names) for some in keys))
    missing = [name for name in table.values() if name not in new] + sorted(set(new) - set(table.values()))
    if missing:
        found.notes.append(f"{len(missing)} tensors have no partner, e.g. {missing[0]}")
    for name, tensor in old.items():
        other = new.get(table[name])
        if other is None:
            continue
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            found.notes.append(f"{name} is {tensor.dtype}{tensor.shape}, {table[name]} {other.dtype}{other.shape}")
            continue
        difference = float(np.abs(tensor.astype(float) - other).max(initial=0.0))
        found.saw(difference)
        if not difference <= CLOSE:
            found.notes.append(f"{name} differs by {difference:.2g}")
    return found


def _renamed(keys: dict[str, object], names: Names) -> dict[str, object]:
    """Give knobs their newer names, also those of the config that a weights file's header holds."""
    inner = "config."
    return {
        inner + weights.renamed(key.removeprefix(inner), names.knobs)
        if key.startswith(inner)
        else weights.renamed(key, names.knobs): value
        for key, value in keys.items()
    }


def _keys(what: str, before: dict[str, object], after: dict[str, object]) -> Difference:
    """Values of the same names, but for times and versions."""
    found = Difference()
    for key in [*before, *(key for key in after if key not in before)]:
        if any(key == one[2:] or key.endswith(one[1:]) for one in FLEETING):
            continue
        old, new = before.get(key, "nothing"), after.get(key, "nothing")
        if repr(old) != repr(new):
            found.part(what, key, f"{key}: {str(old)[:40]} became {str(new)[:40]}")
        if isinstance(old, float) and isinstance(new, float) and np.isfinite(old - new):
            found.saw(abs(old - new))
    return found


def _pictures(what: str, before: bytes, after: bytes) -> Difference:
    """Pictures by their pixels."""
    from PIL import Image

    found = Difference()
    if before == after:
        return found
    with Image.open(io.BytesIO(before)) as one, Image.open(io.BytesIO(after)) as other:
        old, new = (np.asarray(picture.convert("RGBA"), float) for picture in (one, other))
    if old.shape != new.shape:
        found.notes.append(f"{old.shape[1]} x {old.shape[0]} pixels became {new.shape[1]} x {new.shape[0]}")
        return found
    reason = of_part(what, "footer")
    if reason and (old[-_FOOTER_PX:] != new[-_FOOTER_PX:]).any():
        old, new = old[:-_FOOTER_PX], new[:-_FOOTER_PX]
        found.reasons.append(reason)
    if (old != new).any():
        found.saw(np.abs(old - new).max())
        found.notes.append(f"{(old != new).any(-1).mean():.2%} of the pixels differ")
    return found


def _page(what: str, before: bytes, after: bytes) -> Difference:
    """A report: its pictures, and the numbers that stand in its text, without the words between them."""
    found = Difference()
    pages = [text.decode() for text in (before, after)]
    pictures = [re.findall(r"data:image/\w+;base64,([^\"')]+)", page) for page in pages]
    if len(pictures[0]) != len(pictures[1]):
        found.part(what, "pictures", f"{len(pictures[0])} pictures became {len(pictures[1])}")
    for i, (one, other) in enumerate(zip(*pictures, strict=False)):
        inner = _pictures(what, b64decode(one), b64decode(other))
        if inner.largest is not None:
            found.saw(inner.largest)
        for note in inner.notes:
            found.part(what, "pictures", f"picture {i + 1}: {note}")
    numbers = [_numbers(page) for page in pages]
    if numbers[0] != numbers[1]:
        i = next(i for i, pair in enumerate(zip_longest(*numbers)) if pair[0] != pair[1])
        texts = [" ".join(some[i : i + 4]) for some in numbers]
        found.part(what, "numbers", f"number {i + 1} in the text: {texts[0]} ... became {texts[1]} ...")
    return found


def _numbers(page: str) -> list[str]:
    text = re.sub(r"<style.*?</style>|<script.*?</script>|data:image[^\"')]*|<[^>]*>", " ", page, flags=re.S)
    text = re.sub(r"UPicker \d[\w.]*|\d+ \w+ 20\d\d, \d+:\d+|20\d\d-\S+|\S*/\S+", " ", text)
    return re.findall(r"\d[\d,.]*", text)
