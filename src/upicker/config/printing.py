"""All knobs for people: as a TOML file with help (``upicker config``), and as docs/config.md."""

from __future__ import annotations

import textwrap
from dataclasses import fields

import tomli_w

from upicker.config.config import Config
from upicker.config.knob import Knob, knobs_of

WIDTH = 120
_TOML = """\
# All knobs of UPicker, for --config. What stands here overrides --preset: delete what you do not change.
# Knobs in comments keep their default.
"""
_MARKDOWN = """\
# Knobs

All knobs of UPicker, by room. `--set ROOM.KNOB=VALUE` changes one, e.g. `--set train.batch=4`; `--config FILE` reads
many from a TOML file with one table per room. Defaults < `--preset` < `--config` < `--set` < a command's own options.
`upicker config > knobs.toml` writes such a file with all knobs and their help; `--preset paper` prints those of the
paper's network. Lengths in pixels are working pixels: one particle diameter spans `image.working_diameter_px` of them.

(Made by `make docs` from the declarations in `src/upicker/config/`.)
"""


def as_toml(config: Config) -> str:
    """Return a TOML file of all knobs that `upicker.config.read_changes` reads.

    Each has its help, and a comment with its default and what it takes. TOML has no None:
    where it is the default, the knob stands in a comment; elsewhere it is the text ``"none"``.
    """
    blocks = [_TOML]
    for room in fields(config):
        part = getattr(config, room.name)
        blocks.append(f"{_comment(_about(type(part)))}\n[{room.name}]\n")
        blocks += [_entry(knob, getattr(part, knob.name)) for knob in knobs_of(type(part)).values()]
    return "\n".join(blocks)


def as_markdown() -> str:
    """Return the page docs/config.md."""
    lines = [_MARKDOWN]
    default = Config()
    for room in fields(default):
        part = getattr(default, room.name)
        lines += [f"## {room.name}\n", f"{_about(type(part))}\n", "| knob | default | takes | |", "|---|---|---|---|"]
        for knob in knobs_of(type(part)).values():
            lines.append(f"| `{knob.name}` | {_words(knob.default)} | {knob.takes} | {_help(knob)} |")
        lines.append("")
    return "\n".join(lines)


def _entry(knob: Knob, value: object) -> str:
    """Return the lines of one knob."""
    state = "default" if value == knob.default else f"changed (default {_words(knob.default)})"
    hidden = "# " if value is None and knob.default is None else ""
    return f"{_comment(_help(knob))}\n{hidden}{knob.name} = {_literal(value)}  # {state}; takes {knob.takes}\n"


def _help(knob: Knob) -> str:
    return knob.rule.help + (f" None: {knob.rule.none}." if knob.optional else "")


def _about(room: type) -> str:
    """Return what a room is for."""
    return (room.__doc__ or "").splitlines()[0]


def _comment(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _words(value: object) -> str:
    return "none" if value is None else _literal(value).strip('"')


def _literal(value: object) -> str:
    """Write one value as TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(part) for part in value)}]"
    return tomli_w.dumps({"value": "none" if value is None else value}).removeprefix("value = ").rstrip()
