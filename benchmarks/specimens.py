"""What the simulator's particles look like, and what displacing the ice does: docs/specimens.png and some figures.

Run from the checkout (the extra ``sim`` is needed)::

    OMP_NUM_THREADS=1 python benchmarks/specimens.py [--structures ../shared/structures] [--out docs/specimens.png]

Prints markdown: sizes, masses and milliseconds a projection; the contrast of a proteasome and a ribosome in vacuo and
in ice; maps beside the atoms that they show.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from upicker.draw import style
from upicker.simulate.specimens import density, structure
from upicker.simulate.specimens.specimen import BUILT_IN, Source, Specimen, load
from upicker.simulate.specimens.volume import Volume

VIEWS = Rotation.from_euler("zxz", [(0, 0, 0), (0, 90, 0), (20, 50, 35), (80, 130, 10)], degrees=True).as_matrix()
PIXEL_A = 1.34


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, default=Path("../shared/structures"))
    parser.add_argument("--out", type=Path, default=Path("docs/specimens.png"))
    options = parser.parse_args()

    kinds = len(BUILT_IN)
    figure = Figure(figsize=(11, 15 * (kinds + 2) / 7), layout="constrained")
    axes = figure.subplots(kinds + 2, 5, squeeze=False)
    print(f"| specimen | diameter A | kDa | ms a projection at {PIXEL_A} A |\n|---|---|---|---|")
    for row, name in enumerate(BUILT_IN):
        specimen = load(name)
        kDa = _total(specimen) / structure.CONTRAST_VA3_DA / 1e3
        _speed(specimen, f"{kDa:.0f}")
        _show(axes[row], specimen)
    for name in ("3j9i.pdb.gz", "4v5d.cif.gz", "4v7r.mrc.gz"):
        specimen = load(str(options.structures / name), Source())
        _speed(specimen, "")

    print("\n| atoms | kDa | displaced A3 | in vacuo V A3/Da, V | in ice V A3/Da, V |\n|---|---|---|---|---|")
    totals = {}
    for name in ("3j9i.pdb.gz", "4v1w.cif.gz", "4v5d.cif.gz"):
        totals[name[:4]] = _both(options.structures / name, axes[kinds:] if name.startswith("3j9i") else None)
    print("\n| map against atoms | V inside the map's envelope that give the atoms' potential |\n|---|---|")
    for name, of in (("3j9i", "3j9i"), ("4v4r", "4v5d")):
        path = options.structures / f"{name}.mrc.gz"
        volume_A3 = _total(density.potential(path)) / density.CONTRAST_V
        print(f"| {name} against {of} | {totals[of] / volume_A3:.2f} |")
    style.save(figure, options.out)


def _total(specimen: Specimen) -> float:
    size = 2 * int(np.ceil(specimen.radius_A / 4)) + 1
    return float(specimen.projection(np.eye(3), size, 4.0).sum() * 16)


def _speed(specimen: Specimen, kDa: str) -> None:
    size = 2 * int(np.ceil(specimen.radius_A / PIXEL_A)) + 1
    specimen.projection(VIEWS[2], size, PIXEL_A)
    start = time.process_time()
    for view in np.tile(VIEWS, (5, 1, 1)):
        specimen.projection(view, size, PIXEL_A)
    seconds = (time.process_time() - start) / 20
    print(f"| {specimen.name} | {specimen.diameter_A:.0f} | {kDa} | {seconds * 1e3:.1f} |")


def _show(axes: np.ndarray, specimen: Specimen, size_A: float = 340.0, span: tuple[float, float] | None = None) -> None:
    """Draw four projections, dark on light, and a profile through the first."""
    size = int(size_A / PIXEL_A)
    projections = [specimen.projection(view, size, PIXEL_A) for view in VIEWS]
    low, high = span or (-50.0, max(float(projection.max()) for projection in projections))
    for axis, projection in zip(axes, projections, strict=False):
        axis.imshow(projection, cmap="gray_r", vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[])
    axes[0].set_title(f"{specimen.name}, {specimen.diameter_A:.0f} A", fontsize=9)
    axes[0].set_ylabel("340 A")
    _profile(axes[4], projections[1])


def _profile(axis: Axes, projection: np.ndarray) -> None:
    middle = len(projection) // 2
    axis.plot(
        (np.arange(len(projection)) - middle) * PIXEL_A, projection[middle - 4 : middle + 5].mean(0), color=style.BLUE
    )
    axis.axhline(0, color=style.BLACK, lw=0.5)
    axis.set_title("second view, middle rows, V A", fontsize=9)


def _both(path: Path, axes: np.ndarray | None) -> float:
    """Print the potential with and without the ice, draw both where there are axes; return the latter's sum."""
    atoms = structure.read(path)
    net = structure.potential(path)
    step, n = net.voxel_size_A, len(net.density_V)
    vacuum = structure.in_vacuo(atoms, n, step)
    sums = [float(values.sum(dtype=np.float64)) * step**3 for values in (vacuum, net.density_V)]
    columns = [f"{total / atoms.mass_kDa / 1e3:.2f}, {total / atoms.displaced_A3:.2f}" for total in sums]
    print(f"| {net.name} | {atoms.mass_kDa:.0f} | {atoms.displaced_A3:.0f} | {columns[0]} | {columns[1]} |")
    if axes is not None:
        alone = Volume(f"{net.name} in vacuo", vacuum, step, net.diameter_A, net.radius_A)
        in_ice = Volume(f"{net.name} in ice", net.density_V, step, net.diameter_A, net.radius_A)
        size = int(340 / PIXEL_A)
        span = (-50.0, max(float(alone.projection(view, size, PIXEL_A).max()) for view in VIEWS))
        _show(axes[0], alone, span=span)
        _show(axes[1], in_ice, span=span)
    return sums[1]


if __name__ == "__main__":
    main()
