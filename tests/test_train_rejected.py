"""Labels that were selected from extracted particles: what was not kept is rather background."""

from pathlib import Path

import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, SHAPE, TOY, micrograph, upicker

from upicker.errors import InputError
from upicker.io import coordinates
from upicker.particles import Micrograph, Particles
from upicker.train import stages
from upicker.train.labels import rejected_of

BLANK = Micrograph(np.zeros(SHAPE, np.float32), "m0", pixel_size_A=2.0)


def extracted(folder: Path, xy: np.ndarray) -> Path:
    coordinates.write(folder / "m0.csv", Particles.of(xy), "csv")
    return folder / "m0.csv"


def test_rejected_is_what_was_extracted_and_not_kept_though_refinement_moved_it(tmp_path):
    others = np.array([[20.0, 200.0], [290.0, 20.0]])
    file = extracted(tmp_path, np.concatenate([others, CENTRES]))
    kept = Particles.of(CENTRES[[3, 0]] + [0.3 * DIAMETER, -0.2 * DIAMETER], DIAMETER)
    found = rejected_of(kept, file, BLANK, DIAMETER)
    np.testing.assert_allclose(found.xy, np.concatenate([others, CENTRES[[1, 2, 4]]]), atol=0.01)
    np.testing.assert_array_equal(found.diameter_px, DIAMETER)


def test_all_kept_is_nothing_rejected(tmp_path):
    file = extracted(tmp_path, CENTRES)
    assert not len(rejected_of(Particles.of(CENTRES, DIAMETER), file, BLANK, DIAMETER))
    assert len(rejected_of(Particles.of([]), file, BLANK, DIAMETER)) == len(CENTRES)


def test_labels_that_were_not_extracted_are_refused(tmp_path):
    file = extracted(tmp_path, CENTRES[:4] + 2 * DIAMETER)
    with pytest.raises(InputError, match="5 of 5 labels of m0 are none of the particles extracted there"):
        rejected_of(Particles.of(CENTRES, DIAMETER), file, BLANK, DIAMETER)


OPTICS = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnMicrographPixelSize\n1 4.0 2.0\n\n"


def particles_star(path: Path, rows: list[tuple[float, float, float, float]]) -> Path:
    """RELION's table of particles of m0.mrc in a job of its own: coordinates, and origins in Angstrom."""
    columns = ("CoordinateX", "CoordinateY", "OriginXAngst", "OriginYAngst", "OpticsGroup", "MicrographName")
    head = "".join(f"_rln{name}\n" for name in columns)
    table = "".join(f"{x} {y} {dx} {dy} 1 MotionCorr/job002/m0.mrc\n" for x, y, dx, dy in rows)
    path.write_text(f"{OPTICS}data_particles\nloop_\n{head}{table}")
    return path


def test_the_command_takes_a_selection_of_relion_with_its_origins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    micrograph(Path("mics") / "m0.mrc")
    junk = [(20.0, 200.0, 0.0, 0.0)]
    particles_star(Path("extract.star"), [(x, y, 0.0, 0.0) for x, y in CENTRES] + junk)
    # Kept: three of five, refined; positions are coordinates less origins.
    particles_star(Path("select.star"), [(x, y, 6.0, -4.0) for x, y in CENTRES[:3]])
    seen = []
    original = stages._parts

    def parts(labelled, *rest):
        seen.extend(labelled)
        return original(labelled, *rest)

    monkeypatch.setattr(stages, "_parts", parts)
    knobs = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    words = ["finetune", "mics", "--labels", "select.star", "-o", "m.safetensors", "--init", "none", *knobs]
    words += ["--diameter", f"{DIAMETER}px"]
    code, _, err = upicker(capsys, *words, "--extracted", "extract.star")
    assert code == 0, err
    (one,) = seen
    assert one.partial
    np.testing.assert_allclose(np.sort(one.particles.xy[:, 0]), np.sort(CENTRES[:3, 0] - 3), atol=0.01)
    np.testing.assert_allclose(one.rejected.xy, np.concatenate([CENTRES[3:], [[20.0, 200.0]]]), atol=0.01)
    # Another selection is another training, which does not go on with this one.
    particles_star(Path("extract.star"), [(x, y, 0.0, 0.0) for x, y in CENTRES])
    code, text, _ = upicker(capsys, *words, "--extracted", "extract.star", "--resume")
    assert code == 0
    assert "already complete" not in text
    code, _, err = upicker(capsys, *words, "--extracted", "nowhere.star")
    assert code == 1
    assert "nowhere.star: no such" in err
