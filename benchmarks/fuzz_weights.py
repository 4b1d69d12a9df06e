"""Damaged weights files, for `fuzz.py`: mostly in the JSON of the header, where a stranger could do harm."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from upicker.config import Config
from upicker.model import weights

# As small as a network can be.
KNOBS = {
    "model.widths": "8,8,8,8,8", "model.dim": 32, "model.heads": 2, "model.points": 1, "model.feedforward": 1,
    "model.encoder_layers": 1, "model.decoder_layers": 1, "model.levels": 1, "model.query_density": 1,
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 7, 64, 4096, 10**6, 10**9, 2**63, 10**40, 1.5, 1e308, -1e308, float("nan"),
    float("inf"), -float("inf"), "", "x", "none", "nan", "108px", "1e999px", "resnet50", "9" * 400, "\ud800",
    "\x00\x1b[31m", "\u202e", [], {}, [[]], {"a": {}}, [1, 2, 3, 4, 5], [8] * 5, [8] * 500, "F64", "BF16", "I8",
    "F8_E4M3", "BOOL",
]  # fmt: skip
DEEP = 10_000
Tree = dict[str, Any]


def seeds(folder: Path) -> list[bytes]:
    """Return the content of a valid file."""
    config = Config().with_changes(KNOBS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = weights.build(config)
    header = weights.Header(config.to_tables(), "108px", "finetune", 0.4, 0.8, 0.8, 0.8, steps=9)
    path = folder / "a.safetensors"
    weights.save(path, model, header)
    return [path.read_bytes()]


def read(path: Path) -> list[Any]:
    """Read a file but for its numbers; returns nothing, as there are no positions."""
    weights.checked(path)
    return []


def mutated(random: np.random.Generator, contents: list[bytes]) -> bytes:
    """Return a damaged file."""
    content = contents[random.integers(len(contents))]
    size = struct.unpack("<Q", content[:8])[0]
    text, rest = content[8 : 8 + size], content[8 + size :]
    kind = random.random()
    if kind < 0.1:
        return _cut(random, content)
    if kind < 0.2:
        return struct.pack("<Q", _size(random, size)) + text + rest
    text = _noisy(random, text) if kind < 0.4 else _changed(random, json.loads(text))
    return struct.pack("<Q", len(text)) + text + rest


def _cut(random: np.random.Generator, content: bytes) -> bytes:
    """Return a part of a file, or one with some bytes of another."""
    a, b = sorted(int(v) for v in random.integers(0, len(content) + 1, 2))
    return (content[:a], content[:a] + content[b:], content[a:], random.bytes(a % 300))[random.integers(4)]


def _size(random: np.random.Generator, size: int) -> int:
    """Return another length of the header."""
    near = max(0, size + int(random.integers(-20, 20)))
    return (0, near, 2 * size, 2**20, 10**8, 2**31, 2**63, 2**64 - 1)[random.integers(8)]


def _noisy(random: np.random.Generator, text: bytes) -> bytes:
    """Return a header with some bytes replaced, removed or added."""
    for _ in range(int(random.geometric(0.4))):
        a = int(random.integers(0, len(text)))
        b = a + int(random.integers(0, 9))
        new = (
            b"",
            random.bytes(2),
            b'"',
            b"}",
            b"{" * 200,
            b"[" * DEEP,
            b"\\u0000",
            b"\xff",
            b"-",
            b"9" * 50,
            b"1e400",
        )
        text = text[:a] + new[random.integers(len(new))] + text[b:]
    return text


def _changed(random: np.random.Generator, tensors: Tree) -> bytes:
    """Return a header in whose tree something is replaced, removed, renamed or added."""
    about = json.loads(tensors["__metadata__"]["upicker"])
    # The header itself, its knobs, or the list of tensors.
    for _ in range(int(random.geometric(0.6))):
        place = random.random()
        config = about.get("config")
        rooms = [value for value in config.values() if isinstance(value, dict)] if isinstance(config, dict) else []
        if place < 0.3:
            _edit(random, about)
        elif place < 0.8 and rooms:
            room = config.get("model") if random.random() < 0.6 else rooms[random.integers(len(rooms))]
            _edit(random, room if isinstance(room, dict) else config)
        else:
            names = [name for name, value in tensors.items() if name != "__metadata__" and isinstance(value, dict)]
            _edit(random, tensors[names[random.integers(len(names))]] if names and random.random() < 0.7 else tensors)
    text = json.dumps(about)
    if random.random() < 0.05:
        text = text.replace(": null", ": " + "[" * DEEP + "]" * DEEP, 1)
    if isinstance(tensors.get("__metadata__"), dict):
        tensors["__metadata__"]["upicker"] = text
    return json.dumps(tensors).encode("utf-8", "replace")


def _edit(random: np.random.Generator, table: Tree) -> None:
    """Change one entry of a table."""
    if not table:
        table["x"] = 1
        return
    key = list(table)[random.integers(len(table))]
    value = copy.deepcopy(VALUES[random.integers(len(VALUES))])
    changes: list[Callable[[], object]] = [
        lambda: table.update({key: value}),
        lambda: table.update({key: value}),
        lambda: table.update({key: value}),
        lambda: table.pop(key),
        lambda: table.update({f"{key}x": table[key]}),
        lambda: table.update({f"{key}x": table.pop(key)}),
        lambda: table.update({key: [value, table[key]]}),
    ]
    if isinstance(table[key], list) and table[key]:
        at = int(random.integers(len(table[key])))
        changes += 3 * [lambda: table[key].__setitem__(at, value)]
    changes[random.integers(len(changes))]()
