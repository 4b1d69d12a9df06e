"""Tables and drawings of `reconstruct.py`, from the figures that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import maps
import mrcfile
import numpy as np
import sets
from matplotlib.figure import Figure

from upicker.draw import style

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
    for name, root in roots.items():
        for symmetry in symmetries[name]:
            for picker, title in pickers.items():
                done = [sets.remembered(root / f"{picker}-{symmetry}-{share}.json") for share in SHARES]
                cells = [f"{d['particles']}: {d['halves_A']:.1f} / {d['map_A']:.1f}" for d in done if d]
                if cells:
                    print(f"| {name} | {title} | {symmetry} | {'; '.join(cells)} |")
    shown = [
        (name, symmetry) for name in roots for symmetry in symmetries[name] if _done(roots[name], symmetry, pickers)
    ]
    if shown:
        draw_curves(shown, roots, pickers, drawings / "reconstruction_fsc.png")
        draw_maps(shown, roots, pickers, drawings / "reconstruction_maps.png")


def _done(root: Path, symmetry: str, pickers: Mapping[str, str]) -> list[str]:
    return [picker for picker in pickers if (root / f"{picker}-{symmetry}-100.json").exists()]


def row(name: str, title: str, root: Path, picker: str, symmetry: str) -> str:
    """Return one picker's row of the first table; empty if its refinement is not finished."""
    parts = ("picks", "boxes", "classes", f"{symmetry}-100")
    found = [sets.remembered(root / f"{picker}-{part}.json") for part in parts]
    if not all(found):
        return ""
    picks, boxes, classes, refined = (part or {} for part in found)
    minutes = " + ".join(f"{part['seconds'] / 60:.1f}" for part in (picks, boxes, classes, refined))
    return (
        f"| {name} | {title} | {picks['picks']} | {picks['precision']:.3f} / {picks['recall']:.3f} / {picks['f1']:.3f} "
        f"| {boxes['boxes']} ({boxes['junk']:.1%}) | {classes['kept']} ({classes['junk']:.1%}) "
        f"| {classes['true_particles']} | {refined['halves_A']:.1f} | {refined['map_A']:.1f} | {minutes} |"
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
                found = sets.remembered(roots[name] / f"{picker}-{symmetry}-100.json")
                if found:
                    values = found[curve]
                    rate = np.arange(len(values)) / (len(values) * found["nyquist_A"])
                    label = f"{pickers[picker]} ({found['particles']})"
                    axis.plot(rate, values, color=colour, lw=1.4, label=label)
                    axis.axvspan(0.8 / found["nyquist_A"], 1 / found["nyquist_A"], color="0.94", zorder=0)
            axis.axhline(level, color="0.5", lw=0.8, ls=":")
            axis.set(title=f"{name}, {symmetry}: {title}", ylim=(-0.1, 1.02), xlim=(0, None))
            axis.title.set_fontsize(9)
            if line:
                axis.set_xlabel("1/Å")
            else:
                axis.legend(fontsize=7, frameon=False)
    for line in (0, 1):
        axes[line, 0].set_ylabel("FSC")
    style.save(figure, path)


def draw_maps(shown: list[tuple[str, str]], roots: Mapping[str, Path], pickers: Mapping[str, str], path: Path) -> None:
    """Draw two central slices of each map, low-passed to where it agrees with the true one, beside the true one."""
    figure = Figure((1.35 * (len(pickers) + 1), 1.45 * 2 * len(shown)), layout="constrained")
    axes = figure.subplots(2 * len(shown), len(pickers) + 1, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for line, (name, symmetry) in enumerate(shown):
        cubes = [("true map", mrcfile.read(roots[name] / "reference.mrc"))]
        for picker in pickers:
            folder = roots[name] / "boxes" / picker / f"{symmetry}-100"
            found = sets.remembered(roots[name] / f"{picker}-{symmetry}-100.json")
            halves = [folder / f"run_half{half}_class001_unfil.mrc" for half in (1, 2)]
            if found and all(half.exists() for half in halves):
                cube = mrcfile.read(halves[0]) + mrcfile.read(halves[1])
                side_A = len(cube) * found["nyquist_A"] / 2
                cubes.append(
                    (f"{pickers[picker]}\n{found['halves_A']:.1f} Å", maps.low_passed(cube, side_A / found["halves_A"]))
                )
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
