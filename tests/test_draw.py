"""Laws of the pictures for people: what is drawn where, and that bad input leaves nothing behind."""

import cv2
import numpy as np
import pytest
from matplotlib.text import Text

from upicker import draw
from upicker.draw import picks as picks_module
from upicker.draw.picks import FALSE, FOUND, MISSED
from upicker.errors import ConfigError, InputError, OutputError
from upicker.particles import Micrograph, Particles, ScoreKind
from upicker.scoring import Curve, curve
from upicker.train.log import COLUMNS

SHAPE = (231, 317)


def grey(name: str = "asymmetric", pixel_size_A: float | None = 3.0) -> Micrograph:
    pixels = np.random.default_rng(0).normal(500, 20, SHAPE).astype(np.float32)
    pixels[:40, :70] = 0  # a contaminant
    return Micrograph(pixels, name, pixel_size_A)


def picture(path) -> np.ndarray:
    """Return `(h, w, 3)` int, red, green, blue."""
    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert found is not None
    return found[:, :, ::-1].astype(int)


def painted(pixels: np.ndarray, colour: str) -> np.ndarray:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(pixels - wanted) < 24).all(2)


def on_the_micrograph(pixels: np.ndarray) -> tuple[slice, slice, float]:
    """Return where the micrograph lies in an overlay of `SHAPE`, and screen pixels per raw pixel."""
    scale = 900 / SHAPE[1]
    height = round(SHAPE[0] * scale)
    return slice(40, 40 + height), slice(12, 912), scale


def test_circles_are_drawn_where_the_particles_are_in_the_colour_of_their_fate(tmp_path):
    labels = Particles.of([[100, 60], [250, 190]], 30)
    picks = Particles.of([[102, 61], [180, 120]], 30, [0.9, 0.8])
    draw.overlay(grey(), picks, tmp_path / "o.png", labels)
    drawn = picture(tmp_path / "o.png")
    rows, columns, scale = on_the_micrograph(drawn)
    for colour, (x, y) in ((FOUND, (102, 61)), (MISSED, (250, 190)), (FALSE, (180, 120))):
        at_y, at_x = np.nonzero(painted(drawn[rows, columns], colour))
        raw = np.array([at_x, at_y]) / scale - 0.5 + 0.5 / scale
        middle = (raw.max(1) + raw.min(1)) / 2
        np.testing.assert_allclose(middle, (x, y), atol=0.7)
        np.testing.assert_allclose(np.ptp(raw, axis=1), 30, atol=1.5)


def test_the_bar_is_as_long_as_the_counts(tmp_path):
    labels = Particles.of([[60 + 40 * k, 150] for k in range(6)], 20)
    picks = Particles.concatenate([labels.select(np.arange(3)), Particles.of([[150, 60]], 20)])
    draw.overlay(grey(), picks, tmp_path / "o.png", labels)
    footer = picture(tmp_path / "o.png")[-48:-36]  # the bar's rows
    lengths = [painted(footer, colour).any(0).sum() for colour in (FOUND, MISSED, FALSE)]
    np.testing.assert_allclose(np.array(lengths) / sum(lengths), [3 / 7, 3 / 7, 1 / 7], atol=0.02)


def test_without_labels_the_score_chooses_the_colour(tmp_path):
    picks = Particles.of([[80, 60], [240, 190], [160, 100]], 30, [0.9, 0.1, 0.5])
    draw.overlay(grey(), picks, tmp_path / "o.png")
    drawn = picture(tmp_path / "o.png")
    rows, columns, scale = on_the_micrograph(drawn)
    colourful = np.ptp(drawn[rows, columns], axis=2) > 60
    at_y, at_x = np.nonzero(colourful)
    nearest = np.linalg.norm(np.stack([at_x, at_y], 1)[:, None] / scale - picks.xy, axis=2)
    assert (np.abs(nearest.min(1) - 15) < 3).all()  # nothing but the three rings is coloured
    mean = [drawn[rows, columns][at_y, at_x][nearest.argmin(1) == k].mean(0) for k in (0, 1)]
    assert mean[0][0] > mean[1][0] + 50  # plasma: high scores are yellow, low ones blue
    assert mean[1][2] > mean[0][2] + 50


def test_the_bar_of_scores_says_what_they_are(tmp_path, monkeypatch):
    words = []
    monkeypatch.setattr(
        picks_module, "save", lambda figure, path: words.extend(t.get_text() for t in figure.findobj(Text))
    )
    for kind in ScoreKind:
        draw.overlay(grey(), Particles.of([[80, 60], [240, 190]], 30, [0.9, 0.1], kind), tmp_path / "o.png")
        assert kind.words in words
        words.clear()


def test_a_contaminant_does_not_take_the_contrast(tmp_path):
    draw.overlay(grey(), Particles.of([[200, 150]], 30), tmp_path / "o.png")
    drawn = picture(tmp_path / "o.png")
    rows, columns, scale = on_the_micrograph(drawn)
    ice = drawn[rows, columns][round(60 * scale) : round(120 * scale), round(20 * scale) : round(150 * scale)]
    assert 80 < ice.mean() < 180
    assert ice.std() > 20


@pytest.mark.parametrize("shape", [(1, 1), (7, 900), (900, 7), (1700, 1500)])
def test_any_shape_is_drawn_within_bounds(tmp_path, shape):
    pixels = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    pixels[0, 0] = np.nan
    draw.overlay(Micrograph(pixels, "m"), Particles.of([]), tmp_path / "o.png")
    height, width = picture(tmp_path / "o.png").shape[:2]
    assert width <= 1600 + 24
    assert height <= 1600 + 104


def test_constant_and_dead_pictures_are_drawn(tmp_path):
    for value in (7.0, np.nan):
        pixels = np.full((50, 60), value, np.float32)
        draw.overlay(Micrograph(pixels, "m", 1.0), Particles.of([[20, 30]], 10), tmp_path / "o.png")
    assert (tmp_path / "o.png").is_file()


def test_an_unknown_diameter_is_an_error_and_leaves_no_file(tmp_path):
    for labels in (None, Particles.of([[9, 9]])):
        with pytest.raises(ConfigError, match="--diameter"):
            draw.overlay(grey(), Particles.of([[5, 5]]), tmp_path / "o.png", labels)
    assert not list(tmp_path.iterdir())
    draw.overlay(grey(), Particles.of([[5, 5]]), tmp_path / "o.png", diameter_px=12.0)


def test_a_picture_of_an_unknown_kind_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(OutputError, match=r"suffix \.png"):
        draw.precision_recall(Curve(*np.ones((4, 1))), tmp_path / "curve.xyz")
    assert not list(tmp_path.iterdir())


def test_the_precision_recall_picture_marks_the_best_point(tmp_path):
    rng = np.random.default_rng(2)
    labels = Particles.of(rng.uniform(0, 900, (60, 2)), 20)
    picks = Particles.concatenate([labels.select(np.arange(45)), Particles.of(rng.uniform(0, 900, (30, 2)), 20)])
    picks = Particles(picks.xy, picks.diameter_px, rng.normal(np.repeat([1, 0], [45, 30])))
    draw.precision_recall(curve([(picks, labels)]), tmp_path / "pr.png", "test")
    assert painted(picture(tmp_path / "pr.png"), "#D55E00").sum() > 50
    draw.precision_recall(curve([]), tmp_path / "none.png")
    assert not painted(picture(tmp_path / "none.png"), "#D55E00").any()


def row(step: int, stage: str, loss: float, figures: str = ",,,") -> str:
    return f"{step},{stage},{step},1e-4,{loss},{loss / 2},{loss / 4},{loss / 4},0,{figures}" + "," * (len(COLUMNS) - 13)


def test_training_curves_are_drawn_with_and_without_validation(tmp_path):
    log = tmp_path / "train.csv"
    rows = [row(k, "pretrain", 3 / k) for k in range(1, 40)]
    log.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    draw.training_curves(log, tmp_path / "plain.png")
    rows += [row(k, "finetune", 2 / k, "0.5,0.7,0.58,0.3" if k % 10 == 0 else ",,,") for k in range(1, 40)]
    log.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n40,finet")  # the last row was being written
    draw.training_curves(log, tmp_path / "full.png")
    assert painted(picture(tmp_path / "full.png"), "#D55E00").sum() > 50
    assert not painted(picture(tmp_path / "plain.png"), "#D55E00").any()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no rows"), (",".join(COLUMNS), "no rows"), ("step,loss\n1,2\n", "no column 'loss_class'")],
)
def test_a_log_of_something_else_is_an_error(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        draw.training_curves(tmp_path / "log.csv", tmp_path / "t.png")
    with pytest.raises(InputError, match="cannot be read"):
        draw.training_curves(tmp_path / "none.csv", tmp_path / "t.png")
    assert not (tmp_path / "t.png").exists()


def test_a_name_with_dollars_is_no_mathematics(tmp_path):
    micrograph = Micrograph(np.random.default_rng(0).normal(size=(90, 120)).astype(np.float32), r"a$\frac$b$")
    draw.overlay(micrograph, Particles.of([[40, 40]], 20), tmp_path / "picks.png")
    assert picture(tmp_path / "picks.png").size
