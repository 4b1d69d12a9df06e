"""What is published: source distribution, description, citation; and PyTorch's build for machines without a GPU."""

import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from command_line import ROOT
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from upicker import __version__
from upicker.pick import shipped

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
absolute = runpy.run_path(str(ROOT / "packaging/readme.py"))["absolute"]


def test_the_source_distribution_has_the_model_and_no_pictures(tmp_path):
    path = Path(next(SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    assert path.stat().st_size <= 14e6
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
        description = file.extractfile(f"upicker-{__version__}/PKG-INFO").read().decode()  # pyright: ignore
    needed = {f"src/upicker/model/{name}.safetensors" for name in shipped.names()}
    # What its own wheel is built from, and what the checks of a packager need.
    needed |= {"pyproject.toml", "README.md", "LICENSE", "packaging/readme.py", "docs/upicker.1", "tests/conftest.py"}
    assert needed <= names
    assert not [name for name in names if name.endswith((".png", ".jpg")) and not name.startswith("src/")]
    _, _, text = description.partition("\n\n")
    assert text.startswith("# UPicker")
    assert not relative(text)


def relative(text: str) -> list[str]:
    """Return the targets of a page's links that need a file beside it."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("https:", "#"))]


def test_links_become_absolute_or_text():
    page = "![a\npicture](docs/a.png)\n\nSee [the list](docs/config.md), [here](#units) and [there](https://x.org/y)."
    assert absolute(page, "") == "\n\nSee the list, [here](#units) and [there](https://x.org/y)."
    found = absolute(page, "https://git.example/upicker/")
    assert "![a\npicture](https://git.example/upicker/raw/main/docs/a.png)" in found
    assert "[the list](https://git.example/upicker/blob/main/docs/config.md)" in found


def test_the_citation_is_that_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in text
    assert f"\nlicense: {PROJECT['license']}\n" in text
    assert f"doi: {PROJECT['urls']['Paper'].removeprefix('https://doi.org/')}\n" in text


def test_recipes_name_the_version_and_all_that_is_needed():
    recipe = (ROOT / "packaging/recipe.yaml").read_text(encoding="utf-8")
    assert f'version: "{__version__}"' in recipe
    # Names on conda-forge, where they are others.
    others = {"torch": "pytorch", "opencv-python-headless": "py-opencv", "matplotlib": "matplotlib-base"}
    for one in map(Requirement, PROJECT["dependencies"]):
        name = others.get(one.name, one.name)
        bounds = ",".join(sorted(map(str, one.specifier), reverse=True))
        assert re.search(rf"^ *- {name} {re.escape(bounds)}$", recipe, re.M), (name, bounds)


class Index:
    """A package index of made-up wheels, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def url(self) -> str:
        """What pip takes for it."""
        return self.folder.as_uri()

    def add(self, name: str, version: str, *requires: str) -> None:
        """Add an empty package."""
        files = self.folder / name.replace("_", "-")
        files.mkdir(parents=True, exist_ok=True)
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
        with zipfile.ZipFile(files / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", metadata)
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        links = (f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>' for path in files.glob("*.whl"))
        (files / "index.html").write_text("\n".join(links))


@pytest.fixture
def indexes(tmp_path) -> tuple[Index, Index]:
    """PyPI, whose torch brings CUDA and is the newest, and PyTorch's index of CPU builds."""
    pypi, cpu = Index(tmp_path / "pypi"), Index(tmp_path / "cpu")
    pinned = str(Requirement(pin()).specifier).removeprefix("==")
    for version in (pinned, "2.99.0"):
        pypi.add("torch", version, "nvidia_cuda")
    cpu.add("torch", f"{pinned}+cpu")
    pypi.add("nvidia_cuda", "1.0")
    pypi.add("upicker", __version__, next(one for one in PROJECT["dependencies"] if one.startswith("torch")))
    return pypi, cpu


def pin() -> str:
    lines = (ROOT / "constraints-cpu.txt").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    return line


def pip(words: list[str], environment: Path | None = None, report: Path | None = None) -> dict[str, str]:
    """Run pip without the user's settings; with a report, nothing is installed: return names and versions."""
    given = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    given |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
    target = ["--python", str(environment / "bin/python")] if environment else []
    more = ["--ignore-installed", "--dry-run", "--report", str(report)] if report else []
    command = [sys.executable, "-m", "pip", *target, "install", "--quiet", *more, *words]
    subprocess.run(command, check=True, env=given, stdout=subprocess.DEVNULL)
    found = json.loads(report.read_text())["install"] if report else []
    return {one["metadata"]["name"]: one["metadata"]["version"] for one in found}


def test_one_command_with_the_pin_takes_the_cpu_build(indexes, tmp_path):
    pypi, cpu = indexes
    words = ["--index-url", pypi.url, "upicker"]
    report = tmp_path / "report.json"
    assert "nvidia_cuda" in pip(words, report=report)
    constraints = ["-c", str(ROOT / "constraints-cpu.txt")]
    assert "nvidia_cuda" in pip([*words, *constraints], report=report), "the pin alone is not enough"
    found = pip([*words, *constraints, "--extra-index-url", cpu.url], report=report)
    assert "nvidia_cuda" not in found
    assert found["torch"].endswith("+cpu")


def test_the_cpu_build_stays_if_it_is_installed_first(indexes, tmp_path):
    pypi, cpu = indexes
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    pip(["--index-url", cpu.url, "torch"], tmp_path / "venv")
    pip(["--index-url", pypi.url, "upicker"], tmp_path / "venv")
    found = {path.name.partition("-")[0]: path.name for path in (tmp_path / "venv").glob("lib*/*/*/*.dist-info")}
    assert "+cpu" in found["torch"]
    assert "upicker" in found
    assert "nvidia_cuda" not in found


def test_users_are_told_the_index_of_cpu_builds():
    for file in ("README.md", "Makefile", "packaging/Dockerfile", "packaging/upicker.def"):
        assert CPU_INDEX in (ROOT / file).read_text(encoding="utf-8"), file
    assert f"pip install torch --index-url {CPU_INDEX}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_images_are_built_from_what_the_wheel_is_made_of(tmp_path):
    """The files that the images' recipes copy are enough to build the wheel."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    taken = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = re.findall(r"^ +(\S+) /source/\1$", (ROOT / "packaging/upicker.def").read_text(encoding="utf-8"), re.M)
    assert taken == set(copied)
    for name in taken:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    wheel = next(WheelBuilder(str(tmp_path)).build(directory=str(tmp_path / "dist"), versions=["standard"]))
    names = zipfile.ZipFile(wheel).namelist()
    assert f"upicker-{__version__}.data/data/share/man/man1/upicker.1" in names
    assert f"upicker/model/{shipped.DEFAULT}.safetensors" in names
