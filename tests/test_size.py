"""The diameter by itself: from scores over given diameters, with functions and a filter that stand for the network."""

import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import upicker
from scipy.ndimage import gaussian_laplace, maximum_filter

from upicker.config import Config
from upicker.errors import InputError
from upicker.io import mrc
from upicker.io.coordinates import read as read_coordinates
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph
from upicker.pick import picker as picker_module
from upicker.pick import size
from upicker.pick.decoys import negated
from upicker.pick.network import LoadedNetwork
from upicker.pick.picker import Picker
from upicker.pick.scales import Judged, binned, central, judge
from upicker.pick.size import Estimate, Nothing, estimated, ladder, own
from upicker.run import decoys
from upicker.run.find import changed_settings, find_all
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking
from upicker.run.record import read as read_record
from upicker.run.size import Followed, earlier, find, follow, negate
from upicker.units import Length

RUNGS = ladder(8, 512)


@pytest.fixture(autouse=True)
def least(monkeypatch):
    """The scores of a filter differ less from chance than those of the general model, for which `LEAST` is set."""
    monkeypatch.setattr(size, "LEAST", 0.15)


def peaked(*peaks: tuple[float, float], chance: float = 0.4, width: float = 0.5, bias: float = 0.3):
    """Excess over chance with peaks (diameter, height), `width` octaves wide; negative heights are of the opposite.

    Boxes have the size of the nearest peak, but follow the given diameter a little.
    """
    asked = []

    def at(diameter_px: float) -> Judged:
        asked.append(diameter_px)
        excess = sum(h * math.exp(-((math.log2(diameter_px / d) / width) ** 2) / 2) for d, h in peaks)
        true = min((d for d, _ in peaks), key=lambda d: abs(math.log(d / diameter_px)))
        return Judged(diameter_px, chance + excess, chance, true * (diameter_px / true) ** bias, excess)

    at.asked = asked
    return at


def ignored(done: int, total: int) -> None:
    """No progress is shown."""


def test_the_ladder_spans_its_range():
    assert RUNGS[0] == 8
    np.testing.assert_allclose(np.diff(np.log2(RUNGS)), 0.5)
    assert RUNGS[-1] == pytest.approx(512)
    assert ladder(8, 8) == [8]


@pytest.mark.parametrize("true", [12.0, 24.0, 61.0, 108.0, 300.0, 500.0])
@pytest.mark.parametrize("width", [0.4, 1.0])
def test_the_boxes_where_particles_stand_out_tell_the_diameter(true, width):
    found = estimated(peaked((true, 0.3), width=width), RUNGS, ignored)
    assert isinstance(found, Estimate)
    assert found.diameter_px == pytest.approx(true, rel=0.02)
    assert found.low_px < true < found.high_px
    assert found.second_px is None


def test_progress_tells_how_much_is_done():
    at, steps = peaked((100, 0.3)), []
    estimated(at, RUNGS, lambda done, of: steps.append((done, of)))
    assert at.asked[: len(RUNGS)] == RUNGS
    assert steps == [(n, len(at.asked)) for n in range(1, len(at.asked) + 1)]


def test_two_sizes_are_two_candidates():
    found = estimated(peaked((60, 0.4), (240, 0.3), width=0.4), RUNGS, ignored)
    assert isinstance(found, Estimate)
    assert found.diameter_px == pytest.approx(60, rel=0.2)
    assert found.second_px == pytest.approx(240, rel=0.2)


@pytest.mark.parametrize("other", [(240, 0.1), (90, 0.38)])
def test_a_low_second_peak_or_a_shoulder_is_no_candidate(other):
    found = estimated(peaked((60, 0.4), other, width=0.4), RUNGS, ignored)
    assert isinstance(found, Estimate)
    assert found.second_px is None


def test_chance_alone_is_nothing():
    assert estimated(peaked((60, 0.9 * size.LEAST)), RUNGS, ignored) == Nothing(
        pytest.approx(0.9 * size.LEAST, abs=0.01)
    )
    assert estimated(lambda diameter: None, RUNGS, ignored) == Nothing(0.0)


def test_the_opposite_contrast_is_told():
    found = estimated(peaked((60, -0.3)), RUNGS, ignored)
    assert isinstance(found, Nothing)
    assert found.opposite


class Blobs:
    """A blob filter that scores a disc highest if it has the working diameter, and measures its size."""

    def __init__(self, diameter: float) -> None:
        self.diameters = diameter * 2.0 ** np.linspace(-1, 1, 9)

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, boxes = [], []
        for tile in tiles[:, 0]:
            heights = np.stack([-(d**2 / 8) * gaussian_laplace(tile, d / np.sqrt(8)) for d in self.diameters])
            usual = heights[4]
            top = np.where(usual >= maximum_filter(usual, round(self.diameters[4] / 2)), usual, 0)
            at = np.argsort(-top, axis=None)[:200]
            y, x = np.unravel_index(at, tile.shape)
            scores.append(1 - np.exp(-top.ravel()[at].clip(0) / 3))
            side = self.diameters[heights[:, y, x].argmax(0)]
            boxes.append(np.stack([x, y, side, side], 1))
        return np.float32(scores), np.float32(boxes)


def blobs(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """Return the back end of `Blobs`; it knows no diameter."""
    plain = {"image.mask": False, "train.device": "cpu", "pick.views": 1, "image.working_diameter_px": 16}
    config = Config().with_changes({**plain, **changes})
    return LoadedNetwork(Blobs(16), config, None, 0.5, "cpu")


@pytest.fixture
def picker(tmp_path) -> Picker:
    """A picker without a file."""
    return Picker(tmp_path / "blobs.onnx", {}, blobs)


def discs(diameter: float, seed: int, contrast: float = -8.0, shape: tuple[int, int] = (330, 422)) -> np.ndarray:
    """Discs of one size on noise, well apart."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = rng.normal(100, 4, shape)
    step = 2 * diameter
    for cy in np.arange(step / 2, shape[0], step):
        for cx in np.arange(step / 2, shape[1], step):
            jitter = rng.uniform(-0.4, 0.4, 2) * diameter
            pixels += contrast * (np.hypot(x - cx - jitter[0], y - cy - jitter[1]) < diameter / 2)
    return pixels.astype(np.float32)


def written(folder: Path, diameter: float, pixel_size_A: float | None = 2.0, **drawn: float) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"m{i}.mrc" for i in range(3)]
    for i, path in enumerate(paths):
        mrc.write(path, discs(diameter, i, **drawn), pixel_size_A)
    return paths


@pytest.mark.parametrize("diameter", [16.0, 27.0, 44.0])
def test_drawn_discs_get_their_diameter(tmp_path, picker, diameter):
    paths = written(tmp_path / "mics", diameter)
    found = find(picker, paths, Reading())
    assert found.estimate.diameter_px == pytest.approx(diameter, rel=0.12)
    assert found.diameter.unit == "A"
    assert found.diameter.value == pytest.approx(2 * found.estimate.diameter_px, rel=1e-3)
    line = f"diameter: {found.estimate.diameter_px:.0f} px ({found.diameter.value:.0f} A), "
    assert found.lines()[0].startswith(line)
    assert find(picker, paths[::-1], Reading()) == found


def test_without_a_pixel_size_there_are_pixels_alone(tmp_path, picker):
    found = find(picker, written(tmp_path / "mics", 27, pixel_size_A=None), Reading())
    assert found.diameter == Length(float(f"{found.estimate.diameter_px:.4g}"), "px")
    assert " A" not in found.lines()[0]


def test_what_cannot_be_read_is_passed_over(tmp_path, picker):
    paths = written(tmp_path / "mics", 27)
    broken = tmp_path / "mics" / "broken.mrc"
    broken.write_bytes(b"none")
    found = find(picker, [broken, *paths], Reading())
    assert broken not in found.micrographs
    with pytest.raises(InputError, match=r"broken\.mrc"):
        find(picker, [broken], Reading())


def test_noise_is_refused(tmp_path, picker):
    with pytest.raises(InputError, match="nothing like a particle"):
        find(picker, written(tmp_path / "mics", 27, contrast=0.0), Reading())


@pytest.mark.parametrize("given", [None, Length(27, "px")])
def test_bright_particles_are_found_where_nobody_said_that_they_are_dark(tmp_path, picker, given):
    """A negated picker is that in another process, too, and is not negated again."""
    paths = written(tmp_path / "mics", 27, contrast=8.0)
    assert not picker.knows_contrast
    if given is None:
        found = find(picker, paths, Reading())
        assert found.particles == "bright"
        assert found.estimate.diameter_px == pytest.approx(27, rel=0.12)
    else:
        assert negate(picker, paths, Reading(), given) == "bright"
    assert negate(picker, paths, Reading(), Length(27, "px")) is None
    for one in (picker, pickle.loads(pickle.dumps(picker)), picker.changed({"pick.views": 2})):
        assert one.config.image.particles == "bright"
        one.threshold = 0.05
        assert len(one.pick(Reading().read(paths[0]), 27.0)) > 10


def test_dark_particles_and_noise_are_not_negated(tmp_path, picker):
    for name, contrast in (("dark", -8.0), ("noise", 0.0)):
        paths = written(tmp_path / name, 27, contrast=contrast)
        assert negate(picker, paths, Reading(), Length(27, "px")) is None
    assert picker.config.image.particles == "dark"


def test_bright_particles_are_refused_where_the_user_said_that_they_are_dark(tmp_path, picker):
    paths = written(tmp_path / "mics", 27, contrast=8.0)
    dark = picker.changed({"image.particles": "dark"})
    with pytest.raises(InputError, match=r"image\.particles=bright"):
        find(dark, paths, Reading())
    assert negate(dark, paths, Reading(), Length(27, "px")) is None
    bright = picker.changed({"image.particles": "bright"})
    assert find(bright, paths, Reading()).estimate.diameter_px == pytest.approx(27, rel=0.12)


def test_pixel_sizes_that_differ_are_the_same_length(picker):
    one, other = Micrograph(discs(24, 0), "one", 2.0), Micrograph(discs(48, 1), "other", 1.0)
    both = judge(picker, [one, other], 24)
    assert both is not None
    assert both.excess > 0.9 * min(judge(picker, [m], d).excess for m, d in ((one, 24), (other, 48)))  # type: ignore[union-attr]


def test_only_the_centre_is_shown():
    whole = Micrograph(np.arange(35.0).reshape(5, 7).astype(np.float32), "m")
    np.testing.assert_array_equal(central(whole, 3).pixels, whole.pixels[1:4, 2:5])
    assert central(whole, 100).shape == (5, 7)


def test_binning_takes_means_of_whole_squares():
    small = binned(Micrograph(np.arange(35.0).reshape(5, 7).astype(np.float32), "m", 1.5), 2)
    np.testing.assert_array_equal(small.pixels, [[4, 6, 8], [18, 20, 22]])
    assert small.pixel_size_A == 3.0


def test_large_diameters_are_found_as_small_ones_are(picker):
    large = Micrograph(discs(130, 0, shape=(900, 1110)), "large")
    at = [judge(picker, [large], diameter) for diameter in (65, 130)]
    assert at[0] is not None
    assert at[1] is not None
    assert at[1].excess > max(size.LEAST, at[0].excess)


@pytest.mark.parametrize("given", [0.65, 0.7, 0.85, 1.15, 1.3, 1.5])
def test_the_boxes_near_a_given_diameter_tell_how_large_particles_are(given):
    at = peaked((108, 0.4))
    assert given * own(at, given * 108) == pytest.approx(1, rel=0.06)
    assert len(at.asked) <= size.LOOKS


@pytest.mark.parametrize("given", [0.94, 1.0, 1.06])
def test_a_diameter_that_is_given_rightly_is_looked_at_once(given):
    at = peaked((108, 0.4))
    assert own(at, given * 108) == 1
    assert at.asked == [given * 108]


def test_particles_that_stand_out_at_their_own_size_alone_are_found():
    narrow = peaked((108, 0.4), width=0.15)
    first = narrow(70.0)
    assert first.excess < size.LEAST
    assert 70 * own(narrow, 70) == pytest.approx(108, rel=0.1)


def test_chance_two_sizes_and_what_cannot_be_shown_leave_the_given_diameter():
    there = Judged(100, 0.8, 0.4, 140, 0.4)
    assert own(lambda d: there, 100) == 1.4
    assert own(lambda d: replace(there, excess=0.9 * size.LEAST), 100) == 1
    assert own(lambda d: replace(there, alike=0.6), 100) == 1
    assert own(lambda d: None, 100) == 1
    assert own(lambda d: there if d == 100 else None, 100) == 1


def test_boxes_outside_limits_do_not_count(picker):
    pixels = np.hstack([discs(20, 0), discs(34, 1)])
    micrograph = Micrograph(pixels, "both")
    mixed = judge(picker, [micrograph], 26)
    assert mixed is not None
    assert mixed.alike < size.ALIKE
    for limits, true in (((14, 26), 20), ((27, 50), 34)):
        one = judge(picker, [micrograph], 26, limits)
        assert one is not None
        assert one.box_px == pytest.approx(true, rel=0.12)
        assert one.alike > 0.9
    nothing = judge(picker, [micrograph], 26, (60, 70))
    assert nothing is not None
    assert (nothing.excess, nothing.alike) == (0, 0)


@pytest.mark.parametrize(("given", "clear"), [(27, False), (20, True), (38, True)])
def test_the_working_scale_follows_the_particles_and_picks_carry_the_given_diameter(picker, given, clear):
    micrograph, picker.threshold = Micrograph(discs(27, 0), "m", 2.0), 0.3
    found = picker.follow([micrograph], given)
    assert found == picker.relative_size == (pytest.approx(27 / given, rel=0.1) if clear else 1)
    prepared = picker.prepared(micrograph, given)
    assert prepared.diameter_px == given
    assert prepared.frame.scale == pytest.approx(16 / (found * given), rel=0.01)
    picks = picker.pick(micrograph, given)
    assert len(picks) > 20
    np.testing.assert_array_equal(picks.diameter_px, given)


def test_limits_and_margin_are_of_the_given_diameter(picker):
    micrograph, picker.threshold = Micrograph(discs(27, 0), "m", 2.0), 0.3
    picker.relative_size = 27 / 40
    near = {"pick.smallest": 0.6, "pick.largest": 0.8}  # 27 px are 0.68 of 40 px
    assert len(picker.changed(near).pick(micrograph, 40)) > 20
    assert not len(picker.changed({"pick.smallest": 0.85, "pick.largest": 1.2}).pick(micrograph, 40))
    inner = picker.changed({"pick.edge_diameters": 1.0}).pick(micrograph, 40)
    assert len(inner) > 5
    assert inner.xy.min() >= 39.5


def test_a_working_scale_is_kept_by_a_changed_picker_and_in_another_process(picker):
    picker.relative_size = 0.8
    assert picker.changed({"pick.views": 2}).relative_size == 0.8
    assert pickle.loads(pickle.dumps(picker)).relative_size == 0.8


def test_what_is_looked_at_does_not_depend_on_the_working_scale_so_far(tmp_path, picker):
    paths = written(tmp_path / "mics", 27)
    before = find(picker, paths, Reading())
    picker.relative_size = 0.7
    assert find(picker, paths, Reading()) == before
    again = follow(picker, paths, Reading(), Length(40, "px"))
    assert again == follow(picker, paths[::-1], Reading(), Length(80, "A"))


def test_weights_of_one_size_and_a_knob_leave_the_given_diameter(tmp_path, picker):
    paths, given = written(tmp_path / "mics", 27), Length(40, "px")
    assert follow(picker, paths, Reading(), given) is not None
    off = picker.changed({"pick.follow": False})
    assert follow(off, paths, Reading(), given) is None
    assert off.relative_size == 1

    def of_one_size(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
        return replace(blobs(path, changes), diameter=given)

    fixed = Picker(picker.path, {}, of_one_size)
    assert fixed.follow([Micrograph(discs(27, 0), "m")], 40) == 1
    assert follow(fixed, paths, Reading(), given) is None


def test_noise_and_what_cannot_be_read_leave_the_given_diameter(tmp_path, picker):
    paths = written(tmp_path / "mics", 27, contrast=0.0)
    assert follow(picker, paths, Reading(), Length(50, "px")) is None
    broken = tmp_path / "mics" / "broken.mrc"
    broken.write_bytes(b"none")
    picker.relative_size = 0.7
    assert follow(picker, [broken], Reading(), Length(50, "px")) is None
    assert picker.relative_size == 1


@pytest.mark.parametrize(("relative", "doubtful"), [(0.7, True), (0.85, False), (1.2, False), (1.4, True)])
def test_a_third_is_doubtful(relative, doubtful):
    found = Followed(relative, 100.0)
    assert found.doubtful == doubtful
    assert found.line() == f"working scale: particles look {100 * relative:.0f} px wide, not the 100 px given"


@pytest.fixture
def command(tmp_path, monkeypatch) -> Path:
    """The current folder; the command line's pickers are of `Blobs`."""
    monkeypatch.chdir(tmp_path)
    Path("w.safetensors").write_bytes(b"")

    def opened(path: Path, config: Mapping[str, object] | None = None, _: object = None) -> Picker:
        return Picker(path, config, blobs)

    monkeypatch.setattr(picker_module, "Picker", opened)
    return tmp_path


def test_upicker_size_prints_the_diameter_first(command, capsys):
    written(command / "mics", 27)
    code, out, err = upicker(capsys, "size", "mics", "--model", "w.safetensors")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("diameter: 2")
    assert "of 3 of 3 micrographs" in out


def test_upicker_size_refuses_noise(command, capsys):
    written(command / "mics", 27, contrast=0.0)
    code, out, err = upicker(capsys, "size", "mics", "--model", "w.safetensors")
    assert (code, out) == (1, "")
    assert "nothing like a particle was found at any diameter" in err


PICK = ("pick", "mics", "--model", "w.safetensors", "-o", "picks", "--jobs", 1)


def test_picking_without_a_diameter_finds_it_once(command, capsys):
    paths = written(command / "mics", 27)
    code, out, err = upicker(capsys, *PICK)
    assert (code, err) == (0, "")
    first = out.splitlines()[0]
    assert first.startswith("diameter: 2")
    diameter = read_record(Path("picks")).diameter
    assert diameter is not None
    assert f"({diameter.value:.0f} A)" in first
    picked = read_coordinates(Path("picks/m0.csv")).diameter_px
    np.testing.assert_allclose(picked, diameter.value / 2, rtol=0.01)

    # Continued, with a micrograph that alone would give another diameter.
    Path("picks/m0.csv").unlink()
    mrc.write(paths[0], discs(60, 0), 2.0)
    code, out, err = upicker(capsys, *PICK, "--skip-existing")
    assert (code, err) == (0, "")
    assert f"diameter: {diameter}, as picks/run.toml says" in out
    assert read_record(Path("picks")).diameter == diameter


def test_picking_noise_without_a_diameter_is_refused(command, capsys):
    written(command / "mics", 27, contrast=0.0)
    code, _, err = upicker(capsys, *PICK)
    assert code == 1
    assert "nothing like a particle" in err
    assert not Path("picks").exists()


def test_picking_with_a_wrong_diameter_follows_the_particles_and_says_so(command, capsys):
    written(command / "mics", 27)
    code, out, err = upicker(capsys, *PICK, "--diameter", "80A")
    assert code == 0
    assert out.splitlines()[0].startswith("working scale: particles look 2")
    assert "px wide, not the 40 px given" in out
    assert "--diameter 80A: the particles seem to be of another size, about 2" in err
    record = read_record(Path("picks"))
    assert record.diameter == Length(80, "A")
    assert record.relative_size == pytest.approx(27 / 40, rel=0.1)
    np.testing.assert_allclose(read_coordinates(Path("picks/m0.csv")).diameter_px, 40)


@pytest.mark.parametrize("given", [("--threshold", "0.05"), ("--threshold", "0.05", "--diameter", "54A")])
def test_picking_bright_particles_says_so_and_goes_on_with_them(command, capsys, given):
    paths = written(command / "mics", 27, contrast=8.0)
    code, out, _ = upicker(capsys, *PICK, *given)
    assert code == 0
    assert out.splitlines()[0] == "particles are bright (image.particles): with dark ones nothing is found"
    assert read_record(Path("picks")).knobs["image.particles"] == "bright"
    Path("picks/m0.csv").unlink()
    code, out, err = upicker(capsys, *PICK, *given, "--skip-existing")
    assert (code, err) == (0, "")
    assert len(read_coordinates(Path("picks") / f"{paths[0].stem}.csv")) > 10


def test_a_diameter_that_is_a_little_wrong_is_followed_without_a_warning(command, capsys):
    written(command / "mics", 27)
    code, out, err = upicker(capsys, *PICK, "--diameter", "66A")
    assert (code, err) == (0, "")
    assert "not the 33 px given" in out


def test_a_right_diameter_is_not_followed(command, capsys):
    written(command / "mics", 27)
    code, out, err = upicker(capsys, *PICK, "--diameter", "54A")
    assert (code, err) == (0, "")
    assert "working scale" not in out
    assert "relative_size" not in read_record(Path("picks")).about


def test_a_run_that_goes_on_keeps_its_working_scale(command, capsys):
    paths = written(command / "mics", 27)
    assert upicker(capsys, *PICK, "--diameter", "80A")[0] == 0
    before, first = read_record(Path("picks")).relative_size, Path("picks/m0.csv").read_bytes()
    Path("picks/m0.csv").unlink()
    for number, path in enumerate(paths[1:]):  # with these it would be another one
        mrc.write(path, discs(36, number), 2.0)
    for given in (["--diameter", "80A"], []):
        code, out, err = upicker(capsys, *PICK, *given, "--skip-existing")
        assert (code, err) == (0, "")
        assert f"working scale: particles look {before:g} diameters wide, as picks/run.toml says" in out
        assert read_record(Path("picks")).relative_size == before
        assert Path("picks/m0.csv").read_bytes() == first
    code, _, err = upicker(capsys, *PICK, "--diameter", "80A", "--skip-existing", "--set", "pick.follow=false")
    assert code == 2
    assert "another pick.follow" in err


def test_a_run_without_a_working_scale_of_its_own_goes_on_as_given(command, capsys):
    written(command / "mics", 27)
    assert upicker(capsys, *PICK, "--diameter", "80A", "--set", "pick.follow=false")[0] == 0
    record = Path("picks/run.toml")
    record.write_text(record.read_text().replace("follow = false\n", ""))  # as of an earlier version
    Path("picks/m0.csv").unlink()
    code, out, err = upicker(capsys, *PICK, "--diameter", "80A", "--skip-existing")
    assert (code, err) == (0, "")
    assert "working scale" not in out


def test_another_working_scale_is_another_setting(tmp_path, picker):
    outputs, paths = Outputs(tmp_path / "picks"), written(tmp_path / "mics", 27)
    work = Picking(picker, outputs, Length(40, "px"))
    picker.relative_size = 0.7
    assert all(outcome.value for outcome in find_all(paths, work))
    assert changed_settings(work) == []
    assert earlier(work) == 0.7
    picker.relative_size = 1.0
    assert changed_settings(work) == ["relative_size"]
    assert earlier(work) == 0.7
    assert changed_settings(replace(work, diameter=Length(41, "px"))) == ["diameter"]
    assert earlier(replace(work, diameter=Length(41, "px"))) is None


def test_decoys_are_picked_at_the_working_scale_of_the_run(tmp_path, picker, monkeypatch):
    scales = []
    monkeypatch.setattr(decoys, "negated", lambda prepared: scales.append(prepared.frame.scale) or negated(prepared))
    picker.relative_size = 0.7
    paths = written(tmp_path / "mics", 27)
    decoys.choose(Picking(picker, Outputs(tmp_path / "picks"), Length(40, "px")), paths, 0.1)
    np.testing.assert_allclose(scales, 16 / 28, rtol=0.01)


def test_limits_of_the_size_leave_out_what_is_smaller_or_larger(command, capsys):
    written(command / "mics", 27)
    assert upicker(capsys, *PICK, "--diameter", "54A", "--threshold", 0.3, "--min-diameter", "0.5A")[0] == 0
    assert len(read_coordinates(Path("picks/m0.csv")))
    assert (
        upicker(
            capsys, *PICK[:-3], "large", *PICK[-2:], "--diameter", "54A", "--threshold", 0.3, "--min-diameter", "70A"
        )[0]
        == 0
    )
    assert not len(read_coordinates(Path("large/m0.csv")))
    code, _, err = upicker(capsys, *PICK, "--diameter", "54A", "--max-diameter", "20px")
    assert (code, "Give it in A" in err) == (2, True)
    code, _, err = upicker(capsys, *PICK, "--diameter", "54A", "--max-diameter", "20A")
    assert (code, "no size is between 0.6 and 0.37" in err) == (2, True)


def relion_job(paths: list[Path]) -> tuple[str, ...]:
    """The words of a job with a list of these micrographs."""
    star = "data_\nloop_\n_rlnMicrographName #1\n_rlnMicrographPixelSize #2\n"
    Path("mics.star").write_text(star + "".join(f"mics/{path.name} 2.0\n" for path in paths))
    return "relion-job", "--in_mics", "mics.star", "--o", "External/job001", "--model", "w.safetensors"


def test_a_job_of_relion_finds_the_diameter_once(command, capsys):
    paths = written(command / "mics", 27)
    job = relion_job(paths)
    code, out, err = upicker(capsys, *job)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("diameter: 2")
    diameter = read_record(Path("External/job001")).diameter
    assert diameter is not None
    assert diameter.value == pytest.approx(54, rel=0.12)
    Path("External/job001/mics/m0_autopick.star").unlink()
    mrc.write(paths[1], discs(60, 0), 2.0)
    code, out, err = upicker(capsys, *job)
    assert (code, err) == (0, "")
    assert f"diameter: {diameter}, as External/job001/run.toml says" in out


def test_a_job_of_relion_follows_the_particles(command, capsys):
    paths = written(command / "mics", 27)
    job = relion_job(paths)
    code, out, _ = upicker(capsys, *job, "--diameter", "80A")
    assert code == 0
    assert "px wide, not the 40 px given" in out
    before = read_record(Path("External/job001")).relative_size
    assert before == pytest.approx(27 / 40, rel=0.1)
    Path("External/job001/mics/m0_autopick.star").unlink()
    code, out, err = upicker(capsys, *job, "--diameter", "80A")
    assert (code, err) == (0, "")
    assert f"working scale: particles look {before:g} diameters wide, as External/job001/run.toml says" in out
    Path("External/job001/mics/m0_autopick.star").unlink()
    code, out, err = upicker(capsys, *job, "--diameter", "76A")  # another one is looked at anew
    assert code == 0
    assert "another diameter" in err
    assert "px wide, not the 38 px given" in out


def test_a_job_of_relion_without_particles_fails_as_picking_does(command, capsys):
    paths = written(command / "mics", 27, contrast=0.0)
    code, _, err = upicker(capsys, *relion_job(paths))
    assert code == 1
    assert "nothing like a particle" in err
    assert Path("External/job001/RELION_JOB_EXIT_FAILURE").exists()
