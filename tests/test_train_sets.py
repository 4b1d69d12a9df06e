"""The file of a training over many sets: what it says, and what it is refused for."""

from dataclasses import fields
from pathlib import Path

import pytest
from command_line import ROOT, micrograph

from upicker.errors import ConfigError, InputError, UPickerError
from upicker.io import coordinates
from upicker.particles import Particles
from upicker.simulate.specimens.specimen import BUILT_IN
from upicker.simulate.tiles import Variety
from upicker.train.sets import VALIDATE_EVERY, read
from upicker.units import Length


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two micrographs with labels, and two files that pass for structures."""
    for number in range(2):
        micrograph(tmp_path / "mics" / f"m{number}.mrc", number)
        coordinates.write(tmp_path / "labels" / f"m{number}.csv", Particles.of([[50.0, 40.0]], 24.0), "csv")
    (tmp_path / "structures").mkdir()
    for name in ("1abc.mrc.gz", "2xyz.pdb"):
        (tmp_path / "structures" / name).write_bytes(b"")
    return tmp_path


def of(folder: Path, text: str) -> Path:
    path = folder / "SETS.toml"
    path.write_text(text)
    return path


SET = '[[set]]\nname = "a"\nmicrographs = "mics/*.mrc"\nlabels = "labels"\n'


def test_all_that_the_file_names_lies_beside_it(folder, monkeypatch):
    monkeypatch.chdir("/")
    text = f"""
        steps = 70
        seed = 5
        [simulated]
        specimens = ["barrel", "structures/*", "4v7r"]
        exclude = ["2xyz"]
        share = 0.25
        refresh = 12
        dose_e_A2 = [2, 9]
        broken = 0.5
        {SET}
        diameter = "48A"
        pixel_size = "2A"
        weight = 3
        [[set]]
        name = "b"
        micrographs = ["mics/m0.mrc"]
        diameter = "24px"
        [[check]]
        name = "c"
        micrographs = "mics"
        labels = "labels"
        [train]
        batch = 7
    """
    found = read(of(folder, text))
    assert found.plan is not None
    assert found.plan.specimens == ("barrel", str(folder / "structures" / "1abc.mrc.gz"), "4v7r")
    assert (found.plan.refresh, found.plan.seed, found.plan.variety.dose_e_A2) == (12, 5, (2.0, 9.0))
    assert found.plan.variety.broken == 0.5
    assert found.settings.steps == 70
    assert found.changes == {"train.seed": 5, "train.batch": 7, "train.validate_every": VALIDATE_EVERY}
    assert found.share == 0.25
    assert found.weights == pytest.approx([0.75 * 3 / 4, 0.75 / 4])
    first, second = found.sets
    assert [path.name for path in first.paths] == ["m0.mrc", "m1.mrc"]
    assert first.labels == folder / "labels"
    assert first.diameter == Length(48, "A")
    assert first.reading.size_of(first.paths[0]) == 2
    assert (second.labels, second.diameter) == (None, Length(24, "px"))
    assert [one.name for one in found.checks] == ["c"]


def test_paths_may_be_absolute_and_the_name_of_the_folder_is_no_pattern(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    other = folder / "run[1]"
    other.mkdir()
    for name in ("mics", "labels", "structures"):
        (other / name).symlink_to(folder / name)
    for place in (f"{folder}/", "~/", ""):
        text = SET.replace('"mics', f'"{place}mics').replace('"labels"', f'"{place}labels"')
        found = read(of(other, f'[simulated]\nspecimens = ["{place}structures/*.gz"]\n{text}'))
        assert found.plan is not None
        assert [Path(name).name for name in found.plan.specimens] == ["1abc.mrc.gz"], place
        assert [path.name for path in found.sets[0].paths] == ["m0.mrc", "m1.mrc"], place
        assert found.sets[0].labels is not None


def test_a_table_of_simulation_suffices(folder):
    found = read(of(folder, "[simulated]\n"))
    assert found.share == 1
    assert found.plan is not None
    assert found.plan.specimens == BUILT_IN
    assert (found.sets, found.checks, found.weights) == ([], [], [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stepps = 3\n[simulated]", "unknown 'stepps'. The nearest is 'steps'"),
        ("[simulatd]", "unknown 'simulatd'. The nearest is 'simulated'"),
        ("[simulated]\ndose = [1, 2]", "unknown 'simulated.dose'. The nearest is 'simulated.dose_e_A2'"),
        ("[simulated]\ndose_e_A2 = [3, 2]", r"'simulated.dose_e_A2' cannot be \[3, 2\]"),
        ("[simulated]\ndose_e_A2 = [0, 2]", r"'simulated.dose_e_A2' cannot be \[0, 2\].*above 0"),
        ("[simulated]\nsize_A = [-300, 100]", "'simulated.size_A' cannot be"),
        ("[simulated]\nvoltages_kV = [300, 0]", "'simulated.voltages_kV' cannot be"),
        ("[simulated]\nsmooth_px = [-3, -1]", "'simulated.smooth_px' cannot be .*of at least 0"),
        ("[simulated]\nbroken = 2", "'simulated.broken' cannot be 2. It takes a number from 0 to 1"),
        ("[simulated]\nvoltages_kV = []", "'simulated.voltages_kV' cannot be"),
        ('[simulated]\nspecimens = "barell"', "there is no specimen 'barell'"),
        ('[simulated]\nspecimens = "structures/*.cif"', r"there is no specimen 'structures/\*.cif'"),
        ('[simulated]\nexclude = "barell"', "no specimen is called 'barell'"),
        ('[simulated]\nspecimens = "barrel"\nexclude = "b*"', "all excluded"),
        ('[[set]]\nname = "a"\nlables = "x"', "unknown 'set.lables'. The nearest is 'set.labels'"),
        ('[[set]]\nname = "a"', "a has no 'micrographs'"),
        ('[[set]]\nmicrographs = "mics"\nlabels = "labels"', "has no 'name'"),
        ('[[set]]\nname = "a"\nmicrographs = "mics"', "a has no 'diameter'"),
        ('[[check]]\nname = "a"\nmicrographs = "mics"\ndiameter = "3px"', "a has no 'labels'"),
        (SET.replace('"labels"', '"lables"'), "no such folder or file of labels"),
        (SET + 'pixel_size = "3px"', "pixel_size 3px is not in Angstrom"),
        (SET + SET, r"two \[\[set\]\] are called 'a'"),
        (SET + "weight = 0", "'set.weight' cannot be 0"),
        (SET + "weight = inf", "'set.weight' cannot be inf"),
        (SET + "given = []", r"a: given is empty"),
        (SET + 'diameter = "72 parsecs"', r"SETS.toml: \[\[set\]\] a: diameter '72 parsecs' is no length"),
        (SET + 'pixel_size = "0A"', r"SETS.toml: \[\[set\]\] a: pixel_size '0A' is no length"),
        ("[set]\nname = 'a'", r"'set' is no list of tables. Write \[\[set\]\] above each"),
        ("simulated = 3", "'simulated' is no table"),
        ("[simulated]\n[train]\nsteps = 3", "unknown 'train.steps'"),
        ("[simulated]\n[train]\nseed = 3", "Write 'seed = N' above all tables"),
        ("steps = 0\n[simulated]", "'steps' cannot be 0. It takes a whole number of at least 1"),
        ("steps = 5", "there is nothing to learn from"),
        (f"{SET}[simulated]\nshare = 1", "no set is learned from"),
        ("[simulated]\nshare = 0", "there is nothing to learn from"),
        ("steps", "cannot be read as TOML"),
    ],
)
def test_what_a_file_is_refused_for(folder, text, says):
    with pytest.raises((ConfigError, InputError), match=says):
        read(of(folder, text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UPickerError, match="cannot be read as TOML"):
        read(tmp_path / "none.toml")


def test_the_document_lists_all_that_varies_with_its_default():
    text = (ROOT / "docs" / "general-model.md").read_text()
    for one in fields(Variety):
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        assert f"| `{one.name}` | {default} |" in text
