"""What a cluster is like: where its workers come from, and what each of them gets.

``--cluster`` takes ``local``, ``slurm``, the address of a running scheduler (``tls://host:8786``), a TOML file, or the
name of one in the user's configuration (``~/.config/upicker/NAME.toml``).
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from upicker.config.checking import Room, converted, require_known
from upicker.config.knob import knob, knobs_of
from upicker.errors import ConfigError, InputError

KINDS = ("local", "slurm", "running")
_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")
_MEMORY = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)


@dataclass(frozen=True)
class Site(Room):
    """A cluster; each job is one worker, which works on one file at a time."""

    kind: str = knob("slurm", "Where workers come from.", choices=KINDS)
    jobs: int = knob(4, "Workers.", low=1, high=10000)
    cores: int = knob(4, "Cores of each.", low=1, high=1024)
    gpus: int = knob(0, "GPUs of each.", low=0, high=1)
    memory: str = knob("8GB", "Memory of each, e.g. 8GB.")
    walltime: str = knob("4:00:00", "Longest time of a job, hours:minutes:seconds; a new one follows if work is left.")
    partition: str | None = knob(None, "SLURM's partition.", none="the default one")
    account: str | None = knob(None, "SLURM's account.", none="the user's default")
    directives: tuple[str, ...] = knob((), "More for the head of the job script, e.g. --constraint=a100.")
    prologue: tuple[str, ...] = knob((), "Lines of the job script before the worker, e.g. module load cuda.")
    python: str | None = knob(None, "Python on the nodes.", none="this one")
    interface: str | None = knob(None, "Network interface of scheduler and workers, e.g. ib0.", none="that of the host")
    folder: str | None = knob(
        None, "Folder that all nodes share, for certificates and logs.", none="the folder of the output"
    )
    address: str | None = knob(None, "Of a running scheduler, e.g. tls://head:8786.", none="one is started")
    ca: str | None = knob(None, "Certificate of the authority (PEM), for a running scheduler.", none="temporary ones")
    certificate: str | None = knob(None, "Own certificate (PEM).", none="temporary ones")
    key: str | None = knob(None, "Key of the own certificate (PEM).", none="temporary ones")
    bfloat16: bool | None = knob(
        None, "Compute the network in bfloat16 on all workers.", none="on GPUs, but not on CPUs: processors differ"
    )

    @property
    def seconds(self) -> int:
        """The longest time of a job."""
        return _seconds(self.walltime)


def read(text: str, jobs: int | None = None) -> Site:
    """Return the cluster that ``--cluster`` names.

    Parameters
    ----------
    text : str
        As given.
    jobs : int, optional
        Number of workers, instead of that of the file.

    Raises
    ------
    ConfigError
        If a file cannot be read, holds an unknown key or a value that the key does not take.
    InputError
        If there is no such file.
    """
    if text == "local":
        site = Site(kind=text, cores=1)
    elif text == "slurm":
        site = Site(kind=text)
    elif "://" in text:
        site = Site(kind="running", address=text)
    else:
        site = _file(_path(text))
    site = site if jobs is None else replace(site, jobs=jobs)
    where = text
    if site.kind == "running" and not site.address:
        raise ConfigError(where, "a running scheduler has no address", 'Write address = "tls://host:8786"')
    if site.kind != "running" and site.address:
        raise ConfigError(where, f"there is an address, but the kind is '{site.kind}'", 'Write kind = "running"')
    if not _MEMORY.fullmatch(site.memory):
        raise ConfigError(where, f"'memory' cannot be '{site.memory}'", "It takes e.g. 8GB")
    _seconds(site.walltime, where)
    return site


def _file(path: Path) -> Site:
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(path, "there is no such file", "Give local, slurm, an address, or a TOML file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(path, f"cannot be read as TOML ({error})", "docs/slurm.md has an example") from error
    knobs = {name: replace(one, room="") for name, one in knobs_of(Site).items()}
    for key in table:
        require_known(key, knobs, str(path), key)
    kind = {"kind": "running"} if "address" in table else {}
    return Site(**{**kind, **{key: converted(value, knobs[key], str(path)) for key, value in table.items()}})


def _path(text: str) -> Path:
    """Return a file, or that of this name in the user's configuration."""
    path = Path(text).expanduser()
    if path.suffix == ".toml" or path.is_file() or path.name != text:
        return path
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "upicker" / f"{text}.toml"


def _seconds(walltime: str, where: str = "walltime") -> int:
    match = _WALLTIME.fullmatch(walltime)
    seconds = 0
    if match:
        days, hours, minutes, rest = (int(one or 0) for one in match.groups())
        seconds = ((24 * days + hours) * 60 + minutes) * 60 + rest
    if not 60 <= seconds < math.inf:
        raise ConfigError(where, f"'walltime' cannot be '{walltime}'", "It takes hours:minutes:seconds, from 1 minute")
    return seconds
