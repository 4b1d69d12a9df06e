"""``--fast`` and ``--accurate``: words for the number of views."""

from pathlib import Path

import pytest
from command_line import micrograph, upicker

from upicker.cli.options import views
from upicker.errors import ConfigError, WeightsError


@pytest.fixture
def commands(tmp_path, monkeypatch) -> dict[str, tuple[str, ...]]:
    """The command lines of a pick, in a folder with a micrograph and a list of it."""
    monkeypatch.chdir(tmp_path)
    micrograph(tmp_path / "mic.mrc")
    Path("mics.star").write_text("data_\n\nloop_\n_rlnMicrographName #1\nmic.mrc\n")
    return {
        "pick": ("pick", "mic.mrc", "--model", "m.dat", "-o", "out"),
        "relion-job": ("relion-job", "--in_mics", "mics.star", "--o", "job/", "--model", "m.dat"),
    }


@pytest.mark.parametrize("command", ["pick", "relion-job"])
@pytest.mark.parametrize(
    ("words", "asked"),
    [((), None), (("--fast",), 1), (("--accurate",), 8), (("--set", "pick.views=2"), "2"), (("--set", "x"), "no")],
)
def test_words_stand_for_a_number_of_views(capsys, monkeypatch, commands, command, words, asked):
    found = []

    def picker(path: Path, changes: dict[str, object]) -> None:
        found.append(changes.get("pick.views"))
        raise WeightsError(path, "is not there")

    monkeypatch.setattr("upicker.pick.picker.Picker", picker)
    code, _, _ = upicker(capsys, *commands[command], *words)
    assert (code, found) == ((2, []) if asked == "no" else (1, [asked]))


@pytest.mark.parametrize("command", ["pick", "relion-job"])
@pytest.mark.parametrize(
    "words", [("--fast", "--accurate"), ("--fast", "--set", "pick.views=4"), ("--accurate", "--set", " pick.views =8")]
)
def test_they_exclude_each_other_and_the_knob(capsys, commands, command, words):
    code, _, err = upicker(capsys, *commands[command], *words)
    assert code == 2
    assert f"as does {words[0]}" in err.replace("\n", " ")


def test_they_come_before_a_config_file(capsys, monkeypatch, commands):
    Path("knobs.toml").write_text("[pick]\nviews = 2\n")
    found = []

    def picker(path: Path, changes: dict[str, object]) -> None:
        found.append(changes["pick.views"])
        raise WeightsError(path, "is not there")

    monkeypatch.setattr("upicker.pick.picker.Picker", picker)
    upicker(capsys, *commands["pick"], "--config", "knobs.toml", "--fast")
    assert found == [1]


def test_other_knobs_are_free():
    assert views(True, False, ["pick.batch=2", "pick.views_=3"]) == 1
    with pytest.raises(ConfigError, match="Give one of them"):
        views(False, True, ["image.mask=false", "pick.views=8"])
