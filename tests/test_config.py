"""Knobs: names, kinds, precedence, and the way through a file and back."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upicker.config import PRESETS, Config, ImageConfig, flatten, preset, read_changes
from upicker.config.knob import knobs_of, room_name
from upicker.config.printing import as_markdown, as_toml
from upicker.errors import ConfigError

KNOBS = [knob for room in fields(Config) for knob in knobs_of(room.default_factory).values()]


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("trian.batch", "'train'"),
        ("train.bacth", "'train.batch'"),
        ("pick.treshold", "'pick.threshold'"),
        ("modell.dim", "'model'"),
        ("train", "'train."),
        ("", "'"),
        ("image.clip_sigma.x", "'image.clip_sigma'"),
    ],
)
def test_an_unknown_room_or_knob_names_the_nearest(key, nearest):
    with pytest.raises(ConfigError) as caught:
        Config().with_changes({key: 1}, "somewhere")
    assert caught.value.where == "somewhere"
    assert f"'{key}'" in caught.value.found
    assert f"The nearest is {nearest}" in caught.value.remedy


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("train.batch", "3", 3),
        ("train.batch", "1e1", 10),
        ("train.batch", 4.0, 4),
        ("train.learning_rate", "1e-3", 1e-3),
        ("train.learning_rate", 1, 1.0),
        ("augment.online", "no", False),
        ("augment.online", "True", True),
        ("augment.online", 0, False),
        ("train.bfloat16", "none", None),
        ("train.bfloat16", "yes", True),
        ("propose.top_k", 50, "50"),
        ("propose.top_k", "all", "all"),
        ("propose.top_k", "All", "all"),
        ("train.device", "cuda:1", "cuda:1"),
        ("propose.range_penalty", "inf", float("inf")),
        ("propose.threshold", "None", None),
        ("propose.threshold", ".5", 0.5),
        ("pick.nms_iou", None, None),
        ("model.widths", "8,8,16,16,16", (8, 8, 16, 16, 16)),
        ("model.widths", [8, 8, 16, 16, 16], (8, 8, 16, 16, 16)),
        ("model.backbone", "resnet50", "resnet50"),
    ],
)
def test_values_become_the_kind_of_their_knob(key, given, value):
    room, knob = key.split(".")
    found = getattr(getattr(Config().with_changes({key: given}), room), knob)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("train.batch", "2.5"),
        ("train.batch", "two"),
        ("train.batch", "inf"),
        ("train.batch", "nan"),
        ("train.batch", None),
        ("train.batch", True),
        ("train.batch", [2]),
        ("train.learning_rate", "nan"),
        ("train.learning_rate", "fast"),
        ("train.learning_rate", "none"),
        ("augment.online", "perhaps"),
        ("augment.online", 2),
        ("pick.threshold", "high"),
        ("model.widths", "8,x"),
        ("model.widths", ""),
        ("model.widths", 8),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(key, given):
    with pytest.raises(ConfigError, match=key) as caught:
        Config().with_changes({key: given}, "run.toml")
    assert caught.value.where == "run.toml"
    assert "It takes" in caught.value.remedy


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("train.batch", 0),
        ("train.tile_px", "0"),
        ("train.finetune_steps", -5),
        ("train.patience", 0),
        ("train.validate_every", 0),
        ("train.warmup", 1.5),
        ("train.seed", -1),
        ("train.threads", -2),
        ("denoise.groups", -1),
        ("denoise.label_noise", 2),
        ("model.heads", 0),
        ("model.query_density", 0),
        ("loss.l1_weight", -1),
        ("pick.batch", 0),
        ("pick.threshold", 1.1),
        ("pick.overlap_diameters", -1),
        ("image.clip_sigma", 0),
        ("image.particles", "grey"),
        ("image.equalize", "yes"),
        ("propose.top_k", "0"),
        ("propose.top_k", "many"),
        ("train.proposals", "-3"),
        ("train.device", "gpu"),
        ("model.widths", "8,8,8"),
        ("model.widths", "8,8,8,8,12"),
        ("model.dim", 80),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(key, given):
    with pytest.raises(ConfigError, match=key) as caught:
        Config().with_changes({key: given}, "run.toml")
    assert caught.value.where == "run.toml"
    assert "It takes" in caught.value.remedy


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_and_defaults_lie_in_their_ranges(name):
    config = preset(name)
    assert Config().with_tables(config.to_tables(), "x") == config


def test_changes_leave_the_original_and_all_other_knobs_alone():
    before = Config()
    after = before.with_changes({"train.batch": 7, "pick.nms_iou": None})
    assert before == Config()
    assert after == replace(before, train=replace(before.train, batch=7), pick=replace(before.pick, nms_iou=None))


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "train.learning_rate": st.floats(0, 1),
            "train.bfloat16": st.none() | st.booleans(),
            "propose.range_penalty": st.floats(0) | st.just(float("inf")),
            "pick.threshold": st.none() | st.floats(0, 1),
            "pick.nms_iou": st.none() | st.floats(0, 1),
            "model.widths": st.lists(st.sampled_from(range(8, 72, 8)), min_size=5, max_size=5),
            "propose.top_k": st.sampled_from(["all", "auto", "17"]),
            "train.seed": st.integers(0, 2**40),
        },
    )
)
def test_tables_and_json_give_the_same_config_back(changes):
    config = Config().with_changes(changes)
    tables = config.to_tables()
    assert Config().with_tables(tables, "x") == config
    # As in the header of a weights file: None must not fall back to a default that is not None.
    assert Config().with_tables(json.loads(json.dumps(tables)), "x") == config
    assert preset("paper").with_tables(tables, "x") == config


def test_a_file_stands_between_the_defaults_and_the_command_line(tmp_path):
    path = tmp_path / "knobs.toml"
    path.write_text("[train]\nbatch = 5\nseed = 3\n[propose]\ntop_k = 50\n[model]\nwidths = [8, 8, 8, 8, 16]\n")
    config = Config().with_changes(read_changes(path), str(path)).with_changes({"train.batch": "6"})
    assert (config.train.batch, config.train.seed, config.propose.top_k) == (6, 3, "50")
    assert config.model.widths == (8, 8, 8, 8, 16)
    assert config.train.tile_px == Config().train.tile_px


def test_the_table_that_a_command_leaves_about_its_run_is_passed_over(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[run]\ncommand = "pick"\n[pick]\nbatch = 2\n')
    assert read_changes(path) == {"pick.batch": 2}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"batch = 5\n", "outside a table"),
        (b"[train\n", "cannot be read as TOML"),
        (b"\xff\xfe[train]\n", "cannot be read as TOML"),
        (b"[train]\nbacth = 5\n", "unknown 'train.bacth'"),
        (b'[train]\nbatch = "many"\n', "'train.batch' cannot be 'many'"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, found):
    path = tmp_path / "knobs.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_changes(path)
    assert caught.value.where == str(path)
    assert found in caught.value.found


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        read_changes(tmp_path / "none.toml")


def test_flat_names_are_those_of_the_nested_tables():
    assert flatten({"train": {"batch": 2, "seed": 1}, "pick": {}}, "x") == {"train.batch": 2, "train.seed": 1}


def test_presets_are_the_defaults_and_the_papers_architecture():
    assert preset("compact") == Config()
    paper = preset("paper").model
    assert (paper.backbone, paper.levels, paper.dim) == ("resnet50", 4, 256)
    assert (paper.encoder_layers, paper.decoder_layers) == (6, 6)
    config = preset("paper")
    assert (config.train.proposals, config.train.pretrain_epochs, config.train.finetune_epochs) == ("50", 50, 50)
    assert (config.propose.template, config.propose.min_ratio, config.propose.max_ratio) == (False, 0.8, 1.25)
    assert (config.image.bilateral, config.image.equalize) == (True, "clahe")
    assert set(PRESETS) == {"compact", "paper"}
    with pytest.raises(ConfigError, match="The nearest is 'paper'"):
        preset("papre")


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.key)
def test_every_knob_has_one_line_of_help_and_a_default_that_it_takes(knob):
    assert re.fullmatch(r"[A-Z].{8,}\.", knob.rule.help)
    assert bool(knob.rule.none) == knob.optional
    assert not knob.refuses(knob.default)
    assert knob.takes


@pytest.mark.parametrize("room", fields(Config), ids=lambda room: room.name)
def test_a_room_is_named_after_its_dataclass_and_its_file(room):
    assert room_name(room.default_factory) == room.name
    assert room.default_factory.__module__ == f"upicker.config.{room.name}"
    assert room.default_factory.__doc__.endswith(".")


def test_what_a_knob_takes_is_said_in_words():
    said = {knob.key: knob.takes for knob in KNOBS}
    assert said["train.batch"] == "a whole number of at least 1"
    assert said["image.clip_sigma"] == "a number above 0"
    assert said["augment.rotate_deg"] == "a number from 0 to 180"
    assert said["pick.threshold"] == "a number from 0 to 1, or none"
    assert said["propose.profile"] == "a list of numbers, or none"
    assert said["propose.top_k"] == "auto, all or a whole number of at least 1"
    assert said["model.widths"] == "5 multiples of 8 from 8 to 4096"
    assert said["image.mask"] == "true or false"


def test_a_value_is_checked_however_a_room_is_made():
    with pytest.raises(ConfigError, match=r"'image.particles' cannot be 'grey'. It takes dark or bright"):
        ImageConfig(particles="grey")
    with pytest.raises(ConfigError, match=r"'pick.views' cannot be 9"):
        replace(Config().pick, views=9)
    with pytest.raises(ConfigError, match=r"'train.batch' cannot be None"):
        replace(Config().train, batch=None)


def test_the_backbones_to_choose_from_are_those_of_the_model():
    from upicker.model.backbone import RESNETS

    (backbone,) = (knob for knob in KNOBS if knob.key == "model.backbone")
    assert backbone.rule.choices == ("compact", *RESNETS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pick.nms_iou": None, "pick.threshold": 0.25, "propose.range_penalty": float("inf"), "train.bfloat16": False},
        {"model.widths": (8, 16, 24, 32, 40), "propose.profile": (1.0, -0.5), "train.learning_rate": 1e-9},
    ],
)
@pytest.mark.parametrize("name", PRESETS)
def test_the_printed_file_gives_the_same_config_back(tmp_path, name, changes):
    config = preset(name).with_changes(changes)
    path = tmp_path / "knobs.toml"
    path.write_text(as_toml(config))
    assert Config().with_changes(read_changes(path), "x") == config


def test_the_printed_file_holds_every_knob_and_marks_defaults():
    text = as_toml(Config().with_changes({"pick.nms_iou": None, "train.batch": 3}))
    for knob in KNOBS:
        assert re.search(rf"^(# )?{knob.name} = ", text, re.M)
        assert knob.rule.help.split()[-1] in text
    assert "\nseed = 0  # default; takes" in text
    assert "\nbatch = 3  # changed (default 2); takes" in text
    assert '\nnms_iou = "none"  # changed (default 0.5); takes' in text
    assert '\n# views = "none"  # default; takes a whole number from 1 to 8, or none' in text


def test_the_page_of_knobs_is_current():
    page = Path(__file__).parents[1] / "docs/config.md"
    assert page.read_text(encoding="utf-8") == as_markdown(), "run: make docs"


def test_a_file_that_is_nested_too_deeply_is_named(tmp_path):
    (tmp_path / "deep.toml").write_text("x = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match=r"deep\.toml"):
        read_changes(tmp_path / "deep.toml")
