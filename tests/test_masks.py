"""Contamination masks given by the user: how files are read, and that every command heeds them."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, SHAPE, TOY, micrograph, upicker
from work import calls

from upicker.config import Config, ImageConfig
from upicker.errors import InputError, MicrographError, collected_warnings
from upicker.image.mask import is_usable, masked
from upicker.image.prepare import prepare, sampled_mask
from upicker.io import coordinates, masks, mrc
from upicker.io.masks import Masks
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.run import record
from upicker.train import sets
from upicker.train.fingerprint import Inputs

# Unusable in the drawn micrographs: the first three particles lie there.
BAD = np.broadcast_to(np.arange(SHAPE[0])[:, None] < 100, SHAPE)


def written(path: Path, mask: np.ndarray) -> Path:
    """Write an image of any type, by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mrc":
        mrc.write(path, mask, None)
    else:
        assert cv2.imwrite(str(path), mask)
    return path


def unusable(path: Path, good: bool = False) -> tuple[np.ndarray, list[str]]:
    """Read a mask of the drawn micrographs; return it and the warnings."""
    with collected_warnings() as told:
        found = Masks(path, good).unusable("any", SHAPE)
    return found, [str(one) for one in told]


# --- files


@pytest.mark.parametrize("binning", [1, 2, 3.7])
def test_a_mask_lies_on_its_micrograph_whatever_its_size(tmp_path, binning):
    raw, working = (300, 420), (117, 164)
    shape = tuple(round(n / binning) for n in raw)
    y, x = (np.arange(n) * m / n for n, m in zip(shape, raw, strict=True))
    bad = (y[:, None] > 150) & (x[None, :] < 100)
    mrc.write(tmp_path / "m.mrc", bad, None)
    found = sampled_mask(Masks(tmp_path / "m.mrc").unusable("any", raw), working)
    wy, wx = (np.arange(n) * m / n for n, m in zip(working, raw, strict=True))
    expected = (wy[:, None] > 150) & (wx[None, :] < 100)
    assert found.shape == working
    assert (found == expected).mean() > 0.98  # but for the rim, which the mask knows to half its pixel
    assert not found[:, 60:].any()
    assert not found[:50].any()


def test_masks_in_a_folder_go_by_name(tmp_path):
    mrc.write(tmp_path / "a_mask.mrc", np.tri(30, 40) < 1, None)
    mrc.write(tmp_path / "b.mrc", np.eye(30, 40), None)
    found = Masks(tmp_path)
    assert np.array_equal(found.unusable("a", (60, 80)), np.tri(30, 40) < 1)
    assert np.array_equal(found.unusable("b", (60, 80)), np.eye(30, 40) == 1)
    with pytest.raises(InputError, match="holds no mask for c"):
        found.unusable("c", (60, 80))
    with pytest.raises(MicrographError, match="is 30 x 40 pixels, the micrograph 80 x 60"):
        found.unusable("b", (80, 60))
    with pytest.raises(InputError, match="no such file"):
        Masks(tmp_path / "nowhere")


def test_a_folder_of_masks_is_listed_once(tmp_path):
    for number in range(20):
        mrc.write(tmp_path / f"m{number:02}.mrc", np.zeros((20, 20)), None)
    found = Masks(tmp_path)
    first = calls(lambda: found.find("m00"))
    assert calls(lambda: found.find("m19")) < first / 10


WAYS = {
    "bits.mrc": BAD.astype(np.int8),
    "probabilities.mrc": np.where(BAD, 0.51, 0.49).astype(np.float32),
    "white.png": BAD.astype(np.uint8) * 255,
    "classes.png": BAD.astype(np.uint8) * 3,
    "blurred.jpg": BAD.astype(np.uint8) * 255,
    "deep.png": BAD.astype(np.uint16) * 65535,
    "labels.mrc": BAD.astype(np.float32) * 1000,
}


@pytest.mark.parametrize("name", WAYS)
def test_masks_of_other_programs_mean_the_same(tmp_path, name):
    found, told = unusable(written(tmp_path / name, WAYS[name]))
    assert np.array_equal(found, BAD)
    assert told == []


def test_one_can_be_good(tmp_path):
    found, told = unusable(written(tmp_path / "m.png", (~BAD).astype(np.uint8) * 255), good=True)
    assert np.array_equal(found, BAD)
    assert told == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.random.default_rng(0).normal(0, 1, SHAPE), "values from -"),
        (np.random.default_rng(0).uniform(0, 900, SHAPE), "values from 0"),
        (np.where(BAD, np.nan, 0.0), "not numbers"),
    ],
)
def test_what_is_not_a_mask_is_refused(tmp_path, values, words):
    with pytest.raises(MicrographError, match=words):
        masks.read(written(tmp_path / "m.tif", values.astype(np.float32)))


def test_masks_that_look_wrong_are_told_with_the_way_out(tmp_path):
    _, [told] = unusable(written(tmp_path / "none.png", np.zeros(SHAPE, np.uint8)))
    assert "marks nothing" in told
    assert "--mask-good" in told
    mostly = np.ones(SHAPE, np.uint8)
    mostly[:15] = 0
    _, [told] = unusable(written(tmp_path / "most.png", mostly))
    assert "marks 93% of the micrograph as unusable" in told
    assert "add --mask-good" in told
    _, [told] = unusable(written(tmp_path / "few.png", 1 - mostly), good=True)
    assert "leave out --mask-good" in told


def test_a_clean_micrograph_is_no_mistake_but_a_folder_of_clean_ones_may_be(tmp_path):
    for number in range(7):
        written(tmp_path / f"m{number}_mask.png", np.zeros(SHAPE, np.uint8))
    names = [f"m{number}" for number in range(7)]
    found = Masks(tmp_path)
    with collected_warnings() as told:
        assert not found.unusable("m3", SHAPE).any()
    assert not told
    assert "none of 5 masks" in found.all_empty(names)
    assert found.all_empty(["m8"]) == ""
    assert Masks(tmp_path, good=True).all_empty(names) == ""
    written(tmp_path / "m6_mask.png", BAD.astype(np.uint8))
    assert found.all_empty(names) == ""


# --- what they do


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two drawn micrographs with masks, and labels of all five particles."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        micrograph(Path(f"mics/m{seed}.mrc"), seed)
        written(Path(f"masks/m{seed}_mask.png"), BAD[::2, ::2].astype(np.uint8) * 255)
        coordinates.write(Path(f"labels/m{seed}.csv"), Particles.of(CENTRES, DIAMETER), "csv")
    return tmp_path


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("built_in", [False, True])
def test_a_prepared_micrograph_is_blank_there(folder, by_rows, built_in):
    reading = Reading(masks=Masks(Path("masks")))
    path = Path("mics/m0.mrc")
    read = reading.by_rows(path) if by_rows else reading.read(path)
    config = ImageConfig(mask=built_in)
    prepared = masked(prepare(read, DIAMETER, config), config)
    assert not is_usable(prepared, CENTRES[:3]).any()
    assert is_usable(prepared, CENTRES[3:]).all()
    top = prepared.pixels[: round(95 * prepared.frame.scale)]
    assert not top.any()
    assert prepared.pixels[-20:].any()


def test_picks_and_proposals_keep_out(capsys, folder):
    arguments = ("--diameter", "24px", "--mask", "masks", "--jobs", 1)
    for command in (("pick", "--fast"), ("propose", "--no-mask", "--set", "propose.template=false", "--top-k", 5)):
        out = Path(command[0])
        assert upicker(capsys, *command, "mics", "-o", out, *arguments)[0] == 0
        for seed in range(2):
            found = coordinates.read(out / f"m{seed}.csv").xy
            assert len(found)
            assert (found[:, 1] > 99).all()
        assert record.read(out).about["mask"] == "masks"


def test_a_run_goes_on_with_the_same_masks_only(capsys, folder):
    propose = (
        "propose",
        "mics",
        "-o",
        "out",
        "--diameter",
        "24px",
        "--set",
        "propose.template=false",
        "--skip-existing",
    )
    assert upicker(capsys, *propose, "--mask", "masks")[0] == 0
    code, _, err = upicker(capsys, *propose)
    assert code != 0
    assert "mask" in err
    assert upicker(capsys, *propose, "--mask", "masks")[0] == 0
    assert upicker(capsys, *propose, "--mask", "masks", "--mask-good")[0] != 0
    code, _, err = upicker(capsys, "pick", "mics", "-o", "other", "--diameter", "24px", "--mask-good")
    assert (code, "no effect without --mask" in err) == (2, True)


def test_relions_job_takes_them(capsys, folder):
    rows = "".join(f"mics/m{seed}.mrc 2.0\n" for seed in range(2))
    Path("in.star").write_text(f"data_\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n{rows}")
    arguments = ("--in_mics", "in.star", "--o", "External/job001", "--diameter", "48A", "--model", "none")
    knobs = ("--set", "propose.template=false", "--set", "propose.mask=false", "--mask", "masks")
    assert upicker(capsys, "relion-job", *arguments, *knobs)[0] == 0
    for file in Path("External/job001").rglob("m*_autopick.star"):
        assert (coordinates.read(file).xy[:, 1] > 99).all()


def test_training_learns_nothing_there(capsys, folder):
    """Particles in the mask are neither labels nor background: three labels more there change no weight."""
    knobs = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    common = ("--diameter", "24px", "--init", "none", "--mask", "masks", *knobs)
    assert upicker(capsys, "finetune", "mics", "--labels", "labels", "-o", "all.safetensors", *common)[0] == 0
    for seed in range(2):
        coordinates.write(Path(f"labels/m{seed}.csv"), Particles.of(CENTRES[3:], DIAMETER), "csv")
    assert upicker(capsys, "finetune", "mics", "--labels", "labels", "-o", "some.safetensors", *common)[0] == 0
    lines = [Path(f"{name}.log.csv").read_text().splitlines() for name in ("all", "some")]
    assert len(lines[0]) == len(lines[1])
    assert upicker(capsys, "pretrain", "mics", "-o", "pre.safetensors", *common)[0] == 0


def test_a_training_notices_other_masks(folder):
    plain, with_masks = (Reading(masks=one).read(Path("mics/m0.mrc")) for one in (None, Masks(Path("masks"))))
    other = replace(with_masks, unusable=~BAD)
    found = []
    for one in (plain, with_masks, other):
        inputs = Inputs()
        inputs.add_micrograph(one, DIAMETER)
        found.append(inputs.to_dict()["micrographs"])
    assert len(set(found)) == 3


def test_sets_of_a_general_training_have_masks(folder):
    text = '[[set]]\nname = "a"\nmicrographs = ["mics"]\nlabels = "labels"\nmask = "masks"\n'
    Path("sets.toml").write_text(text)
    [one] = sets.read(Path("sets.toml")).sets
    assert one.reading.masks == Masks(folder / "masks")
    assert Config()
