"""Weights of one version of the package for another one: names of tensors, and the file's header.

Which tensor is which follows from the order in which a network makes its parameters: `parameters` lists them, and
`matched` brings two such lists together. A table by hand is only needed where that order has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from behaviour_steps import BACKBONE_KNOBS

# Fields of a header that describe the file, not the training.
OF_THE_FILE = ("version", "format", "mark", "fingerprint")
HEADER = "upicker"


class Parameter(NamedTuple):
    """One tensor of a network: its name, its shape, and a digest of the values that a seed gives it."""

    name: str
    shape: list[int]
    digest: str


def backbone_knob() -> str:
    """Return the name of the backbone's knob in the version at hand."""
    from upicker.config import Config

    room = Config().model
    return next(knob for knob in BACKBONE_KNOBS if hasattr(room, knob.partition(".")[2]))


def parameters(changes: dict[str, object]) -> list[Parameter]:
    """Return parameters and then buffers of a network, in their order, after a fixed seed.

    Parameters
    ----------
    changes : dict
        Knobs that differ from the default.
    """
    import torch

    from upicker.config import Config
    from upicker.model import weights

    torch.manual_seed(3)
    network = weights.build(Config().with_changes(changes))
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return [
        Parameter(name, list(tensor.shape), hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest())
        for name, tensor in tensors
    ]


def recorded(folder: Path) -> dict[str, list[Parameter]]:
    """Return the networks that a record holds."""
    content = json.loads((folder / "parameters.json").read_text())
    return {network: [Parameter(*one) for one in listed] for network, listed in content.items()}


def in_order(before: list[Parameter], after: list[Parameter]) -> bool:
    """Tell whether two networks have tensors of the same shapes in the same order."""
    return [one.shape for one in before] == [one.shape for one in after]


def matched(before: list[Parameter], after: list[Parameter], by_hand: dict[str, str]) -> dict[str, str]:
    """Return the name after for each name before.

    By their order; where that has changed, those of equal values (random ones are unique, and zeros or ones of the
    same shape come in the same order).

    Parameters
    ----------
    before, after : list of Parameter
        The same network.
    by_hand : dict
        Names before -> names after, which go first.
    """
    if in_order(before, after):
        names = {old.name: new.name for old, new in zip(before, after, strict=True)}
        return {**names, **{old: new for old, new in by_hand.items() if old in names}}
    same: dict[tuple, list[str]] = defaultdict(list)
    for new in after:
        if new.name not in by_hand.values():
            same[(*new.shape, new.digest)].append(new.name)
    names = {old: new for old, new in by_hand.items() if any(one.name == old for one in before)}
    for old in before:
        key = (*old.shape, old.digest)
        if old.name not in names and same[key]:
            names[old.name] = same[key].pop(0)
    return names


def all_names(before: Path, after: Path, by_hand: dict[str, str]) -> list[dict[str, str]]:
    """Return the names of each network that two records share."""
    old, new = recorded(before), recorded(after)
    return [matched(old[network], new[network], by_hand) for network in old if network in new]


def names_for(tensors: set[str], candidates: list[dict[str, str]]) -> dict[str, str] | None:
    """Return which of several tables of names is for a file of these tensors; None if none is."""
    return next((names for names in candidates if set(names) == tensors), None)


def flat(tables: dict, prefix: str = "") -> dict[str, object]:
    """Turn nested tables and lists into ``{"a.b.0": value}``."""
    content: dict[str, object] = {}
    for key, value in tables.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(i): one for i, one in enumerate(value)}
        content |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return content


def header(path: Path) -> dict:
    """Return the header of a weights file."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return json.loads((file.metadata() or {})[HEADER])


def tensors(path: Path) -> dict:
    """Return the tensors of a weights file as arrays."""
    from safetensors.numpy import load_file

    return load_file(path)


def renamed(knob: str, by_hand: dict[str, str]) -> str:
    """Return a knob's name after, of its name before."""
    known = {BACKBONE_KNOBS[0]: BACKBONE_KNOBS[1], **by_hand}
    return known.get(knob, knob)


def convert(old: Path, new: Path, like: Path, candidates: list[dict[str, str]], knobs: dict[str, str]) -> None:
    """Write weights of the version before as a file of the version after.

    Parameters
    ----------
    old, new : Path
        The file to read, and the one to write.
    like : Path
        A file that the version after wrote for a training of the same kind: its header is filled with the values
        of the old one.
    candidates : list of dict
        Names before -> names after, of several networks.
    knobs : dict
        Knobs that were renamed, besides the backbone's.
    """
    from safetensors.numpy import save_file

    content, known, pattern = tensors(old), header(old), header(like)
    names = names_for(set(content), candidates)
    if names is None:
        raise SystemExit(f"{old}: these tensors are of no network that was recorded")
    values = {renamed(knob, knobs): value for knob, value in flat(known["config"]).items()}
    config = {
        room: {knob: values.get(f"{room}.{knob}", value) for knob, value in table.items()}
        for room, table in pattern["config"].items()
    }
    kept = {key: known[key] for key in pattern if key in known and key not in OF_THE_FILE}
    filled = {**pattern, **kept, "config": config}
    filled |= {key: "" for key in ("mark", "fingerprint") if key in filled}  # no training of this version made it
    save_file({names[name]: value for name, value in content.items()}, new, {HEADER: json.dumps(filled)})
