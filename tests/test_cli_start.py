"""What a training starts from, by the command line."""

from pathlib import Path

import pytest
from command_line import micrograph

from upicker.cli.app import app
from upicker.cli.training import initial_weights
from upicker.config import Config, preset_changes
from upicker.errors import WeightsError
from upicker.pick import shipped
from upicker.train.job import Job


def job(backbone: str | None = None, **changes: object) -> Job:
    given = {name.replace("__", "."): value for name, value in changes.items()}
    return Job(Path("m.safetensors"), Config().with_changes(given), backbone_weights=backbone, given=frozenset(given))


def test_it_is_the_general_model(capsys):
    assert initial_weights(None, job()) == shipped.located(None)
    assert initial_weights(None, job(train__batch=4, pick__views=1, image__particles="bright")) == shipped.located(None)
    assert capsys.readouterr() == ("", "")


def test_it_is_what_is_asked_for(tmp_path):
    assert initial_weights("none", job()) is None
    assert initial_weights(shipped.DEFAULT, job()) == shipped.located(None)
    assert initial_weights(str(tmp_path / "m.safetensors"), job()) == tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (job(model__dim=64), "model.dim"),
        (job(image__working_diameter_px=32), "image.working_diameter_px"),
        (job(backbone="resnet18.pth"), "--backbone-weights"),
    ],
)
def test_it_is_random_where_the_general_model_does_not_fit_and_says_why(other, why, capsys):
    assert initial_weights(None, other) is None
    said = " ".join("".join(capsys.readouterr()).split())
    assert said.startswith("Starts from random weights")
    assert why in said


def test_the_papers_network_starts_at_random():
    given = preset_changes("paper")
    paper = Job(Path("m.safetensors"), Config().with_changes(given), given=frozenset(given))
    assert initial_weights(None, paper) is None


def test_an_unknown_name_is_a_file_that_is_missing():
    from upicker.model import weights

    with pytest.raises(WeightsError, match="no such file"):
        weights.read_header(initial_weights("general-0", job()))


class Reached(Exception):  # noqa: N818
    """A command has come as far as what is looked at."""


def test_every_command_that_takes_weights_takes_the_name_of_a_shipped_model(tmp_path, monkeypatch):
    micrograph(tmp_path / "m.mrc")
    (tmp_path / "sets.toml").write_text("[simulated]\n")
    seen = []

    def reached(*arguments: object) -> None:
        seen.extend(one for one in arguments if isinstance(one, Path) and one.suffix == ".safetensors")
        raise Reached

    monkeypatch.setattr("upicker.web.project.labelling", reached)
    monkeypatch.setattr("upicker.train.general.train", reached)
    monkeypatch.setattr("upicker.train.stages.finetune", reached)
    mics, start = str(tmp_path / "m.mrc"), ("-o", str(tmp_path / "w.safetensors"), "--init", shipped.DEFAULT)
    for words in (
        ("label", mics, "--labels", str(tmp_path / "labels"), "--model", shipped.DEFAULT),
        ("train", str(tmp_path / "sets.toml"), *start),
        ("finetune", mics, "--labels", str(tmp_path), *start),
    ):
        with pytest.raises(Reached):
            app(words, exit_on_error=False, print_error=False, result_action="return_value")
    assert seen == [shipped.located(None)] * 3
