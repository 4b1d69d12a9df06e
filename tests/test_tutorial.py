"""The commands of docs/tutorial.md on parts of the same micrographs, as they stand there, in their order.

Only the training is shorter, and drawings are left out; what looks at a few micrographs is given one. They are JPGs, as
those of the tutorial's figures.
"""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import ROOT, upicker
from test_documents import blocks

from upicker.io import coordinates
from upicker.particles import Particles

SIDE = 1400
TRAINED, HELD_OUT = ("14_33_35_0",), ("16_59_12_0",)


def part_of_data(shared: Path) -> None:
    """Write the middle of some micrographs, and their labels there, as the tutorial has them by its fifth step."""
    data = shared / "data" / "empiar10017"
    Path("Micrographs").mkdir()
    for folder, times in (("labels", TRAINED), ("heldout", HELD_OUT)):
        for time in times:
            name = f"Falcon_2012_06_12-{time}"
            pixels = cv2.imread(str(data / "micrographs" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
            assert pixels is not None
            first = (np.array(pixels.shape) - SIDE) // 2
            part = pixels[first[0] : first[0] + SIDE, first[1] : first[1] + SIDE]
            cv2.imwrite(f"Micrographs/{name}.jpg", part, [cv2.IMWRITE_JPEG_QUALITY, 95])
            labels = coordinates.read(data / "coords" / f"{name}.csv")
            moved = Particles.of(labels.xy - first[::-1], labels.diameter_px)
            coordinates.write(Path(folder) / f"{name}.csv", moved.select(moved.inside(part.shape)), "csv")


@pytest.mark.slow
def test_the_commands_of_the_tutorial(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    part_of_data(shared)
    printed = []
    for block in blocks(ROOT / "docs" / "tutorial.md", ("",)):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == "upicker"
            words = [word for word in words if not (words[0] == "pick" and word == "--overlay")]
            if words[0] in ("size", "triage"):
                words[1] = f"Micrographs/Falcon_2012_06_12-{HELD_OUT[0]}.jpg"
            elif words[0] == "finetune":
                words += shlex.split("--set train.finetune_steps=3 --set train.validate_every=3 --set pick.views=1")
            code, out, err = upicker(capsys, *words)
            assert code == 0, f"{line}\n{out}{err}"
            printed.append((words[0], out))
    assert [name for name, _ in printed] == [
        *("size", "triage", "pick", "check-frame", "finetune", "pick", "evaluate", "evaluate", "report", "extract")
    ]
    said = dict(printed)
    size = re.search(r"diameter: (\d+) px", said["size"])
    assert size
    assert 80 < int(size[1]) < 110
    assert "1 of 1 micrographs are usable" in said["triage"]
    assert "The picks fit as they are" in said["check-frame"]
    for _, out in [one for one in printed if one[0] == "evaluate"]:
        f1 = float(re.findall(r"Falcon\S* +\d+ +\d+ +\S+ +\S+ +(\S+)", out)[0])
        assert f1 > 0.75
    assert Path("judged2").is_dir()
    assert Path("pr.png").is_file()
    kept = coordinates.read_all(Path("particles.star"))
    assert len(kept) == 2
    assert sum(len(one.particles) for one in kept) > 80
