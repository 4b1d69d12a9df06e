"""MicrographImages for the browser: where level pixels lie, what they hold, what is kept and for how long."""

import gzip
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import mrcfile
import numpy as np
import pytest
from waiting import PATIENCE_S, until
from web_client import client, make_project

from upicker.config import Config, ImageConfig
from upicker.errors import ConfigError, MicrographError
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.io import mrc
from upicker.io.micrographs import Reading, read
from upicker.units import parse_length
from upicker.web.project import NotFound, labelling
from upicker.web.tiles import views
from upicker.web.tiles.boxes import cut
from upicker.web.tiles.cache import Cache
from upicker.web.tiles.images import MicrographImages
from upicker.web.tiles.prefetch import Prefetcher
from upicker.web.tiles.views import View

SHAPE = (1237, 1531)


def pattern(shape=SHAPE):
    """Return smooth pixels without any symmetry, around 1000."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    waves = 40 * np.sin(x / 23) + 25 * np.cos(y / 31 + 1) + 15 * np.sin((x + 2 * y) / 47)
    corner = 80 * ((x < 200) & (y < 90)) - 60 * (y > shape[0] - 40)
    return (1000 + waves + corner + 0.03 * x + 0.05 * y).astype(np.float32)


def write(path: Path, pixels: np.ndarray, pixel_size_A: float | None = None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Data array contains", RuntimeWarning)
        mrc.write(path, pixels, pixel_size_A)


def project_of(tmp_path: Path, *pixels: np.ndarray, diameter=None, pixel_size_A=None):
    (tmp_path / "mics").mkdir(parents=True, exist_ok=True)
    paths = [tmp_path / "mics" / f"m{number}.mrc" for number in range(len(pixels))]
    for path, image in zip(paths, pixels):
        write(path, image, pixel_size_A)
    return labelling(paths, Reading(), tmp_path / "labels", diameter and parse_length(diameter))


def assembled(images: MicrographImages, about: dict, level: int, number: int = 0) -> np.ndarray:
    """Return a level put together from its tiles, as float64 grey levels."""
    rows, columns = about["levels"][level]["shape"]
    out = np.full((rows, columns), -1.0)
    for top in range(0, rows, about["tile"]):
        for left in range(0, columns, about["tile"]):
            content = images.tile(number, about["view"], level, left // about["tile"], top // about["tile"])
            tile = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            assert tile.ndim == 2
            out[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    assert out.min() >= 0
    return out


def values(grey: np.ndarray, level: dict) -> np.ndarray:
    low, high = level["range"]
    return low + grey * (high - low) / 255


def means(pixels: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels in float64; an odd last row or column counts twice."""
    even = np.pad(pixels.astype(np.float64), [(0, n % 2) for n in pixels.shape], mode="edge")
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))


def test_tiles_put_together_are_the_micrograph_and_its_means(tmp_path):
    pixels = pattern()
    images = MicrographImages(project_of(tmp_path, pixels, pixel_size_A=1.5))
    about = images.about(0)
    assert about["shape"] == SHAPE
    assert about["pixel_size_A"] == 1.5
    assert [level["scale"] for level in about["levels"]] == [1, 2, 4]
    assert max(about["levels"][-1]["shape"]) <= about["tile"]
    expected = pixels
    for number, level in enumerate(about["levels"]):
        assert level["shape"] == expected.shape
        grey = assembled(images, about, number)
        step = (level["range"][1] - level["range"][0]) / 255
        assert np.abs(values(grey, level) - expected).mean() < 1.5 * step
        assert np.abs(values(grey, level) - expected).max() < 12 * step
        expected = means(expected)


def dot(shape, x, y, sigma, height):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(("view", "finest"), [("raw", 1), ("lowpass-14px", 4), ("lowpass-30A", 4), ("prepared", None)])
def test_a_dot_lies_where_the_contract_says_in_each_level(tmp_path, view, finest):
    x, y, sigma = 612.3, 288.8, 14.0
    without = pattern() - pattern().mean()
    project = project_of(tmp_path, without - dot(SHAPE, x, y, sigma, 60), without, diameter="70px", pixel_size_A=2.0)
    # A single dark dot is a contaminant.
    project.config = Config().with_changes({"image.mask": False})
    images = MicrographImages(project)
    about, empty = (images.about(number, view) for number in (0, 1))
    assert about["fractional"] == (view == "prepared")
    assert about["diameter_px"] == 70
    if finest:
        assert about["levels"][0]["scale"] == finest
    for number, level in enumerate(about["levels"]):
        s = level["scale"]
        assert level["shape"] == tuple(int(np.ceil(n / s - 1e-6)) for n in SHAPE)
        change = values(assembled(images, about, number), level)
        change -= values(assembled(images, empty, number, 1), empty["levels"][number])
        column, row = np.round([(v - (s - 1) / 2) / s for v in (x, y)]).astype(int)
        # What the model sees is bright where particles are dark.
        assert (change[row, column] > 0) == (view == "prepared")
        reach = int(np.ceil(2.5 * sigma / s))
        near = np.abs(change[row - reach : row + reach + 1, column - reach : column + reach + 1])
        weight = np.clip(near - 0.25 * near.max(), 0, None)
        places = [np.arange(n - reach, n + reach + 1) * s + (s - 1) / 2 for n in (column, row)]
        found = weight.sum(0) @ places[0] / weight.sum(), weight.sum(1) @ places[1] / weight.sum()
        assert found == pytest.approx((x, y), abs=0.1 + 0.06 * s), (view, s)


def wave(shape, period_x, period_y=np.inf, phase=0.4):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.cos(2 * np.pi * (x / period_x + y / period_y) + phase).astype(np.float32)


@pytest.mark.parametrize(
    ("cutoff", "scale"), [(5.0, 1), (9.0, 2), (20.0, 4), (41.0, 8)], ids=lambda value: f"{value:g}"
)
def test_lowpass_keeps_long_waves_halves_those_at_the_cutoff_and_removes_short_ones(cutoff, scale):
    shape = (611, 857)
    for share, kept in [(1.6, 1.0), (1.0, 0.5), (0.75, 0.0), (0.31, 0.0), (0.13, 0.0)]:
        period = max(2.3, share * cutoff)
        pixels = wave(shape, period * 1.25, period / 0.6)  # of this length, 37 degrees off the rows
        found, s, used = views.lowpass(100 + 3 * pixels, cutoff)
        assert (s, used) == (scale, cutoff)
        rows, columns = (np.arange(n) * s + (s - 1) / 2 for n in found.shape)
        angle = 2 * np.pi * (columns / (period * 1.25) + rows[:, None] * 0.6 / period) + 0.4
        # Away from the border, where a reflected wave is not a wave.
        border = int(np.ceil(3 * cutoff / s))
        inner = np.s_[border:-border, border:-border]
        answer = 2 * (found[inner] - 100) * np.exp(-1j * angle[inner]) / 3
        assert abs(answer.mean() - kept) < 0.03, (cutoff, share)
        rest = found[inner] - 100 - 3 * kept * np.cos(angle[inner])
        assert np.sqrt((rest**2).mean()) < 0.04 * 3, (cutoff, share)


def test_lowpass_does_not_carry_one_edge_to_the_other():
    pixels = np.zeros((200, 330), np.float32)
    pixels[:, :40] = 1000
    found, _, _ = views.lowpass(pixels, 12.0)
    assert np.abs(found[:, -20:]).max() < 2


def test_lowpass_of_a_very_large_micrograph_is_limited(monkeypatch):
    monkeypatch.setattr(views, "_LARGEST_WHOLE", 10_000)
    found, scale, used = views.lowpass(pattern((143, 211)), 2.0)
    assert (scale, used, found.shape) == (2, 6.4, (72, 106))


def test_a_cutoff_in_angstrom_is_that_in_pixels(tmp_path):
    images = MicrographImages(project_of(tmp_path, pattern((401, 633)), pixel_size_A=2.5))
    one, other = images.about(0, "lowpass-25A"), images.about(0, "lowpass-10px")
    assert one["levels"] == other["levels"]
    assert one["cutoff_px"] == 10
    unknown = MicrographImages(project_of(tmp_path / "unknown", pattern((401, 633)))).about(0, "lowpass-25A")
    assert unknown["levels"] == []
    assert "pixel size" in unknown["error"]["found"]


def test_prepared_is_what_the_model_sees(tmp_path):
    project = make_project(tmp_path)
    about = MicrographImages(project).about(0, "prepared")
    seen = masked(prepare(read(project.path(0)), 28.0, ImageConfig()), ImageConfig())
    scale = about["levels"][0]["scale"]
    assert scale == pytest.approx(28 / ImageConfig().working_diameter_px, rel=1e-2)
    assert scale == pytest.approx(1 / seen.frame.scale, rel=1e-6)
    grey = values(assembled(MicrographImages(project), about, 0), about["levels"][0])
    # Compare at the places of its samples: it is on another grid.
    rows, columns = (np.arange(8, n - 8) for n in seen.pixels.shape)
    factor = seen.frame.scale_xy
    place = [(n / f - (scale - 1) / 2) / scale for n, f in zip((columns, rows), factor)]
    at = np.meshgrid(place[0].astype(np.float32), place[1].astype(np.float32))
    found = cv2.remap(grey.astype(np.float32), at[0], at[1], cv2.INTER_CUBIC)
    limits = about["range"]
    assert np.corrcoef(found.ravel(), np.clip(seen.pixels[8:-8, 8:-8], *limits).ravel())[0, 1] > 0.98


def test_prepared_needs_a_diameter_and_follows_it(tmp_path):
    project = make_project(tmp_path, labels=False, diameter=None)
    images = MicrographImages(project)
    before = images.about(0, "prepared")
    assert "diameter" in before["error"]["found"]
    project.set_diameter(parse_length("60px"))
    after = images.about(0, "prepared")
    assert after["levels"][0]["scale"] == pytest.approx(60 / ImageConfig().working_diameter_px, rel=1e-2)
    assert after["version"] != before["version"]


@pytest.mark.parametrize("text", ["", "Raw", "lowpass", "lowpass-", "lowpass-x", "lowpass--3A", "raw-2", "../raw"])
def test_other_views_are_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        View.parse(text)


def test_hot_pixels_contaminants_and_holes_do_not_take_the_contrast():
    rng = np.random.default_rng(3)
    pixels = rng.normal(50, 2, (400, 611)).astype(np.float32)
    low, high = views.span(pixels)
    assert (low + high) / 2 == pytest.approx(50, abs=0.05)
    assert 1.5 * 2 * 2.8 < (high - low) / 2 < 1.5 * 2 * 3.6
    spoiled = pixels.copy()
    spoiled.ravel()[rng.choice(pixels.size, 1200, replace=False)] = 1e9
    spoiled[:90] = -3000
    spoiled[-5:, :300] = np.nan
    spoiled[200, 100] = np.inf
    low, high = views.span(spoiled)
    assert 48 < (low + high) / 2 < 51
    assert (high - low) / 2 < 25
    grey = views.grey(spoiled, views.span(spoiled))
    assert (grey[:90] == 0).mean() > 0.98
    assert set(grey[-5:, :300].ravel()) == {grey[200, 100]} == {128}


@pytest.mark.parametrize("pixels", [np.full((9, 9), 7.0), np.eye(50), np.full((3, 3), np.nan), 1e30 * np.eye(20)])
def test_every_image_has_a_range(pixels):
    low, high = views.span(pixels.astype(np.float32))
    assert low < high
    views.grey(pixels.astype(np.float32), (low, high))


def test_non_finite_pixels_become_grey(tmp_path):
    pixels = pattern((533, 701))
    pixels[100:180, 300:420] = np.nan
    images = MicrographImages(project_of(tmp_path, pixels, diameter="40px"))
    for view in ("raw", "lowpass-9px", "prepared"):
        about = images.about(0, view)
        for number, level in enumerate(about["levels"]):
            grey = assembled(images, about, number)
            row, column = int(140 / level["scale"]), int(360 / level["scale"])
            assert abs(grey[row, column] - 127.5) < 40
            assert grey.std() > 5
    assert images.value(0, 360, 140) is None
    assert images.value(0, 299.4, 140.2) == pixels[140, 299]
    assert images.value(0, -0.6, 3) is None
    assert images.value(0, 700.4, 532.4) == pixels[532, 700]
    assert images.value(0, 700.6, 532.4) is None


def test_what_cannot_be_shown_says_why(tmp_path):
    project = project_of(tmp_path, *[pattern((100, 130))] * 4)
    project.path(0).write_text("this is no micrograph")
    write(project.path(1), np.full((90, 70), 3.0))
    project.path(2).unlink()
    write(project.path(3), np.full((90, 70), np.nan))
    images = MicrographImages(project)
    for number in range(4):
        about = images.about(number)
        assert about["levels"] == []
        assert about["shape"] is None
        assert about["error"]["where"] == str(project.path(number))
        for ask in (lambda n: images.tile(n, "raw", 0, 0, 0), images.thumbnail, lambda n: images.value(n, 1, 1)):
            with pytest.raises(MicrographError):
                ask(number)
    write(project.path(0), pattern((100, 130)))
    assert "error" not in images.about(0)


def test_a_file_that_changes_is_read_again(tmp_path):
    project = project_of(tmp_path, pattern((300, 411)))
    images = MicrographImages(project)
    before, thumbnail = images.about(0), images.thumbnail(0)
    write(project.path(0), pattern((411, 300)))
    after = images.about(0)
    assert (before["shape"], after["shape"]) == ((300, 411), (411, 300))
    assert before["version"] != after["version"]
    assert images.thumbnail(0) != thumbnail


def test_thumbnails_are_kept_on_disk(tmp_path, monkeypatch):
    project = project_of(tmp_path, pattern(), pattern((150, 90)))
    images = MicrographImages(project)
    thumbnail = images.thumbnail(0)
    image = cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape == (round(256 * 1237 / 1531), 256)
    small = cv2.resize(pattern(), image.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), image.ravel())[0, 1] > 0.97
    assert images.nbytes == 0, "a list of thumbnails does not push out what somebody looks at"
    tiny = cv2.imdecode(np.frombuffer(images.thumbnail(1), np.uint8), cv2.IMREAD_UNCHANGED)
    assert tiny.shape == (150, 90)
    assert len(list((project.state / "thumbnails").iterdir())) == 2
    monkeypatch.setattr(Reading, "read", None)
    assert MicrographImages(project).thumbnail(0) == thumbnail


def test_thumbnails_do_without_a_disk(tmp_path):
    project = project_of(tmp_path, pattern((200, 300)))
    (project.state / "thumbnails").write_text("a file where a folder should be")
    assert MicrographImages(project).thumbnail(0)


def test_boxes_are_means_of_areas():
    pixels = pattern((170, 233))
    # A box of an even side around the corner of four pixels is made of whole pixels.
    whole = cut(pixels, np.array([[99.5, 60.5], [30.5, 80.5]]), 24, 24)
    np.testing.assert_allclose(whole[0], pixels[49:73, 88:112], rtol=1e-5)
    np.testing.assert_allclose(whole[1], pixels[69:93, 19:43], rtol=1e-5)
    third = cut(pixels, np.array([[99.5, 60.5]]), 24, 8)[0]
    np.testing.assert_allclose(third, pixels[49:73, 88:112].reshape(8, 3, 8, 3).mean((1, 3)), rtol=1e-5)
    # A box half a pixel to the left is the mean of those at it and a pixel before it.
    near = cut(pixels, np.array([[98.5, 60.5], [99.0, 60.5], [99.5, 60.5]]), 24, 8)
    np.testing.assert_allclose(near[1], (near[0] + near[2]) / 2, rtol=1e-5)
    assert np.abs(near[0] - near[2]).max() > 1e-3 * np.ptp(near)
    enlarged = cut(pixels, np.array([[99.5, 60.5]]), 12, 24)[0]
    np.testing.assert_allclose(enlarged[::2, ::2], whole[0][6:18, 6:18], rtol=1e-5)


def test_boxes_at_the_edge_are_filled_with_the_median_and_keep_the_polarity(tmp_path):
    pixels = np.random.default_rng(1).normal(40, 1, (211, 333)).astype(np.float32)
    pixels -= dot(pixels.shape, 300, 100, 6, 9).astype(np.float32)
    pixels[:4, :4] = np.nan
    pixels[103, 310] = 1e6
    images = MicrographImages(project_of(tmp_path, pixels))
    corner, far, particle = images.boxes(0, np.array([[0, 0], [1e12, -1e12], [300, 100]]), 60.0, 32)
    assert np.ptp(far) == 0
    assert far[0, 0] == pytest.approx(40, abs=0.1)
    assert set(corner[:15, :15].ravel()) == {far[0, 0]}
    assert corner[20:, 20:].std() > 0.3
    assert particle[14:18, 14:18].mean() < 35 < particle[:4].mean() < particle.max() < 60
    assert np.unravel_index(cv2.GaussianBlur(particle, (0, 0), 2).argmin(), particle.shape) == (
        pytest.approx(15.5, abs=1),
        pytest.approx(15.5, abs=1),
    )
    assert images.boxes(0, np.empty((0, 2)), 60.0, 32).shape == (0, 32, 32)
    with pytest.raises(ConfigError):
        images.boxes(0, np.zeros((1, 2)), 0.0, 32)


@pytest.mark.parametrize("kind", ["f4", "f2", "i2", "u2", "i1"])
def test_a_few_boxes_are_cut_without_reading_the_micrograph(tmp_path, kind, monkeypatch):
    """They are those of the whole one; where a file cannot be read in parts, it is read."""
    values = np.random.default_rng(3).normal(60, 9, (211, 333)).clip(0, 120).astype(kind)
    path = tmp_path / "m.mrc"
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.set_extended_header(np.zeros(80, "V1"))
    xy = np.array([[100.3, 90.8], [3.0, 200.0], [331.0, 1.0]])
    project = labelling([path], Reading(2.0), tmp_path / "labels", None)
    images = MicrographImages(project)
    monkeypatch.setattr(Reading, "read", None)
    few = images.boxes(0, xy, 40.0, 24)
    monkeypatch.undo()
    assert images.nbytes == 0
    np.testing.assert_allclose(few, cut(values.astype(np.float32), xy, 40.0, 24), rtol=1e-6)
    many = images.boxes(0, np.repeat(xy, 40, 0), 40.0, 24)
    assert images.nbytes > 0
    np.testing.assert_array_equal(many[::40], few)
    packed = tmp_path / "p.mrc.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    again = MicrographImages(labelling([packed], Reading(2.0), tmp_path / "labels", None)).boxes(0, xy, 40.0, 24)
    np.testing.assert_array_equal(again, few)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(MicrographError, match="truncated"):
        MicrographImages(project).boxes(0, xy, 40.0, 24)


def test_memory_is_bounded(tmp_path):
    project = project_of(tmp_path, *[pattern((601, 722)) + n for n in range(4)], diameter="30px")
    limit = 3_000_000
    images = MicrographImages(project, limit)
    for view in ("raw", "lowpass-8px", "prepared"):
        for number in range(4):
            about = images.about(number, view)
            for level in range(len(about["levels"])):
                assembled(images, about, level, number)
            assert 0 < images.nbytes <= limit
    tiny = MicrographImages(project, 1000)
    assert assembled(tiny, tiny.about(2), 0, 2).shape == (601, 722)
    assert tiny.nbytes == 0


def test_many_threads_read_a_micrograph_once(tmp_path, monkeypatch):
    project = project_of(tmp_path, pattern(), pattern()[::-1])
    reads = []
    real = Reading.read

    def counted(self, path):
        reads.append(path)
        time.sleep(0.05)
        return real(self, path)

    monkeypatch.setattr(Reading, "read", counted)
    alone = MicrographImages(project)
    places = [(n, "raw", *place) for n in (0, 1) for place in [(0, 0, 0), (0, 2, 1), (1, 1, 1), (2, 0, 0)]]
    expected = [alone.tile(*place) for place in places]
    reads.clear()
    images = MicrographImages(project)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: images.tile(*place), places * 4))
    assert found == expected * 4
    assert sorted(reads) == sorted(project.micrographs)


class Block:
    """Something of a size."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_the_least_recently_used_goes_first():
    cache = Cache(100)
    for name in "abc":
        cache.get((name,), lambda: Block(30))
    cache.get(("a",), lambda: pytest.fail("it is kept"))
    cache.get(("d",), lambda: Block(40))
    assert [cache.peek((name,)) is not None for name in "abcd"] == [True, False, True, True]
    assert cache.nbytes == 100
    cache.get(("e",), lambda: Block(101))
    cache.get(("f",), lambda: Block(9), most_bytes=8)
    assert cache.peek(("e",)) is cache.peek(("f",)) is None
    cache.drop("a")
    assert cache.nbytes == 70


def test_failures_are_told_to_all_who_wait_and_forgotten():
    cache, began, go = Cache(100), threading.Event(), threading.Event()

    def fails() -> Block:
        began.set()
        assert go.wait(PATIENCE_S)
        raise MicrographError("here", "broken")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, ("a",), fails)
        assert began.wait(PATIENCE_S)
        second = pool.submit(cache.get, ("a",), lambda: Block(1))
        time.sleep(0.05)
        go.set()
        for future in (first, second):
            with pytest.raises(MicrographError):
                future.result(PATIENCE_S)
    assert cache.get(("a",), lambda: Block(1)).nbytes == 1


def test_what_is_dropped_while_it_is_made_is_not_kept():
    cache, began, go = Cache(100), threading.Event(), threading.Event()

    def slow() -> Block:
        began.set()
        assert go.wait(PATIENCE_S)
        return Block(5)

    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(cache.get, ("a", 1), slow)
        assert began.wait(PATIENCE_S)
        cache.drop("a")
        new = cache.get(("a", 1), lambda: Block(7))
        go.set()
        assert old.result(PATIENCE_S).nbytes == 5
    assert cache.peek(("a", 1)) is new


def test_work_ahead_gives_way_and_is_called_off():
    prefetcher, began, go, done = Prefetcher(), threading.Event(), threading.Event(), []

    def first(stale):
        began.set()
        assert go.wait(PATIENCE_S)
        done.append(stale())

    prefetcher.replace([first, lambda stale: done.append("never")])
    assert began.wait(PATIENCE_S)
    prefetcher.replace([lambda stale: done.append(stale()), lambda stale: 1 / 0, lambda stale: done.append("last")])
    go.set()
    until(lambda: "last" in done, "the last piece of work")
    assert done == [True, False, "last"]
    with prefetcher.paused():
        prefetcher.replace([lambda stale: done.append("meanwhile")])
        time.sleep(0.3)
        assert done[-1] == "last"
    prefetcher.close()


def test_neighbours_are_made_ahead(tmp_path, monkeypatch):
    project = project_of(tmp_path, *[pattern((400, 530)) + n for n in range(6)])
    images = MicrographImages(project)
    images.about(2)
    images.visit(2, "raw")
    until(lambda: not images.prefetcher.working, "the neighbours")
    assert read_by(images) == {1, 2, 3, 4}
    monkeypatch.setattr(Reading, "read", None)
    about = images.about(3)
    assert assembled(images, about, 0, 3).shape == (400, 530)
    images.close()


def read_by(images: MicrographImages) -> set[int]:
    return {number for number in range(6) if images._cache.peek((number, View("raw"), None)) is not None}


def test_routes(tmp_path):
    project = make_project(tmp_path)
    with client(project) as visitor:
        about = visitor.get("/api/micrographs/0/picture?view=raw").json()
        assert about["shape"] == [371, 533]
        assert about["levels"][1]["shape"] == [186, 267]
        assert visitor.get("/api/micrographs/0/picture").json() == about
        answer = visitor.get("/api/micrographs/0/tiles/raw/0/1/0")
        assert answer.headers["content-type"] == "image/jpeg"
        tile = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert tile.shape == (371, 21)
        again = visitor.get("/api/micrographs/0/tiles/raw/0/1/0", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = visitor.get("/api/micrographs/1/tiles/raw/0/1/0", headers={"If-None-Match": answer.headers["etag"]})
        assert other.status_code == 200
        assert visitor.get("/api/micrographs/0/tiles/lowpass-20A/0/0/0").status_code == 200
        thumbnail = visitor.get("/api/micrographs/2/thumbnail")
        assert cv2.imdecode(np.frombuffer(thumbnail.content, np.uint8), cv2.IMREAD_UNCHANGED).shape == (178, 256)
        value = visitor.get("/api/micrographs/0/value?x=100.3&y=7").json()["value"]
        assert value == read(project.path(0)).pixels[7, 100]


def test_bad_requests(tmp_path):
    project = make_project(tmp_path)
    project.path(1).write_bytes(b"no micrograph")
    with client(project) as visitor:
        for address, status in [
            ("7/picture", 404),
            ("99999999999999999999/picture", 404),
            ("-1/picture", 404),
            ("0/picture?view=pretty", 400),
            ("0/tiles/raw/2/0/0", 404),
            ("0/tiles/raw/0/2/0", 404),
            ("0/tiles/raw/0/0/99999999999999999999", 404),
            ("0/tiles/%2e%2e/0/0/0", 400),
            ("0/tiles/lowpass-9/9/0/0", 404),
            ("0/tiles/lowpass-0A/0/0/0", 400),
            ("0/tiles/pretty/0/0/0", 400),
            ("1/tiles/raw/0/0/0", 400),
            ("1/thumbnail", 400),
            ("1/value?x=1&y=1", 400),
            ("0/value?x=1", 400),
            ("0/value?x=nan&y=1", 400),
            ("9/thumbnail", 404),
        ]:
            answer = visitor.get(f"/api/micrographs/{address}")
            assert answer.status_code == status, address
            assert answer.json()["error"]["found"]
        broken = visitor.get("/api/micrographs/1/picture")
        assert broken.status_code == 200
        assert "MRC" in broken.json()["error"]["found"]


def test_tiles_beyond_the_image_are_not_there(tmp_path):
    images = MicrographImages(make_project(tmp_path))
    for place in [(0, "raw", 0, 0, 1), (0, "raw", 0, -1, 0), (0, "raw", -1, 0, 0), (3, "raw", 0, 0, 0)]:
        with pytest.raises(NotFound):
            images.tile(*place)
