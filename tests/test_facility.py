"""The script of docs/facility.md: from first weights to fine-tuned ones, while micrographs arrive."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from command_line import CENTRES, DIAMETER, ROOT, TOY, environment, micrograph, upicker
from waiting import until

from upicker.io import coordinates
from upicker.particles import Particles
from upicker.run import record


def test_new_weights_take_over_without_a_gap(tmp_path, monkeypatch, capsys):
    """What arrives before, during and after the training is picked by both."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        micrograph(Path("Movies") / f"m{number}.mrc", number)
    knobs = shlex.join(word for key, value in TOY.items() for word in ("--set", f"{key}={value}"))
    first = ["pretrain", "Movies", "-o", "first.safetensors", "--init", "none", "--diameter", f"{DIAMETER}px"]
    assert upicker(capsys, *first, *shlex.split(knobs))[0] == 0
    text = (ROOT / "docs" / "facility.md").read_text(encoding="utf-8")
    found = re.search(r"```bash\n(#!/bin/bash\nupicker pick.*?)```", text, re.S)
    assert found
    quick = "--watch --poll 0.2s --settle 0.2s --idle 60s --threshold 0.01"
    code = found[1].replace("--watch", quick).replace("190A", f"{DIAMETER}px").replace("sleep 60", "sleep 0.2")
    code = code.replace("pick Movies -o picked ", "pick Movies -o picked --model first.safetensors ")
    code = code.replace("finetune Movies", f"finetune Movies --init first.safetensors {knobs}")
    # The second watch is to end, too.
    code = code.replace("touch picked/STOP", "touch picked/STOP picked2/STOP")
    program = f'upicker() {{ {sys.executable} -m upicker "$@"; }}\n{code}'
    with subprocess.Popen(["bash", "-c", program], env=environment() | {"OMP_NUM_THREADS": "1"}) as process:
        until(lambda: len(list(Path("picked").glob("*.csv"))) == 2 or process.poll() is not None, "the first picks")
        for number in range(2):
            labels = Particles.of(CENTRES, DIAMETER)
            coordinates.write(Path("labels") / f"m{number}.csv", labels, "csv")
        micrograph(Path("Movies") / "m2.mrc", 2)
        assert process.wait(timeout=550) == 0
    both = [record.read(Path(folder)) for folder in ("picked", "picked2")]
    assert [len(one.micrographs) for one in both] == [3, 3]
    assert Path(str(both[0].about["model"])).name == "first.safetensors"
    assert Path(str(both[1].about["model"])).name == "model.safetensors"
