"""What UPicker needs, looked at: the installation, the machine, the general model, other programs, and a self-test.

What may be missing or broken is only imported where it is looked at.
"""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from upicker.errors import UPickerError
from upicker.run import machine

# States of a finding: as it should be; optional, and not there; worth a look; UPicker cannot work like this.
OK, MISSING, WARNING, BROKEN = "ok", "missing", "warning", "broken"
# Less room for temporary files is told.
LITTLE_BYTES = 2**30
_PROBE = bytes(range(256)) * 256
_GiB = 2**30


@dataclass(frozen=True)
class Finding:
    """What was found in one place.

    Attributes
    ----------
    what : str
        The place.
    state : str
        `OK`, `MISSING`, `WARNING` or `BROKEN`.
    found : str
        What is there.
    remedy : str
        What to do about it; empty: nothing.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


def examine(self_test: bool = True) -> Iterator[Finding]:
    """Yield what is found, each as soon as it is known; the slowest comes last.

    A check that fails in a way nobody thought of is a finding, too.

    Parameters
    ----------
    self_test : bool
        Whether to simulate a micrograph, pick it and score the picks at the end.
    """
    from upicker.run import installation
    from upicker.run.self_test import tested

    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("UPicker", installation.upicker),
        ("system", _system),
        ("locale", _encoding),
        ("memory", _memory),
        ("temporary files", _temporary),
        ("packages", installation.required),
        ("processor", _processor),
        ("GPU", _gpus),
        ("general model", _general_model),
        ("optional parts", installation.optional),
        ("programs", installation.programs),
    ]
    if self_test:
        checks.append(("self-test", tested))
    for what, check in checks:
        try:
            yield from check()
        except UPickerError as error:
            yield Finding(what, BROKEN, f"{error.where}: {error.found}", error.remedy)
        except Exception as error:  # whatever it is, the other checks are wanted
            yield Finding(what, BROKEN, f"{type(error).__name__}: {error}", "Mend what it says, or report it as a bug")


def _system() -> Iterator[Finding]:
    from upicker.run.allocator import keep_freed_memory

    yield Finding("Python", OK, f"{platform.python_version()} at {sys.executable}")
    yield Finding("system", OK, platform.platform())
    if keep_freed_memory():
        yield Finding("memory allocator", OK, " ".join(platform.libc_ver()))
    else:
        yield Finding("memory allocator", OK, "not glibc's: picking takes longer")


def _encoding() -> Iterator[Finding]:
    names = {"files": sys.getfilesystemencoding(), "text": locale.getpreferredencoding(False)}
    found = ", ".join(f"{what} {name}" for what, name in names.items())
    if all(name.replace("-", "").lower() == "utf8" for name in names.values()):
        yield Finding("locale", OK, found)
    else:
        remedy = "Set PYTHONUTF8=1, or LANG to C.UTF-8; else names with other letters than English ones may fail"
        yield Finding("locale", WARNING, found, remedy)


def _memory() -> Iterator[Finding]:
    allowed = machine.memory_bytes()
    found = f"{allowed / _GiB:.1f} GiB may be used"
    if allowed < machine.PROCESS_BYTES:
        remedy = f"Large micrographs need {machine.PROCESS_BYTES / _GiB:.0f} GiB: ask the scheduler for more"
        yield Finding("memory", WARNING, found, remedy)
    else:
        yield Finding("memory", OK, found)


def _temporary() -> Iterator[Finding]:
    """Write a file where temporary files go, as outputs are written, and read it again."""
    from upicker.io.atomic import replacing

    remedy = "Set TMPDIR to a folder with room that you may write to"
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as error:
        yield Finding("temporary files", BROKEN, str(error.strerror or error), remedy)
        return
    path = folder / f"upicker-doctor-{uuid4().hex}"
    try:
        with replacing(path) as part:
            part.write_bytes(_PROBE)
        same = path.read_bytes() == _PROBE
        free = shutil.disk_usage(folder).free
    except (UPickerError, OSError) as error:
        yield Finding("temporary files", BROKEN, str(getattr(error, "found", error)) + f" in {folder}", remedy)
        return
    finally:
        with suppress(OSError):
            path.unlink()
    found = f"{folder}, {free / _GiB:.1f} GiB free"
    asked = os.environ.get("TMPDIR")
    if not same:
        yield Finding("temporary files", BROKEN, f"{folder}: a file is not read as it was written", remedy)
    elif asked and Path(asked).absolute() != folder.absolute():
        yield Finding("temporary files", WARNING, f"{found}: TMPDIR is {asked}, which cannot be used", remedy)
    elif free < LITTLE_BYTES:
        yield Finding("temporary files", WARNING, found, remedy)
    else:
        yield Finding("temporary files", OK, found)


def _processor() -> Iterator[Finding]:
    from upicker.pick.network import computing

    name, flags = _described_processor()
    told = ", ".join(word for word in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if word in flags)
    kind = "bfloat16" if computing().cpu_bfloat16 else "float32"
    found = f"{name}{f' ({told})' if told else ''}: the network computes in {kind}"
    if flags and platform.machine() in ("x86_64", "AMD64") and "avx2" not in flags:
        yield Finding("processor", WARNING, found, "Without AVX2 picking is several times slower: take another machine")
    else:
        yield Finding("processor", OK, found)
    yield _cores()


def _cores() -> Finding:
    allowed, there = machine.cores(), os.cpu_count() or 1
    found = f"{allowed} of {there} may be used"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) > allowed:
        remedy = f"Set it to {allowed} or less, or unset it: threads that wait for each other slow everything down"
        return Finding("cores", WARNING, f"{found}, but OMP_NUM_THREADS is {threads}", remedy)
    return Finding("cores", OK, found + (f", OMP_NUM_THREADS is {threads}" if threads else ""))


def _described_processor() -> tuple[str, set[str]]:
    """Return the processor's name, and its features as far as Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = values.get("model name") or platform.processor() or platform.machine()
    return name, set((values.get("flags") or values.get("Features") or "").split())


def _gpus() -> Iterator[Finding]:
    from upicker.pick.network import computing

    found = computing()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    told = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is '{visible}'"
    if found.gpus:
        yield Finding("GPU", OK, f"{'; '.join(found.gpus)} ({found.build}){told}")
    elif shutil.which("nvidia-smi") and visible != "":
        remedy = (
            "Install a build of PyTorch for CUDA (pytorch.org tells which)"
            if found.build == "CPU"
            else "Look at nvidia-smi: the driver may be too old for this CUDA, or the scheduler gave no GPU"
        )
        yield Finding("GPU", WARNING, f"PyTorch's {found.build} build uses none, but nvidia-smi is there{told}", remedy)
    else:
        remedy = "Picking and fine-tuning need none; --preset paper does"
        yield Finding("GPU", MISSING, f"none that PyTorch's {found.build} build can use{told}", remedy)


def _general_model() -> Iterator[Finding]:
    from upicker.pick import shipped
    from upicker.pick.network import verified

    try:
        path = shipped.path_of(shipped.DEFAULT)
        sha256 = verified(path)
    except UPickerError as error:
        remedy = "Install UPicker again: pip install --force-reinstall --no-deps"
        yield Finding("general model", BROKEN, f"{error.where}: {error.found}", remedy)
        return
    yield Finding("general model", OK, f"{path.stem}, {path.stat().st_size / 2**20:.1f} MiB, SHA-256 {sha256[:8]}")
