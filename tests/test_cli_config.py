"""``upicker config``: what it prints is taken back."""

from pathlib import Path

import pytest
from command_line import upicker

from upicker.config import Config, preset, read_changes
from upicker.config.printing import as_markdown


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_preset_file_and_settings_are_merged_and_taken_back(capsys):
    Path("own.toml").write_text("[train]\nseed = 5\nbatch = 7\n")
    asked = ("--preset", "paper", "--config", "own.toml", "--set", "train.batch=3", "--set", "pick.nms_iou=none")
    code, out, err = upicker(capsys, "config", *asked)
    assert (code, err) == (0, "")
    Path("knobs.toml").write_text(out)
    changes = {"train.seed": 5, "train.batch": 3, "pick.nms_iou": None}
    assert Config().with_changes(read_changes(Path("knobs.toml"))) == preset("paper").with_changes(changes)
    code, again, _ = upicker(capsys, "config", "--config", "knobs.toml")
    assert (code, again) == (0, out)


def test_the_page_is_printed(capsys):
    assert upicker(capsys, "config", "--markdown") == (0, as_markdown(), "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--preset", "papre"), "The nearest is 'paper'"),
        (("--set", "train.bacth=3"), "The nearest is 'train.batch'"),
        (("--set", "image.particles=grey"), "It takes dark or bright"),
        (("--set", "train.batch"), "expected ROOM.KNOB=VALUE"),
        (("--config", "none.toml"), "cannot be read"),
    ],
)
def test_what_is_wrong_is_a_usage_error(capsys, arguments, says):
    code, out, err = upicker(capsys, "config", *arguments)
    assert (code, out) == (2, "")
    assert says in err
