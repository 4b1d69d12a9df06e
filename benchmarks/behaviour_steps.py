"""What `behaviour.py record` runs: commands of UPicker, one after the other, in one folder.

All paths are relative to that folder, so that what is written there does not depend on where it lies. Each command is
one that users type, so that the list stays the same while the package's modules move.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

# Names of the knob that chooses the backbone: as it was, and as it is.
BACKBONE_KNOBS = ("model.trunk", "model.backbone")
DIAMETER = "--diameter 150A"
MICROGRAPHS = "simulated/micrographs"
SOME = " ".join(f"{MICROGRAPHS}/simulated_000{i}.mrc" for i in (0, 1, 3))
FORMATS = (
    "csv", "tsv", "star", "relion", "particles", "cs", "box", "eman2", "cbox", "topaz", "warp", "cryoppp", "coco",
)  # fmt: skip
# A training of a few steps on one core: small tiles, one view at validation.
_CORE = "--set train.threads=1 --set train.device=cpu --set pick.views=1"
_TRAIN = f"{_CORE} --set train.tile_px=192 --set train.validate_every=15"
_SMALL = (
    "--set {backbone}=resnet18 --set model.levels=4 --set model.dim=64 --set model.feedforward=128"
    " --set model.encoder_layers=1 --set model.decoder_layers=2 --set model.query_density=0.8"
)
_AUGMENT = (
    "--set augment.rotate_deg=30 --set augment.scale=0.2 --set augment.mosaic=0.5 --set augment.paste=2"
    " --set augment.contaminants=1 --set augment.gamma=0.3 --set augment.defocus=0.5"
    " --set augment.blur_diameters=0.05 --set augment.keep_blank=true"
)
# Networks whose parameters are recorded: names, shapes, and the values that a seed gives.
NETWORKS: dict[str, dict[str, object]] = {
    "compact": {},
    "resnet18": {
        "{backbone}": "resnet18", "model.levels": 4, "model.dim": 64, "model.feedforward": 128,
        "model.encoder_layers": 1, "model.decoder_layers": 2, "model.query_density": 0.8,
    },
    "resnet50": {"{backbone}": "resnet50", "model.levels": 4, "model.decoder_layers": 1, "model.encoder_layers": 1},
}  # fmt: skip
# Trained weights that are picked with, and the network they are of.
GIVEN = {"finetune": "compact", "resnet18": "resnet18"}
# The only training of a quick record, whose header the converted weights take.
QUICK = "resnet18"


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes
    ----------
    name : str
        Of the step; what it prints goes to a file of this name.
    arguments : str
        Words after ``upicker``, quoted as in a shell; ``{backbone}`` stands for the name of the knob.
    folder : str
        Where it runs, below the folder of all steps.
    printed : bool
        Whether what it prints to standard output is a result that has to stay.
    """

    name: str
    arguments: str
    folder: str = "."
    printed: bool = False


SIMULATE = (
    Step(
        "simulate",
        "simulate barrel -o simulated --micrographs 5 --shape 900x760 --pixel-size 3.5A --particles 40 --carbon 0.3"
        " --contamination much --seed 5",
    ),
    Step(
        "simulate-other",
        "simulate globule rod -o other --micrographs 2 --shape 620x500 --pixel-size 4A --particles 25 --decoys small"
        " --broken 0.2 --clustered 0.3 --preferred 3 --snr 0.05 --defocus 1-2um --phase-plate 90deg --camera falcon4"
        " --thickness 30nm --contamination some --format mrc,tif --seed 7",
    ),
    Step(
        "simulate-jobs",
        "simulate shell -o jobs --micrographs 2 --shape 500x420 --pixel-size 6A --particles 12 --jobs 2 --empty 0.5",
    ),
)

PROPOSE = (
    Step("propose", f"propose {MICROGRAPHS} -o proposals {DIAMETER} --overlay --format csv,star,box"),
    Step(
        "propose-paper",
        f"propose {SOME} -o proposals-paper {DIAMETER} --top-k 50 --min-diameter 120A --max-diameter 187A --no-mask"
        " --set propose.template=false --set propose.range_penalty=inf --set propose.maxima=false"
        " --set propose.disc_diameters=1",
    ),
    Step("propose-mask", f"propose {SOME} -o proposals-mask {DIAMETER} --mask simulated/masks --top-k all --jobs 2"),
)

TRAIN = (
    Step("pretrain", f"pretrain {MICROGRAPHS} -o training/pretrain.safetensors {DIAMETER} {_TRAIN}"
         " --set train.pretrain_steps=30"),
    Step("finetune", f"finetune {MICROGRAPHS} --labels simulated/truth --init training/pretrain.safetensors"
         f" -o training/finetune.safetensors {_TRAIN} --set train.finetune_steps=30"),
    Step("resnet18", f"finetune {MICROGRAPHS} --labels simulated/truth -o training/resnet18.safetensors {DIAMETER}"
         f" {_CORE} {_SMALL} --set train.tile_px=160 --set train.finetune_steps=6 --validation 0"),
    Step("partial", f"finetune {MICROGRAPHS} --labels partial --init training/finetune.safetensors"
         f" -o training/partial.safetensors {_TRAIN} --set train.finetune_steps=8 --set teacher.start_steps=4"
         " --set teacher.every_steps=2 --set teacher.adopt=0.5"),
    Step("self-training", f"pretrain {MICROGRAPHS} -o training/self.safetensors {DIAMETER} {_TRAIN}"
         " --set train.pretrain_steps=6 --self-train 1 --set teacher.round_steps=4"),
    Step("augmented", f"finetune {MICROGRAPHS} --labels simulated/truth --init training/finetune.safetensors"
         f" -o training/augmented.safetensors {_TRAIN} {_AUGMENT} --set augment.offline=1 --set train.accumulate=2"
         " --set train.finetune_steps=5 --validation 0.4"),
    Step("again", f"pretrain {MICROGRAPHS} -o training/self.safetensors {DIAMETER} {_TRAIN} --resume"
         " --set train.pretrain_steps=6 --self-train 1 --set teacher.round_steps=4"),
)  # fmt: skip

_GIVEN = "--model ../given/finetune.safetensors"
PICK = (
    Step("pick", f"pick {SOME} {_GIVEN} -o picks --overlay --format csv,star,box --set pick.views=none"
         " --threshold 0.05 --jobs 1"),
    Step("pick-stored", f"pick {SOME} {_GIVEN} -o picks-stored --jobs 2"),
    Step("pick-all", f"pick {SOME} {_GIVEN} -o picks-all --threshold 0 --set pick.nms_iou=none"
         " --set pick.edge_diameters=0 --set pick.overlap_diameters=3"),
    Step("pick-resnet18", f"pick {SOME} --model ../given/resnet18.safetensors -o picks-resnet18 --threshold 0"),
    Step("pick-formats", f"pick {SOME} {_GIVEN} -o picks-formats --format tsv,eman2,cbox,topaz,cs,warp,particles,coco"
         " --threshold 0.06 --jobs 1"),
    Step("pick-tif", f"pick 'other/micrographs-tif/*.tif' {_GIVEN} -o picks-tif --diameter 130A --threshold 0.03"
         " --pixel-size 4A"),
)  # fmt: skip

USE = (
    Step("evaluate", "evaluate simulated/truth proposals --plot evaluated/curve.png", printed=True),
    Step("evaluate-centre", "evaluate simulated/truth picks --by centre --diameter 150A --pixel-size 3.5A"
         f" --threshold 0.06 --overlay evaluated/overlays --micrographs {MICROGRAPHS}", printed=True),
    Step("extract", f"extract proposals --micrographs {MICROGRAPHS} --box 64px -o extracted/particles.star"
         " --scale 40px"),
    Step("extract-pad", "extract picks --micrographs simulated/micrographs.star --box 260A -o extracted/padded/all.star"
         " --pad --float16 --no-invert --threshold 0.1 --background 200A"),
    Step("extract-raw", f"extract proposals --micrographs {MICROGRAPHS} --box 50px -o extracted/raw/all.star"
         " --no-normalise --voltage 300kV --cs 2.7mm --amplitude-contrast 0.1 --jobs 2"),
    Step("relion-job", f"relion-job --in_mics micrographs.star --o External/job001/ {DIAMETER} --j 1", "relion"),
    Step("relion-job-model", "relion-job --in_mics micrographs.star --o External/job002/ --j 1"
         " --model ../../given/finetune.safetensors --threshold 0.05", "relion"),
    Step("relion-job-again", f"relion-job --in_mics micrographs.star --o External/job001/ {DIAMETER} --j 1"
         " --only_do_unfinished", "relion"),
    Step("check-frame", f"check-frame proposals --micrographs {MICROGRAPHS}"),
    Step("report", f"report picks --micrographs {MICROGRAPHS} --labels simulated/truth"
         " -o report.html"),
    Step("no-such-file", "pick nothing.mrc --model ../given/finetune.safetensors -o nothing"),
    Step("no-such-knob", f"propose {MICROGRAPHS} -o nothing {DIAMETER} --set propose.nothing=1"),
    Step("no-such-option", f"propose {MICROGRAPHS} -o nothing {DIAMETER} --nothing"),
    Step("one-bad-file", f"propose {SOME} broken.mrc -o one-bad {DIAMETER} --top-k 10"),
    Step("not-weights", f"pick {MICROGRAPHS} --model broken.mrc -o nothing"),
)  # fmt: skip


def conversions() -> list[Step]:
    """Return conversions to every format and back, and some with flips, scales and lists of micrographs."""
    mics = f"--micrographs {MICROGRAPHS}"
    to = [Step(f"to-{name}", f"convert proposals/*.csv --to {name} -o converted/{name} {mics}") for name in FORMATS]
    back = [
        Step(f"from-{name}", f"convert converted/{name} --to csv -o converted/from-{name} {mics}")
        for name in FORMATS
        if name not in _ONE_FILE
    ]
    back += [
        Step(f"from-{name}", f"convert 'converted/{name}/*{ending}' --to csv -o converted/from-{name} {mics}")
        for name, ending in _ONE_FILE.items()
    ]
    return [
        *to,
        *back,
        Step("flipped", f"convert proposals/*.csv --to star -o converted/flipped {mics} --flip upside-down"),
        Step("eman2-flip", f"convert proposals/*.csv --to box -o converted/eman2-flip {mics} --flip eman2 --box 70px"),
        Step("from-flip", f"convert proposals/*.box --to cbox -o converted/from-flip {mics} --from-flip tiff"),
        Step("scaled", "convert proposals/*.csv --to topaz -o converted/scaled.txt --to-scale 4 --threshold 12"),
        Step("unscaled", "convert proposals/*.star --to csv -o converted/unscaled.csv --scale 0.5 --diameter 80px"),
        Step("one-file", f"convert proposals/*.csv --to particles -o converted/one.star {mics} --box 180A"),
    ]


# Formats that are written as one file, which no micrograph's name tells from others.
_ONE_FILE = {"particles": ".star", "cs": ".cs", "coco": ".json", "topaz": ".txt"}


def shared(micrographs: dict[str, tuple[str, str]]) -> list[Step]:
    """Return what is done with real micrographs: name -> (file, diameter)."""
    steps = []
    for name, (file, diameter) in micrographs.items():
        given = f"{_GIVEN} --diameter {diameter} --threshold 0.05 --set pick.views=1"
        steps.append(Step(f"real-propose-{name}", f"propose '{file}' -o real/{name}/proposals --diameter {diameter}"))
        steps.append(Step(f"real-pick-{name}", f"pick '{file}' -o real/{name}/picks {given}"))
    return steps


# Real micrographs in the folder given by --shared: the first file of a pattern, and the particles' diameter.
REAL = {
    "apoferritin": ("apoferritin/micrographs/*.png", "72px"),
    "proteasome20s": ("proteasome20s/micrographs/*.png", "24px"),
    "empiar10017": ("empiar10017/micrographs/*.jpg", "108px"),
    "contamination": ("contamination/micrograph.mrc", "26px"),
}


def prepare(files: Path) -> None:
    """Write what the commands after simulation need besides: partial labels, a RELION project, a broken file."""
    truth = sorted((files / "simulated/truth").glob("*.csv"))
    (files / "partial").mkdir()
    with (files / "partial/coverage.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "coverage", "x0", "y0", "x1", "y1"))
        writer.writerows((path.stem, "partial", "", "", "", "") for path in truth[:-1])
        writer.writerow((truth[-1].stem, "complete", 100, 50, 700, 600))
    for path in truth:
        lines = path.read_text().splitlines(keepends=True)
        kept = lines[:1] + (lines[1:] if path == truth[-1] else lines[1::3])
        (files / "partial" / path.name).write_text("".join(kept))
    (files / "relion").mkdir()
    shutil.copy(files / "simulated/micrographs.star", files / "relion")
    (files / "relion/micrographs").symlink_to("../simulated/micrographs")
    (files / "broken.mrc").write_bytes(b"this is no micrograph " * 100)
