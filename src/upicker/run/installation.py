"""What is installed: UPicker itself, the packages that it needs, its optional parts, and other programs."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import webbrowser
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from upicker import __version__
from upicker.run.doctor import BROKEN, MISSING, OK, WARNING, Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "upicker"
# Where a module is not called like its package.
MODULES = {"opencv-python-headless": "cv2"}
# Extras for users -> what they are for.
EXTRAS = {
    "tiff": "compressed TIFF and EER",
    "sim": "structures (PDB, mmCIF) in upicker simulate",
    "cluster": "--cluster",
    "hub": "--backbone-weights hub",
}
# What is looked for on PATH -> its name, and what it is for.
PROGRAMS = {
    "relion_refine": ("RELION", "upicker relion-job, which runs inside it"),
    "sbatch": ("SLURM", "--cluster slurm"),
}


def upicker() -> Iterator[Finding]:
    """Yield the version, with the commit where it is known."""
    folder = Path(__file__).parents[1]
    commit = _commit(folder)
    yield Finding("UPicker", OK, f"{__version__}{f' ({commit[:12]})' if commit else ''} in {folder}")


def _commit(folder: Path) -> str:
    """Return the commit of a checkout, or of what pip installed from a repository; empty if unknown."""
    checkout = folder.parents[1]
    if (checkout / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""
    try:
        origin = json.loads(metadata.distribution(NAME).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return ""
    return str(origin.get("vcs_info", {}).get("commit_id", ""))


def _requirements() -> dict[str, list[Requirement]]:
    """Return what the installed package requires, by its extras; those for everybody under an empty name."""
    from packaging.requirements import Requirement

    needed: dict[str, list[Requirement]] = {}
    for one in map(Requirement, metadata.requires(NAME) or []):
        # What everybody needs is marked by no extra, and so would be needed with any.
        extra = next((name for name in ("", *EXTRAS) if not one.marker or one.marker.evaluate({"extra": name})), None)
        if extra is not None:
            needed.setdefault(extra, []).append(one)
    return needed


def required() -> Iterator[Finding]:
    """Import each package that UPicker needs, and yield its version."""
    try:
        needed = _requirements()[""]
    except (metadata.PackageNotFoundError, KeyError):
        yield Finding("packages", WARNING, "UPicker is not installed, so what it needs is unknown", "pip install .")
        return
    for one in needed:
        yield _imported(one)


def _imported(one: Requirement) -> Finding:
    remedy = f"pip install '{one.name}{one.specifier}'"
    if find_spec(module_of(one.name)) is None:
        return Finding(one.name, BROKEN, "not installed", remedy)
    try:
        module = importlib.import_module(module_of(one.name))
    except Exception as error:  # an extension module may fail in any way
        again = f"pip install --force-reinstall '{one.name}{one.specifier}'"
        return Finding(one.name, BROKEN, f"cannot be imported ({type(error).__name__}: {error})", again)
    version = _version(one.name) or str(getattr(module, "__version__", "of unknown version"))
    if one.specifier.contains(version, prereleases=True) or version == "of unknown version":
        return Finding(one.name, OK, version)
    return Finding(one.name, BROKEN, f"{version}, but UPicker needs {one.specifier}", remedy)


def optional() -> Iterator[Finding]:
    """Yield the packages of each extra; they are looked for, not imported."""
    try:
        needed = _requirements()
    except metadata.PackageNotFoundError:
        return
    for extra, purpose in EXTRAS.items():
        for one in needed.get(extra, []):
            version = _version(one.name)
            if version is None or find_spec(module_of(one.name)) is None:
                remedy = f"For {purpose}: pip install '{NAME}[{extra}]'"
                yield Finding(one.name, MISSING, "not installed", remedy)
            elif not one.specifier.contains(version, prereleases=True):
                remedy = f"For {purpose}: pip install '{one.name}{one.specifier}'"
                yield Finding(one.name, WARNING, f"{version}, but UPicker needs {one.specifier}", remedy)
            else:
                yield Finding(one.name, OK, version)


def programs() -> Iterator[Finding]:
    """Yield the other programs that UPicker works with."""
    for program, (name, purpose) in PROGRAMS.items():
        path = shutil.which(program)
        if path:
            yield Finding(name, OK, path)
        else:
            yield Finding(name, MISSING, f"{program} is not on PATH", f"For {purpose}")
    try:
        webbrowser.get()
        yield Finding("browser", OK, "found")
    except webbrowser.Error:
        remedy = "upicker label and inspect print an address to open on your own computer"
        yield Finding("browser", MISSING, "none on this machine", remedy)


def module_of(package: str) -> str:
    """Return the module by which a package is imported."""
    return MODULES.get(package, package.replace("-", "_"))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
