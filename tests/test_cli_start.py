"""What a training starts from, by the command line."""

from pathlib import Path

import pytest

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
