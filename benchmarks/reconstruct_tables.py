"""Tables and drawings of `reconstruct.py`, from the figures that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import maps
import mrcfile
import numpy as np
import sets
from matplotlib.figure import Figure

from upicker.draw import style
from upicker.simulate.specimens import density

SHARES = (100, 50, 25)
COLOURS = (style.BLACK, style.BLUE, style.GREEN, style.ORANGE, style.VERMILION)
HEAD = (
    "| set | picker | picks | P / R / F1 | boxes (junk) | kept (junk) | true ones kept | FSC .143, A "
    "| FSC .5 with the map, A | minutes |\n|---|---|---|---|---|---|---|---|---|---|"
)


def publish(
    roots: Mapping[str, Path], pickers: Mapping[str, str], symmetries: Mapping[str, tuple[str, ...]], drawings: Path
) -> None:
    """Print both tables, and draw curves and maps of all that is finished."""
    print(HEAD)
    for name, root in roots.items():
        for picker, title in pickers.items():
            if line := row(name, title, root, picker, symmetries[name][0]):
                print(line)
    print("\n| set | picker | symmetry | particles: FSC .143 / .5 with the map, A |\n|---|---|---|---|")
    shown = []
    for name, root in roots.items():
        for symmetry in symmetries[name]:
            for picker, title in pickers.items():
                done = [measured(root, picker, symmetry, share) for share in SHARES]
                cells = [f"{d.particles}: {d.halves_A:.1f} / {d.map_A:.1f}" for d in done if d]
                if cells:
                    print(f"| {name} | {title} | {symmetry} | {'; '.join(cells)} |")
            if any(measured(root, picker, symmetry, 100) for picker in pickers):
                shown.append((name, symmetry))
    if shown:
        draw_curves(shown, roots, pickers, drawings / "reconstruction_fsc.png")
        draw_maps(shown, roots, pickers, drawings / "reconstruction_maps.png")


@dataclass(frozen=True)
class Measured:
    """A refinement that is finished: the curves by shell, what they come to, and the mean of the halves."""

    particles: int
    seconds: float
    box_A: float
    between: np.ndarray
    against: np.ndarray
    mean: np.ndarray

    @property
    def halves_A(self) -> float:  # noqa: N802
        """Where the FSC of the halves falls below .143, Angstrom."""
        return maps.crossing(self.between, 0.143, self.box_A)

    @property
    def map_A(self) -> float:  # noqa: N802
        """Where the FSC with the true map falls below .5, Angstrom."""
        return maps.crossing(self.against, 0.5, self.box_A)


def halves(folder: Path) -> list[Path]:
    """Return the unfiltered maps of both halves in a folder of ``relion_refine_mpi``."""
    return [folder / f"run_half{half}_class001_unfil.mrc" for half in (1, 2)]


@cache
def measured(root: Path, picker: str, symmetry: str, share: int) -> Measured | None:
    """Compare the halves of a refinement with each other and with the true map; None if it is not finished."""
    found = sets.remembered(root / f"{picker}-{symmetry}-{share}.json")
    if found is None:
        return None
    true, voxel_A = density.read(root / "reference.mrc")
    one, other = (mrcfile.read(half) for half in halves(root / "boxes" / picker / f"{symmetry}-{share}"))
    mask = maps.soft_mask(true)
    between, against = maps.fsc(one * mask, other * mask), maps.fsc((one + other) * mask, true * mask)
    return Measured(found["particles"], found["seconds"], len(true) * voxel_A, between, against, one + other)


def row(name: str, title: str, root: Path, picker: str, symmetry: str) -> str:
    """Return one picker's row of the first table; empty if its refinement is not finished."""
    found = [sets.remembered(root / f"{picker}-{part}.json") for part in ("picks", "boxes", "classes")]
    refined = measured(root, picker, symmetry, 100)
    if refined is None or not all(found):
        return ""
    picks, boxes, classes = (part or {} for part in found)
    seconds = (picks["seconds"], boxes["seconds"], classes["seconds"], refined.seconds)
    return (
        f"| {name} | {title} | {picks['picks']} | {picks['precision']:.3f} / {picks['recall']:.3f} / {picks['f1']:.3f} "
        f"| {boxes['boxes']} ({boxes['junk']:.1%}) | {classes['kept']} ({classes['junk']:.1%}) "
        f"| {classes['true_particles']} | {refined.halves_A:.1f} | {refined.map_A:.1f} "
        f"| {' + '.join(f'{each / 60:.1f}' for each in seconds)} |"
    )


def draw_curves(
    shown: list[tuple[str, str]], roots: Mapping[str, Path], pickers: Mapping[str, str], path: Path
) -> None:
    """Draw the FSC of the halves above, that with the true map below; one column for each set and symmetry."""
    figure = Figure((3.6 * len(shown) + 0.4, 5.6), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, sharey=True)
    for column, (name, symmetry) in enumerate(shown):
        for line, (curve, level, title) in enumerate(
            (("halves", 0.143, "between halves"), ("map", 0.5, "with the true map"))
        ):
            axis = axes[line, column]
            for colour, picker in zip(COLOURS, pickers):
                if found := measured(roots[name], picker, symmetry, 100):
                    values = found.between if curve == "halves" else found.against
                    rate = np.arange(len(values)) / found.box_A
                    axis.plot(rate, values, color=colour, lw=1.3, label=f"{pickers[picker]} ({found.particles})")
                    axis.axvspan(0.8 * len(values) / found.box_A, rate[-1], color="0.94", zorder=0)
            axis.axhline(level, color="0.5", lw=0.8, ls=":")
            axis.set(title=f"{name}, {symmetry}: {title}", ylim=(-0.1, 1.02), xlim=(0, None))
            axis.title.set_fontsize(9)
            if line:
                axis.set_xlabel("1/Å")
            else:
                axis.legend(fontsize=7, frameon=False, loc="upper right")
    for line in (0, 1):
        axes[line, 0].set_ylabel("FSC")
    style.save(figure, path)


def draw_maps(shown: list[tuple[str, str]], roots: Mapping[str, Path], pickers: Mapping[str, str], path: Path) -> None:
    """Draw two central slices of each map, low-passed to the resolution of its halves, beside the true one."""
    figure = Figure((1.35 * (len(pickers) + 1), 1.45 * 2 * len(shown)), layout="constrained")
    axes = figure.subplots(2 * len(shown), len(pickers) + 1, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for line, (name, symmetry) in enumerate(shown):
        found = {picker: measured(roots[name], picker, symmetry, 100) for picker in pickers}
        finished = {pickers[picker]: one for picker, one in found.items() if one}
        best = min(one.halves_A for one in finished.values())
        true, voxel_A = density.read(roots[name] / "reference.mrc")
        cubes = [("true map", maps.low_passed(true, len(true) * voxel_A / best))]
        for title, one in finished.items():
            cubes.append((f"{title}\n{one.halves_A:.1f} Å", maps.low_passed(one.mean, one.box_A / one.halves_A)))
        for column, (title, cube) in enumerate(cubes):
            middle = len(cube) // 2
            for down, plane in enumerate((cube[middle], cube[:, middle])):
                axis = axes[2 * line + down, column]
                inner = plane[6:-6, 6:-6]
                axis.imshow(inner, cmap="gray", vmin=np.percentile(inner, 2), vmax=np.percentile(inner, 99.7))
                if not down:
                    head = title if column else f"{name}, {symmetry}\n{title}"
                    axis.set_title(head, fontsize=7)
    style.save(figure, path)
