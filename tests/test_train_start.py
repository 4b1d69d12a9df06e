"""Where a training starts: what given weights bring along, what they fix, and that no knob which is set is lost."""

from dataclasses import fields

import pytest

from upicker.config import Config, preset
from upicker.config.knob import Knob, knobs_of
from upicker.errors import ConfigError
from upicker.train.start import config_for

KNOBS = {knob.key: knob for room in fields(Config) for knob in knobs_of(type(getattr(Config(), room.name))).values()}
FIXED = {key for key in KNOBS if key.startswith("model.")} - {"model.query_density"} | {"image.working_diameter_px"}
BROUGHT = {key for key in KNOBS if key.startswith("image.")} | {
    "model.query_density", "train.tile_px", "train.learning_rate", "train.finetune_learning_rate",
    "train.pretrain_steps", "train.finetune_steps", "train.pretrain_epochs", "train.finetune_epochs",
}  # fmt: skip


def value_of(config: Config, key: str) -> object:
    room, name = key.split(".")
    return getattr(getattr(config, room), name)


def another(knob: Knob) -> object:
    """Another value than the default that the knob takes."""
    if knob.rule.choices:
        return next(one for one in knob.rule.choices if isinstance(one, str) and one != knob.default)
    if knob.kind is bool:
        return not knob.default
    if isinstance(knob.default, tuple):
        return tuple(2 * part for part in knob.default)
    if knob.kind not in (int, float):
        return (0.5,) * 25
    start = knob.default or 0
    tries = [start + knob.rule.multiple_of, start - 1, start + 0.25, start - 0.25]
    return next(one for one in map(knob.kind, tries) if one != knob.default and not knob.refuses(one))


@pytest.mark.parametrize("key", KNOBS)
def test_a_knob_that_is_set_beside_weights_holds_or_is_refused(key):
    value = another(KNOBS[key])
    config = Config().with_changes({key: value})
    for given in ({key}, None):
        if key in FIXED:
            with pytest.raises(ConfigError, match=f"{key} is .*: fixed by the weights"):
                config_for(Config(), config, given)
        else:
            assert config_for(Config(), config, given) == config


@pytest.mark.parametrize("key", KNOBS)
def test_a_default_that_is_asked_for_holds_or_is_refused(key):
    stored = Config().with_changes({key: another(KNOBS[key])})
    if key in FIXED:
        with pytest.raises(ConfigError, match=f"{key} is .*: fixed by the weights"):
            config_for(stored, Config(), {key})
    else:
        assert config_for(stored, Config(), {key}) == Config()


@pytest.mark.parametrize("key", KNOBS)
def test_weights_bring_network_preparation_and_rates_and_nothing_else(key):
    stored = Config().with_changes({key: another(KNOBS[key])})
    assert config_for(stored, Config(), set()) == (stored if key in FIXED | BROUGHT else Config())


def test_weights_of_a_preset_are_tuned_at_its_rate():
    paper = preset("paper")
    assert config_for(paper, Config(), set()).train.finetune_learning_rate == 1e-4
    assert config_for(paper, paper, None) == paper
    asked = Config().with_changes({"train.finetune_learning_rate": 1.6e-3})
    assert config_for(paper, asked, {"train.finetune_learning_rate"}).train.finetune_learning_rate == 1.6e-3
