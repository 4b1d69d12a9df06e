"""The report: one file that needs no other, with the figures of `evaluate`, whatever files are called."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, SHAPE, micrograph, upicker

from upicker.config import Config
from upicker.errors import CoordinatesError
from upicker.io import coordinates
from upicker.io.micrographs import Reading
from upicker.io.picks import Picks
from upicker.particles import Particles, ScoreKind
from upicker.report import findings, pictures
from upicker.report.charts import Axis, Chart, ticks
from upicker.report.findings import gather
from upicker.report.inputs import Inputs
from upicker.report.page import MAX_ROWS, render, write
from upicker.run import compare, record
from upicker.run.decoys import WANTED, Choice
from upicker.units import Length

HOSTILE = "a<script>alert(1)<script>&amp;\"'$x_{\u202e"
VOID = {"meta", "img", "br"}


def silent(doing: str, done: int, total: int) -> None:
    pass


class Page(HTMLParser):
    """What a page holds: texts by tag, attributes, and whether tags are closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    @property
    def words(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag != "style").split())

    @property
    def pictures(self) -> list[str]:
        return [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]

    def facts(self) -> dict[str, str]:
        cells = [(tag, text) for tag, text in self.texts if tag in ("dt", "dd")]
        return {text: after for (tag, text), (kind, after) in zip(cells, cells[1:]) if (tag, kind) == ("dt", "dd")}


def picks_of(number: int) -> Particles:
    """All particles but the first, a little off, and two false ones, at scores that differ from file to file."""
    xy = np.concatenate([CENTRES[1:] + 1.5, [[20.0, 200.0], [290.0, 110.0 + number]]])
    scores = np.array([0.9, 0.8, 0.45, 0.7, 0.55, 0.2]) - 0.01 * number
    return Particles.of(xy, DIAMETER, scores, ScoreKind.PROBABILITY)


@pytest.fixture
def folder(tmp_path) -> Path:
    for number in range(3):
        micrograph(tmp_path / "mics" / f"m{number}.mrc", number)
        coordinates.write(tmp_path / "picks" / f"m{number}.csv", picks_of(number), "csv")
        if number < 2:
            coordinates.write(tmp_path / "labels" / f"m{number}.csv", Particles.of(CENTRES, DIAMETER), "csv")
    return tmp_path


def mics(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted((folder / "mics").iterdir()))


def made(folder: Path, **more) -> tuple[Page, str]:
    write(Inputs(folder / "picks", **more), folder / "report.html", silent)
    content = (folder / "report.html").read_text(encoding="utf-8")
    return Page(content), content


def check_alone(page: Page, content: str) -> None:
    """No script, nothing from elsewhere, nothing that runs."""
    assert "script" not in page.tags
    assert not {"link", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "srcset", "data", "action"):
            assert value.startswith("data:image/jpeg;base64,"), (tag, name)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[^'\"]*", "", content))


def test_it_is_one_file_with_everything_inside(folder):
    page, content = made(folder, micrographs=mics(folder), labels=folder / "labels", threshold=0.5)
    check_alone(page, content)
    assert len(page.pictures) == 3 + 2  # overlays, and boxes on both sides of the threshold
    headings = [text for tag, text in page.texts if tag == "h2"]
    assert headings == [
        "Scores and counts", "Particles in the order of the files", "Compared with labels",
        "Micrographs", "Particles", "Settings",
    ]  # fmt: skip
    assert "Content-Security-Policy" in content
    assert len(content) < 1_000_000


def test_its_figures_are_those_of_evaluate(folder, capsys):
    page, _ = made(folder, labels=folder / "labels", threshold=0.5)
    comparison = compare.load(folder / "labels", folder / "picks")
    each, pooled = compare.scores(comparison, threshold=0.5)
    facts = page.facts()
    for name, value in (("precision", pooled.precision), ("recall", pooled.recall), ("F1", pooled.f1)):
        assert facts[name] == f"{value:.3f}"
    assert facts["average precision"] == f"{pooled.average_precision:.3f}"
    assert facts["best F1"] == f"{pooled.best_f1:.3f} at {pooled.best_threshold:.3f}"
    assert 0 < pooled.precision < 1
    code, out, _ = upicker(capsys, "evaluate", folder / "labels", folder / "picks", "--threshold", 0.5)
    assert code == 0
    assert facts["F1"] in out
    row = page.words[page.words.index("m1 4") :].split()
    assert row[3:7] == ["5", *(f"{v:.3f}" for v in (each["m1"].precision, each["m1"].recall, each["m1"].f1))]
    assert "Micrographs without labels, ignored here: 1." in page.words


def test_labels_of_other_micrographs_are_left_out(folder):
    """Those of micrographs that were looked at without a find are missed, though."""
    labels = Particles.of(CENTRES, DIAMETER)
    alone = made(folder, labels=folder / "labels", threshold=0.5)[0].facts()
    for name in ("elsewhere", "m7"):
        coordinates.write(folder / "labels" / f"{name}.csv", labels, "csv")
    page, _ = made(folder, labels=folder / "labels", threshold=0.5)
    keys = ("labels", "precision", "recall", "F1", "average precision")
    assert [page.facts()[key] for key in keys] == [alone[key] for key in keys]
    assert "Labelled micrographs that were not picked, left out: 2." in page.words
    assert "without picks" not in page.words

    lines = "".join(f'[[run.micrographs]]\npath = "gone/m{number}.mrc"\n' for number in (0, 1, 2, 7))
    (folder / "picks/run.toml").write_text(f"[run]\n{lines}", encoding="utf-8")
    page, _ = made(folder, labels=folder / "labels", threshold=0.5)
    assert int(page.facts()["labels"]) == int(alone["labels"]) + len(CENTRES)
    assert float(page.facts()["recall"]) == pytest.approx(float(alone["recall"]) * 2 / 3, abs=1e-3)
    assert page.facts()["precision"] == alone["precision"]
    assert "Labelled micrographs without picks, whose labels count as missed: 1." in page.words
    assert "left out: 1." in page.words


def test_labels_of_refined_particles_need_the_pixel_size(folder):
    head = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n"
    for number in range(2):
        (folder / f"labels/m{number}.csv").unlink()
        rows = "".join(f"{x + 10} {y} 20\n" for x, y in CENTRES)
        (folder / f"labels/m{number}_autopick.star").write_text(head + rows)
    given = {"labels": folder / "labels", "threshold": 0.5, "diameter": Length(DIAMETER, "px")}
    facts = made(folder, reading=Reading(2.0), **given)[0].facts()
    assert 0.5 < float(facts["recall"]) < 1
    with pytest.raises(CoordinatesError, match="pixel size"):
        made(folder, **given)


def test_endings_of_names_that_were_seen_through_are_told(folder):
    (folder / "labels/m1.csv").rename(folder / "labels/m1_bad.csv")
    page, _ = made(folder, labels=folder / "labels", threshold=0.5)
    assert "names differ by '_bad'" in page.words


def test_counts_are_those_above_the_threshold(folder):
    found = gather(Inputs(folder / "picks", threshold=0.5), silent)
    expected = [len(coordinates.read(folder / "picks" / f"m{number}.csv").above(0.5)) for number in range(3)]
    assert found.counts.tolist() == expected
    assert len(found.scores) == 18
    page, _ = made(folder, threshold=0.5)
    assert f"particles {sum(expected)} of 18 with any score" in page.words
    assert "median probability" in page.words


def test_run_toml_says_threshold_micrographs_and_settings(folder):
    listed = "".join(f'\n[[run.micrographs]]\nname = "{path.stem}"\npath = "{path}"\n' for path in mics(folder))
    written = '[image]\nclip_sigma = 6.0\nparticles = "dark"\n\n[run]\nversion = "0.5<b>"\nthreshold = 0.6\n'
    (folder / "picks" / "run.toml").write_text(written + listed)
    found = gather(Inputs(folder / "picks"), silent)
    assert found.threshold == 0.6
    assert list(found.paths.values()) == list(mics(folder))
    page, content = made(folder)
    check_alone(page, content)
    assert page.facts()["image.clip_sigma"] == "6.0"
    assert "image.particles" not in page.facts()
    assert page.facts()["version"] == "0.5<b>"
    assert len(page.pictures) == 5
    assert gather(Inputs(folder / "picks", threshold=0.1), silent).threshold == 0.1


def test_picks_that_are_false_by_chance_are_told_at_the_threshold_they_were_estimated_for(folder):
    choice = Choice(0.1, 0.5, WANTED, 0.1, 50, 4, 3)
    record.write(folder / "picks", "pick", Config(), choice.about())
    page, _ = made(folder)
    assert "About 1 of 12 picks (10.0%) are false by chance" in page.words
    assert "4 decoys on 3 micrographs; contamination is not counted" in page.words
    assert page.facts()["fdr estimate"] == "0.1"
    assert "by chance" not in made(folder, threshold=0.7)[0].words


def test_a_damaged_run_toml_is_as_none(folder):
    (folder / "picks" / "run.toml").write_text("[run]\nthreshold = \n")
    assert gather(Inputs(folder / "picks"), silent).threshold is None


def test_hostile_names_are_text(folder):
    micrograph(folder / "mics" / f"{HOSTILE}.mrc", 5)
    coordinates.write(folder / "picks" / f"{HOSTILE}.csv", Particles.of(CENTRES, DIAMETER, 0.99), "csv")
    (folder / "picks" / "broken<img src=x onerror=alert(1)>.csv").write_text("x,y\n1,what\n")
    page, content = made(folder, micrographs=mics(folder))
    check_alone(page, content)
    assert HOSTILE.replace("\u202e", "\ufffd") in page.words
    assert "broken<img src=x onerror=alert(1)>.csv" in page.words
    assert page.tags.count("img") == len(page.pictures) > 3


def test_boxes_hold_the_particles(folder):
    found = gather(Inputs(folder / "picks", mics(folder), threshold=0.5), silent)
    counted, others = pictures.make(found, silent).groups
    assert (counted.note, others.note) == ("12 with probability 0.53 to 0.9", "6 with probability 0.18 to 0.45")
    sheet = cv2.imdecode(np.frombuffer(counted.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    side = pictures.CELL_PX
    y, x = np.mgrid[:side, :side]
    away = np.hypot(y - side / 2, x - side / 2)
    right = 0
    for number in range(12):
        cell = sheet[:side, number * (side + 2) : number * (side + 2) + side]
        right += cell[away < side / 4].mean() + 60 < cell[away > side * 0.42].mean()
    # Particles are dark and in the middle; of the twelve picks that count, three are false.
    assert right == 9


def test_of_many_particles_the_telling_ones_are_shown(folder):
    rng = np.random.default_rng(8)
    scores = rng.permutation(np.linspace(0.01, 0.99, 400))
    many = Particles.of(rng.uniform(0, 200, (400, 2)), DIAMETER, scores)
    coordinates.write(folder / "picks" / "m1.csv", many, "csv")
    shown = {}
    for threshold in (0.4, 0.001):
        found = gather(Inputs(folder / "picks", mics(folder)[1:2], threshold=threshold), silent)
        shown[threshold] = [(group.title, group.note) for group in pictures.make(found, silent).groups]
    assert [title for title, _ in shown[0.4]] == [
        "Highest scores", "Just above the threshold", "Just below the threshold, not counted",
        "Lowest scores, not counted",
    ]  # fmt: skip
    assert shown[0.4][1][1].startswith("30 with score 0.401 to ")
    assert shown[0.4][2][1].endswith("to 0.398")
    assert [title.split()[0] for title, _ in shown[0.001]] == ["Highest", "Middle", "Borderline:"]
    assert shown[0.001][2][1].startswith("60 with score 0.01 to ")


def test_the_most_the_median_and_the_fewest_are_shown(tmp_path):
    for number, count in enumerate((4, 0, 2, 5, 3)):
        micrograph(tmp_path / "mics" / f"m{number}.mrc", number)
        coordinates.write(tmp_path / "picks" / f"m{number}.csv", Particles.of(CENTRES[:count], DIAMETER, 0.9), "csv")
    found = gather(Inputs(tmp_path / "picks", mics(tmp_path)), silent)
    shown = pictures.make(found, silent).overlays
    assert [(one.title, one.name, one.picks) for one in shown] == [
        ("Most picks", "m3", 5), ("Median", "m4", 3), ("Fewest picks", "m1", 0),
    ]  # fmt: skip


def test_a_micrograph_that_cannot_be_read_is_named(folder):
    (folder / "mics" / "m1.mrc").write_bytes(b"no micrograph")
    page, _ = made(folder, micrographs=mics(folder))
    assert "What could not be read or shown" in page.words
    assert "m1.mrc" in page.words
    assert page.pictures


def test_without_a_diameter_there_are_no_pictures_but_a_word(folder):
    for path in (folder / "picks").iterdir():
        coordinates.write(path, Particles.of(coordinates.read(path).xy), "csv")
    page, _ = made(folder, micrographs=mics(folder))
    assert page.pictures == []
    assert "give it with --diameter" in page.words


def test_it_stays_small_for_many_micrographs(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    names = [f"{number:05d}_{'x' * 200}" for number in range(10_000)]
    many = {name: Particles.of(rng.uniform(0, 400, (7, 2)), 24.0, rng.uniform(0, 1, 7)) for name in names}
    many[names[77]] = Particles.of(rng.uniform(0, 400, (90, 2)), 24.0, rng.uniform(0.5, 1, 90))
    monkeypatch.setattr(findings, "_read", lambda *rest: many)
    (tmp_path / "picks").mkdir()
    page, content = made(tmp_path, threshold=0.5)
    assert len(content) < 3_000_000
    assert page.tags.count("tr") < MAX_ROWS + 40
    assert "10,000" in page.words
    assert names[77][:30] in page.words.split("Far from the others:")[1][:60]


def test_times_of_files_make_a_course_over_time(folder):
    counts, seconds = np.arange(6), 1.7e9 + 600.0 * np.array([3, 1, 2, 0, 5, 4])
    many = {f"m{number}": picks_of(number) for number in counts}
    found = gather(Inputs(folder / "picks"), silent)
    timed = findings.Findings(found.inputs, many, None, counts, {}, seconds, None, found.run, [])
    assert timed.is_timed
    page = Page(render(timed, pictures.Pictures()))
    assert "Particles over time" in page.words
    together = findings.Findings(found.inputs, many, None, counts, {}, seconds * 0 + 1.7e9, None, found.run, [])
    assert not together.is_timed


def test_outlying_counts():
    counts = np.array([100, 104, 96, 99, 102, 101, 3, 250])
    assert findings.outlying(counts).tolist() == [False] * 6 + [True, True]
    assert not findings.outlying(np.full(9, 40)).any()
    assert not findings.outlying(np.array([1, 900])).any()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 47, [10, 20, 30, 40]), (0.012, 0.047, [0.02, 0.03, 0.04]), (5, 5, [5])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_a_chart_puts_values_in_their_places():
    chart = Chart(Axis(0, 10, "<x>"), Axis(0, 4, "y"), 'a "title"', (572, 256))
    chart.bars(np.array([0.0, 5.0, 10.0]), np.array([4, 0]), "kept")
    found = chart.svg()
    assert 'd="M74.0 214.0V14.0H310.0V214.0Z"' in found  # the left half, from bottom to top; no bar where none counts
    assert "&lt;x&gt;" in found
    assert "&quot;title&quot;" in found


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere",), 1, "nowhere"),
        (("mics",), 1, "holds no coordinate files"),
        (("picks", "--labels", "mics"), 1, "there are no coordinate files for the"),
        (("picks", "--micrographs", "other.mrc"), 1, "none of the 3 names"),
        (("picks", "--micrographs", "gone.mrc"), 1, "gone.mrc"),
    ],
)
def test_what_cannot_be_reported_is_said(folder, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(folder)
    micrograph(Path("other.mrc"), 1)
    found, _, err = upicker(capsys, "report", *arguments)
    assert found == code, err
    assert message in err
    assert not Path("report.html").exists()


def test_the_command_says_where_the_report_is(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    args = ("--labels", "labels", "--threshold", 0.5, "-o", "out/r.html")
    code, out, err = upicker(capsys, "report", "picks", "--micrographs", "mics", *args)
    assert code == 0, err
    assert "12 particles in 3 micrographs -> out/r.html" in out
    Page(Path("out/r.html").read_text(encoding="utf-8"))
    assert SHAPE == (230, 310)
    coordinates.write_all(Path("all.csv"), coordinates.read_all(Path("picks/m0.csv")), "csv")
    code, out, err = upicker(capsys, "report", "all.csv")
    assert code == 0
    assert "no micrographs were found" in err


@pytest.fixture
def two_folders(tmp_path) -> Path:
    """One file with the picks of A/001 and B/001, the first with a position twice, and labels of the same names."""
    for number, name in enumerate("ABC"):
        micrograph(tmp_path / "M" / name / "001.mrc", number)
    first = Particles.concatenate([picks_of(0), picks_of(0).select(np.array([0]))])
    both = [Picks("M/A/001.mrc", first, SHAPE), Picks("M/B/001.mrc", picks_of(1), SHAPE)]
    coordinates.write_all(tmp_path / "all.csv", [*both, Picks("M/D/004.mrc", picks_of(2), SHAPE)], "csv")
    labels = [replace(picks, particles=Particles.of(CENTRES, DIAMETER)) for picks in both]
    coordinates.write_all(tmp_path / "labels.csv", labels, "csv")
    return tmp_path


def test_one_file_of_equal_names_in_two_folders_is_reported_whole(two_folders):
    given = tuple(sorted(two_folders.glob("M/*/001.mrc")))
    found = gather(Inputs(two_folders / "all.csv", given, labels=two_folders / "labels.csv"), silent)
    assert found.counts.tolist() == [6, 6, 6]
    assert list(found.picks) == ["M/A/001.mrc", "M/B/001.mrc", "M/D/004.mrc"]
    assert found.paths == {"M/A/001.mrc": given[0], "M/B/001.mrc": given[1]}
    assert found.accuracy is not None
    assert (found.accuracy.pooled.picks, found.accuracy.pooled.labels) == (12, 2 * len(CENTRES))


def test_what_stands_twice_or_alone_is_told(two_folders, monkeypatch, capsys):
    monkeypatch.chdir(two_folders)
    code, out, err = upicker(capsys, "report", "all.csv", "--micrographs", "M/*/001.mrc")
    assert (code, "18 particles in 3 micrographs" in out) == (0, True)
    words = Page(Path("report.html").read_text(encoding="utf-8")).words
    for told in (
        "1 position stands twice in all.csv, counted once",
        "1 micrograph without picks: 001.mrc",
        "1 pick file without a micrograph, counted but not shown: 004.mrc",
    ):
        assert told in " ".join(err.split())
        assert told in words
