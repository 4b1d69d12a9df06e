"""Real and simulated micrographs side by side: images, power spectra, contrast and SNR.

    python benchmarks/realism.py [--data ../shared/data] [--structures ../shared/structures] [--count 5]

Three pairs: the proteasome micrographs (20S, 7.84 A a pixel) and simulated 20S proteasomes (3J9I); apoferritin
(about 1.6 A) and simulated apoferritin (4V1W); EMPIAR-10017 (beta-galactosidase, 1.77 A) and the built-in rod of D2
symmetry. What the simulation cannot know was taken from the real micrographs: the number of particles and how they lie,
the range of defocus (where the spectrum's first zero is) and the dose (from the noise's floor in the spectrum; it is an
effective one, because the losses of their cameras are not known). So what is compared is the look and the
spectrum's shape, not the amount of noise. Of the real micrographs

- those of the proteasome were reduced from a finer pixel and cut off at 0 and 255, and the first and third set were
  flattened; the simulated ones have as many pixels cut off;
- those of EMPIAR-10017 were DENOISED by others (a filter of Wiener's kind) before they were made JPG: neither their
  spectrum beyond about 1/40 A nor their SNR can be compared. For the eye, the simulated ones are filtered to have
  the same spectrum.

What is computed is computed alike for both:

- spectrum: mean periodogram over squares with a Hann window, by ring, over the power between 1/300 and 1/60 A;
- SNR by spectrum: power between 1/300 and 1/20 A above the floor, over the floor: the mean of the highest tenth of
  all frequencies;
- SNR by labels: after a band-pass from 1/400 to 1/20 A, the mean square within 0.4 diameters of the labels (about the
  mean of the background: what lies beyond 0.75 diameters of all labels), less the background's variance, over the
  latter; and contrast: how many standard deviations of the background the discs' mean lies below it. Labels of real
  micrographs miss particles and hit ice, which lowers both, most of all for the proteasome: its labels are some
  program's, and hardly any background lies between the particles.

Writes docs/realism.png and docs/spectra.png, prints markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial import KDTree

from upicker.draw import style
from upicker.image.fourier import resample
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.simulate.microscope.optics import Optics
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Contamination, Ice, Scene, make
from upicker.simulate.specimens.specimen import BUILT_IN

SQUARE_PX = 256
LOWPASS_A, HIGHPASS_A = 20.0, 400.0
BAND_A = 300.0, 60.0
INSIDE, OUTSIDE = 0.4, 0.75


@dataclass(frozen=True, eq=False)
class Labelled:
    """A micrograph and its labels, at the pixel size of the comparison."""

    pixels: np.ndarray
    labels: Particles
    pixel_size_A: float


@dataclass(frozen=True)
class Pair:
    """A set of real micrographs, and how similar ones are simulated.

    Attributes
    ----------
    name, folder : in the folder of data.
    pixel_size_A : of the real micrographs as stored.
    reduced : by how much they are reduced before the comparison.
    border_px : what is cut off from each side: frames that motion correction left.
    scene : of the simulation, at `finer` times the pixels of the comparison.
    finer : by how much the simulated micrographs are reduced.
    denoised : whether somebody filtered the real micrographs.
    """

    name: str
    folder: str
    pixel_size_A: float
    reduced: int
    border_px: int
    scene: Scene
    finer: int
    denoised: bool = False

    @property
    def kinds(self) -> tuple[str, str]:
        """What the real and the simulated micrographs are called."""
        return "real, denoised by others" if self.denoised else "real", "simulated"


CLEAN = Contamination.level("none")
PAIRS = (
    Pair(
        "20S proteasome",
        "proteasome20s",
        7.84,
        1,
        0,
        Scene(
            specimens=("3j9i.pdb.gz",),
            diameter_A=188.0,
            shape=(1024, 1024),
            pixel_size_A=3.92,
            particles=600,
            # They lie on their sides, side by side; the barrel of 3J9I lies across the file's z.
            placement=Placement(min_distance=0.62, preferred=-6.0),
            contamination=CLEAN,
            ice=Ice(thickness_A=350.0, gradient=0.2),
            dose_e_A2=12.0,
            defocus_A=(15000.0, 33000.0),
            seed=5,
        ),
        2,
    ),
    Pair(
        "apoferritin",
        "apoferritin",
        1.6,
        1,
        0,
        Scene(
            specimens=("4v1w.cif.gz",),
            diameter_A=115.0,
            shape=(1200, 1240),
            pixel_size_A=1.6,
            particles=170,
            placement=Placement(min_distance=0.95),
            contamination=CLEAN,
            ice=Ice(thickness_A=350.0, gradient=0.2),
            dose_e_A2=25.0,
            defocus_A=(16000.0, 25000.0),
            seed=4,
        ),
        1,
    ),
    Pair(
        "EMPIAR-10017",
        "empiar10017",
        1.77,
        2,
        80,
        Scene(
            specimens=("rod",),
            shape=(2048, 2048),
            pixel_size_A=3.54,
            particles=650,
            placement=Placement(min_distance=0.75),
            contamination=CLEAN,
            ice=Ice(thickness_A=400.0, gradient=0.3),
            dose_e_A2=10.0,
            optics=Optics(Cs_mm=2.0),
            defocus_A=(15000.0, 35000.0),
            seed=6,
        ),
        1,
        True,
    ),
)


def real(data: Path, pair: Pair, count: int) -> list[Labelled]:
    """Read the first real micrographs of a pair."""
    found = []
    for path in micrographs.find([data / pair.folder / "micrographs"])[:count]:
        inner = micrographs.read(path).pixels[pair.border_px :, pair.border_px :]
        labels = coordinates.read(data / pair.folder / "coords" / f"{path.stem}.csv")
        labels = replace(labels, xy=labels.xy - pair.border_px)
        found.append(_reduced(inner, labels, pair.pixel_size_A, pair.reduced))
    return found


def simulated(structures: Path, pair: Pair, count: int, like: list[Labelled]) -> list[Labelled]:
    """Simulate micrographs, reduce them, and cut off as many pixels at both ends as in the real ones."""
    scene = pair.scene
    scene = replace(scene, specimens=tuple(n if n in BUILT_IN else str(structures / n) for n in scene.specimens))
    found = []
    for index in range(count):
        made = make(scene, index)
        example = _reduced(made.micrograph.pixels, made.particles, scene.pixel_size_A, pair.finer)
        other = like[index % len(like)].pixels
        ends = [np.mean(other <= other.min()), 1 - np.mean(other >= other.max())]
        low, high = np.quantile(example.pixels, ends)
        found.append(replace(example, pixels=np.clip(example.pixels, low, high)))
        print(f"{pair.name}, simulated {index}: {len(made.particles)} particles, defocus {made.defocus_A / 1e4:.2f} um")
    return found


def _reduced(pixels: np.ndarray, labels: Particles, pixel_size_A: float, factor: int) -> Labelled:
    rows, columns = (n // factor for n in pixels.shape)
    inside = labels.select(labels.inside((factor * rows, factor * columns)))
    scaled = Particles.of(inside.xy / factor, inside.diameter_px / factor)
    whole = pixels[: factor * rows, : factor * columns]
    return Labelled(resample([whole], whole.shape, (rows, columns)), scaled, pixel_size_A * factor)


def filtered(example: Labelled) -> np.ndarray:
    """Return the micrograph between `HIGHPASS_A` and `LOWPASS_A`, Gaussian flanks, in standard deviations."""
    mirrored = np.pad(example.pixels, [(0, n) for n in example.pixels.shape], mode="symmetric")
    rows, columns = (np.fft.fftfreq(n, example.pixel_size_A) for n in mirrored.shape)
    k2 = rows[:, None] ** 2 + columns**2
    keep = np.exp(-k2 * LOWPASS_A**2 / 2) - np.exp(-k2 * HIGHPASS_A**2 / 2)
    height, width = example.pixels.shape
    smooth = np.real(np.fft.ifft2(np.fft.fft2(mirrored) * keep))[:height, :width]
    return smooth / smooth.std()


def spectrum(examples: Sequence[Labelled]) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies (1 / A) and the mean power by ring, both without ring 0, over the power in `BAND_A`."""
    window = np.hanning(SQUARE_PX)[:, None] * np.hanning(SQUARE_PX)
    k = np.fft.fftfreq(SQUARE_PX, 1 / SQUARE_PX)
    ring = np.hypot(k[:, None], k).round().astype(int).ravel()
    total, squares = np.zeros(SQUARE_PX // 2 - 1), 0
    for example in examples:
        for top in range(0, example.pixels.shape[0] - SQUARE_PX + 1, SQUARE_PX // 2):
            for left in range(0, example.pixels.shape[1] - SQUARE_PX + 1, SQUARE_PX // 2):
                square = example.pixels[top : top + SQUARE_PX, left : left + SQUARE_PX]
                power = np.abs(np.fft.fft2((square - square.mean()) * window)).ravel() ** 2
                total += (np.bincount(ring, power) / np.bincount(ring))[1 : SQUARE_PX // 2]
                squares += 1
    frequency = np.arange(1, SQUARE_PX // 2) / (SQUARE_PX * examples[0].pixel_size_A)
    band = (frequency > 1 / BAND_A[0]) & (frequency < 1 / BAND_A[1])
    return frequency, total / total[band].mean()


def matched(example: Labelled, own: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> Labelled:
    """Filter a micrograph by ring, so that micrographs of the spectrum `own` get the spectrum `other`."""
    rows, columns = (np.fft.fftfreq(n, example.pixel_size_A) for n in example.pixels.shape)
    k = np.hypot(rows[:, None], columns)
    gain = np.sqrt(np.interp(k, *other) / np.interp(k, *own))
    centred = example.pixels - example.pixels.mean()
    return replace(example, pixels=np.real(np.fft.ifft2(np.fft.fft2(centred) * gain)))


def above_floor(frequency: np.ndarray, power: np.ndarray) -> float:
    """Return the SNR by spectrum; each ring counts with its circumference."""
    top = frequency > 0.9 * frequency[-1]
    band = (frequency > 1 / BAND_A[0]) & (frequency < 1 / LOWPASS_A)
    return float(np.average(power[band], weights=frequency[band]) / power[top].mean() - 1)


def contrast(examples: Sequence[Labelled]) -> tuple[float, float, int]:
    """Return SNR and contrast as the module says, pooled, and how many labels a micrograph has."""
    inside, outside = [], []
    for example in examples:
        smooth = filtered(example)
        rows, columns = np.indices(smooth.shape)
        distance, _ = KDTree(example.labels.xy).query(np.stack([columns.ravel(), rows.ravel()], 1))
        distance /= np.median(example.labels.diameter_px)
        inside.append(smooth.ravel()[distance < INSIDE])
        outside.append(smooth.ravel()[distance > OUTSIDE])
    within, beyond = np.concatenate(inside), np.concatenate(outside)
    noise = beyond.var()
    # About the background's mean: a particle is darker than it, which is part of its signal.
    signal = np.mean((within - beyond.mean()) ** 2) - noise
    labels = round(sum(len(p.labels) for p in examples) / len(examples))
    return float(signal / noise), float((beyond.mean() - within.mean()) / np.sqrt(noise)), labels


def show(rows: list[tuple[Pair, list[Labelled], list[Labelled]]], path: Path, diameters: float) -> None:
    """Draw the middle of the first real and simulated micrographs, as they are and filtered."""
    figure = Figure((16, 4.25 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for line, (pair, ones, others) in zip(axes, rows):
        alike = matched(others[0], spectrum(others), spectrum(ones)) if pair.denoised else others[0]
        band = f"{HIGHPASS_A:.0f} to {LOWPASS_A:.0f} Å"
        size = f"{ones[0].pixel_size_A:.2f} Å a pixel"
        how = f"as the real ones, {band}" if pair.denoised else band
        shown = (
            (ones[0], ones[0].pixels, f"{pair.kinds[0]}: {size}"),
            (others[0], others[0].pixels, f"{pair.kinds[1]}: {size}"),
            (ones[0], filtered(ones[0]), f"{pair.kinds[0]}: {band}"),
            (others[0], filtered(alike), f"{pair.kinds[1]}: {how}"),
        )
        for axis, (example, pixels, title) in zip(line, shown):
            side = min(*pixels.shape, round(diameters * float(np.median(example.labels.diameter_px))))
            top, left = ((n - side) // 2 for n in pixels.shape)
            part = pixels[top : top + side, left : left + side]
            low, high = part.mean() - 3 * part.std(), part.mean() + 3 * part.std()
            axis.imshow(part, cmap="gray", vmin=low, vmax=high)
            axis.set_title(f"{pair.name}, {title}", fontsize=9)
            axis.axis("off")
    style.save(figure, path)


def plot(rows: list[tuple[Pair, list[Labelled], list[Labelled]]], path: Path) -> None:
    """Draw the power spectra of all pairs."""
    figure = Figure((5 * len(rows), 4.2), layout="constrained")
    axes = figure.subplots(1, len(rows), squeeze=False)[0]
    for axis, (pair, *both) in zip(axes, rows):
        for examples, kind, colour in zip(both, pair.kinds, (style.BLUE, style.VERMILION)):
            axis.semilogy(*spectrum(examples), color=colour, label=f"{kind} ({len(examples)})")
        axis.set(title=pair.name, xlabel="1 / Å", ylabel="power, over that of 1/300 to 1/60 Å")
        axis.legend()
        axis.grid(alpha=0.3)
    style.save(figure, path)


def main() -> None:
    """Parse the options, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--structures", type=Path, default=Path("../shared/structures"))
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the drawings")
    parser.add_argument("--count", type=int, default=5, help="micrographs of each kind, the first by name")
    parser.add_argument("--diameters", type=float, default=16, help="side of the parts that are drawn")
    options = parser.parse_args()
    pairs = []
    for pair in PAIRS:
        if not (options.data / pair.folder).is_dir():
            raise SystemExit(f"{options.data / pair.folder}: is not there; name the folder of real data with --data")
        ones = real(options.data, pair, options.count)
        pairs.append((pair, ones, simulated(options.structures, pair, options.count, ones)))
    show(pairs, options.docs / "realism.png", options.diameters)
    plot(pairs, options.docs / "spectra.png")
    print("| set | micrographs | labels per micrograph | SNR by spectrum | SNR by labels | contrast by labels |")
    print("|---|---|---|---|---|---|")
    for pair, *both in pairs:
        for kind, examples in zip(pair.kinds, both):
            snr, depth, labels = contrast(examples)
            whole = "-" if pair.denoised and examples is both[0] else f"{above_floor(*spectrum(examples)):.2f}"
            print(f"| {pair.name}, {kind} | {len(examples)} | {labels} | {whole} | {snr:.2f} | {depth:.2f} |")


if __name__ == "__main__":
    main()
