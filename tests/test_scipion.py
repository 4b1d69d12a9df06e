"""The Scipion plugin: what can be checked without Scipion, and with it (where pyworkflow and pwem are installed)."""

import ast
import importlib.util
import json
import logging
import re
import stat
import sys
import tomllib
from pathlib import Path

import pytest

from upicker.cli.app import app

PLUGIN = Path(__file__).resolve().parents[1] / "plugins" / "scipion"
PACKAGE = PLUGIN / "scipion_upicker"


def command_module():
    spec = importlib.util.spec_from_file_location("scipion_upicker_command", PACKAGE / "command.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_distribution_says_what_it_is():
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    assert project["license"] == "BSD-3-Clause"
    assert (PLUGIN / "LICENSE").read_text() == (PLUGIN.parents[1] / "LICENSE").read_text()
    [(name, module)] = project["entry-points"]["pyworkflow.plugin"].items()
    # pyworkflow imports the entry's name, not its value.
    assert name == module == PACKAGE.name
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    assert "Plugin" in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert f'__version__ = "{project["version"]}"' in (PACKAGE / "__init__.py").read_text()


def test_menu_names_the_protocols():
    sources = [path.read_text() for path in (PACKAGE / "protocols").glob("*.py")]
    classes = {name for text in sources for name in re.findall(r"^class (\w+)", text, re.M)}
    menu = json.loads((PACKAGE / "protocols.conf").read_text().split("=", 1)[1])
    named = {item["value"] for group in menu[0]["children"] for item in group["children"]}
    assert named == classes == {"UPickerProtTrain", "UPickerProtPick"}


def test_command_lines_are_understood(tmp_path):
    """The plugin's words are parsed by the very command line, and arrive as what was meant."""
    module = command_module()
    listed, labels, weights = tmp_path / "m.txt", tmp_path / "labels", tmp_path / "w.safetensors"
    function, bound, _ = app.parse_args(module.train(listed, labels, weights, 190.5, 1.77, "old.safetensors"))
    assert function.__name__ == "finetune"
    given = bound.arguments
    assert given["mics"] == (str(listed),)
    assert given["labels"] == labels
    assert given["output"] == weights
    assert given["init"] == "old.safetensors"
    assert (given["diameter"].value, given["diameter"].unit, given["pixel_size"]) == (190.5, "A", 1.77)
    function, bound, _ = app.parse_args(module.pick(listed, "w.safetensors", tmp_path / "out", 1.77, 190.0, 0.25))
    assert function.__name__ == "pick"
    assert bound.arguments["threshold"] == 0.25
    assert bound.arguments["format"] == "csv"
    assert bound.arguments["skip_existing"] is True
    _, bound, _ = app.parse_args(module.pick(listed, "w.safetensors", tmp_path / "out", 1.77))
    assert "threshold" not in bound.arguments
    _, bound, _ = app.parse_args(module.pick(listed, None, tmp_path / "out", 1.77, 190.0))
    assert "model" not in bound.arguments


def test_tables_are_ours(tmp_path):
    """Labels that it writes are read by us, and picks that we write by it, in one frame."""
    pytest.importorskip("cv2")
    from upicker.io import coordinates
    from upicker.particles import Particles

    module = command_module()
    file = module.table(tmp_path, "Runs/1/extra/mic001.mrc")
    assert file == tmp_path / "mic001.csv"
    module.write_labels(file, [(17, 130), (250, 3)], 48 / 1.5)
    labels = coordinates.read(file)
    assert labels.xy.tolist() == [[17, 130], [250, 3]]
    assert labels.diameter_px.tolist() == [32, 32]
    coordinates.write(file, Particles.of([[12.25, 100.5]], 32, 0.625), "csv", 1.5, (110, 300))
    assert module.read_picks(file) == [(12.25, 100.5, 0.625)]
    assert module.read_picks(tmp_path / "none.csv") == []


STUB = """#!{python}
import sys
from pathlib import Path
words = sys.argv[1:]
listed = Path(words[1]).read_text().split()
target = Path(words[words.index("-o") + 1])
if words[0] == "finetune":
    labels = Path(words[words.index("--labels") + 1])
    target.write_text("".join((labels / (Path(name).stem + ".csv")).read_text() for name in listed))
else:
    target.mkdir()
    for number, name in enumerate(listed[:2]):
        rows = "x,y,diameter,score\\n10.25,20.5,24,0.5\\n" + "90,%d,24,0.75\\n" % number
        (target / (Path(name).stem + ".csv")).write_text(rows)
    sys.exit(3)
"""


@pytest.fixture
def domain(tmp_path, monkeypatch):
    """Scipion's register, with the plugin in it and a program in UPicker's place that writes known positions."""
    program = tmp_path / "upicker"
    program.write_text(STUB.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for name, value in {"SCIPION_HOME": tmp_path, "SCIPION_USER_DATA": tmp_path, "UPICKER_COMMAND": program}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.syspath_prepend(str(PLUGIN))
    (tmp_path / "config").mkdir()
    # It looks at the environment when it is imported.
    pyworkflow = pytest.importorskip("pyworkflow")
    from pwem import Domain

    pyworkflow.Config.setDomain("pwem")
    Domain.registerPlugin("scipion_upicker")
    return Domain


@pytest.fixture
def project(tmp_path, monkeypatch, domain):
    """A project with three micrographs in a folder beside it."""
    import mrcfile
    import numpy as np
    from pyworkflow.project import Manager
    from pyworkflow.protocol import HostConfig

    HostConfig.writeBasic(str(tmp_path / "config" / "hosts.conf"))
    made = Manager().createProject("trial")
    monkeypatch.chdir(made.path)
    (tmp_path / "mics").mkdir()
    for i in range(3):
        with mrcfile.new(tmp_path / "mics" / f"mic{i}.mrc") as file:
            file.set_data(np.random.default_rng(i).normal(size=(110, 150)).astype(np.float32))
    return made


def done(project, protocol):
    """Run a protocol in this process."""
    from pyworkflow.protocol import StepExecutor

    project.saveProtocol(protocol)
    protocol.makePathsAndClean()
    protocol.setHostConfig(project.getHostConfig("localhost"))
    protocol.setStepsExecutor(StepExecutor(protocol.getHostConfig()))
    protocol._log = logging.getLogger("trial")
    protocol.run()
    assert protocol.isFinished(), protocol.getErrorMessage()
    return protocol


def labelled(source):
    """Add positions on two of three micrographs to the protocol that imported them."""
    from pwem.objects import Coordinate

    labels = source._createSetOfCoordinates(source.outputMicrographs)
    labels.setBoxSize(36)
    for micrograph in [one.clone() for one in source.outputMicrographs][:2]:
        for x, y in ((17, 80), (130, 4)):
            one = Coordinate(x=x, y=y)
            one.setMicrograph(micrograph)
            labels.append(one)
    source._defineOutputs(outputCoordinates=labels)


@pytest.mark.filterwarnings("ignore")
def test_in_scipion(tmp_path, domain, project):
    from pwem.protocols import ProtImportMicrographs

    protocols = domain.getProtocols()
    where = {"filesPath": str(tmp_path / "mics"), "filesPattern": "*.mrc"}
    source = done(project, project.newProtocol(ProtImportMicrographs, samplingRate=2.0, voltage=300, **where))
    labelled(source)
    train = project.newProtocol(protocols["UPickerProtTrain"], diameter=48.0)
    train.inputCoordinates.set(source)
    train.inputCoordinates.setExtended("outputCoordinates")
    assert train.validate() == []
    weights = Path(done(project, train).outputWeights.getFileName())
    # Both labelled micrographs, and not the third.
    assert weights.read_text() == "x,y,diameter\n17,80,24.000\n130,4,24.000\n" * 2

    pick = project.newProtocol(protocols["UPickerProtPick"], diameter=48.0)
    pick.inputMicrographs.set(source)
    pick.inputMicrographs.setExtended("outputMicrographs")
    assert pick.validate()
    pick.inputWeights.set(train)
    pick.inputWeights.setExtended("outputWeights")
    assert pick.validate() == []
    found = done(project, pick).outputCoordinates
    rows = [(one.getX(), one.getY(), one.getMicName(), float(one._upickerScore)) for one in found]
    first = [(10, 20, "mic0.mrc", 0.5), (90, 0, "mic0.mrc", 0.75)]
    assert rows == [*first, (10, 20, "mic1.mrc", 0.5), (90, 1, "mic1.mrc", 0.75)]
    assert found.getBoxSize() == 36
