"""What tests of the page share: a small project, and a visitor who has the cookie."""

from pathlib import Path

import numpy as np
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from upicker.io import coordinates, mrc
from upicker.io.labels import LabelFolder
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.units import parse_length
from upicker.web.app import make_app
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.jobs.jobs import Jobs
from upicker.web.labelling.label_store import LabelStore
from upicker.web.project import Project, inspecting, labelling
from upicker.web.security import session_of

SHAPE = (371, 533)
PIXEL_SIZE_A = 2.0
DIAMETER_PX = 28.0
TOKEN = "a-token-for-tests"
ADDRESS = "http://127.0.0.1:8765"


def centres(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return `(n, 2)` centres x, y of the particles of one micrograph: 12 or a few less, nowhere symmetric."""
    rng = np.random.default_rng((41, number))
    edge, found = DIAMETER_PX, []
    for _ in range(400):
        xy = rng.uniform((edge, edge), (shape[1] - edge, shape[0] - edge))
        if len(found) < 12 and all(np.hypot(*(xy - other)) > 1.6 * DIAMETER_PX for other in found):
            found.append(xy)
    return np.round(found, 2)


def draw(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return the pixels of one micrograph: dark discs on noise, over a slope."""
    rng = np.random.default_rng((43, number))
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = rng.normal(100, 4, shape) + 0.01 * x + 0.02 * y
    for cx, cy in centres(number, shape):
        pixels -= 20 * (np.hypot(x - cx, y - cy) < DIAMETER_PX / 2)
    return pixels.astype(np.float32)


def make_micrographs(
    folder: Path, n: int = 3, shape: tuple[int, int] = SHAPE, pixel_size_A: float | None = PIXEL_SIZE_A
) -> list[Path]:
    """Write ``mic0.mrc``, ``mic1.mrc``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"mic{number}.mrc" for number in range(n)]
    for number, path in enumerate(paths):
        mrc.write(path, draw(number, shape), pixel_size_A)
    return paths


def make_labels(folder: Path, n: int, shape: tuple[int, int] = SHAPE) -> Path:
    """Write the true labels of the first `n` micrographs, with their diameter."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        particles = Particles.of(centres(number, shape), DIAMETER_PX)
        coordinates.write(folder / f"mic{number}.csv", particles, "csv")
    return folder


def make_picks(folder: Path, n: int, shape: tuple[int, int] = SHAPE) -> Path:
    """Write picks of the first `n` micrographs: each label but one, a pixel beside it, and four false ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        rng = np.random.default_rng((47, number))
        right = centres(number, shape)[1:] + rng.uniform(-1, 1, (len(centres(number, shape)) - 1, 2))
        wrong = np.array([[5.0, 7.0], [shape[1] - 9.0, 6.0], [8.0, shape[0] - 4.0], [shape[1] / 2, 4.0]])
        scores = np.round(np.concatenate([rng.uniform(0.5, 0.99, len(right)), rng.uniform(0.05, 0.6, 4)]), 4)
        particles = Particles.of(np.concatenate([right, wrong]), DIAMETER_PX, scores).by_score()
        coordinates.write(folder / f"mic{number}.csv", particles, "csv")
    return folder


def make_project(
    tmp_path: Path,
    n: int = 3,
    shape: tuple[int, int] = SHAPE,
    labels: bool = True,
    picks: bool = False,
    diameter: str | None = f"{DIAMETER_PX:g}px",
    pixel_size_A: float | None = PIXEL_SIZE_A,
) -> Project:
    """Return a project of `n` micrographs, for labelling, or with `picks` for inspecting.

    With `labels`, all micrographs but the last are labelled: in ``tmp_path/labels``. Picks lie in ``tmp_path/picks``.
    """
    paths = make_micrographs(tmp_path / "micrographs", n, shape, pixel_size_A)
    folder = make_labels(tmp_path / "labels", n - 1, shape) if labels else tmp_path / "labels"
    length = None if diameter is None else parse_length(diameter)
    if picks:
        found = make_picks(tmp_path / "picks", n, shape)
        return inspecting(paths, Reading(), found, folder if labels else None, length)
    return labelling(paths, Reading(), folder, length)


def label_folder(project: Project) -> LabelFolder:
    """Return a new reader of the project's labels."""
    assert project.labels is not None
    return LabelFolder(project.labels, project.micrographs)


def label_store(project: Project) -> LabelStore:
    """Return the labels as a server that has just been started sees them."""
    return LabelStore(project, label_folder(project))


def pick_store(project: Project) -> PickStore:
    """Return the picks, read to the end."""
    store = PickStore(project, None if project.labels is None else label_folder(project))
    store.wait(60)
    return store


def jobs_of(project: Project, program: tuple[str, ...] | None = None) -> Jobs:
    """Return the jobs; `program` is started in place of ``upicker``."""
    return Jobs(project, label_folder(project), *([] if program is None else [program]))


def client(project: Project) -> TestClient:
    """Return a visitor with the cookie, whose writes come from the page itself.

    Use it in ``with``, so that the application ends as it does when the server stops.
    """
    visitor = stranger(project)
    visitor.cookies.set("upicker-8765", session_of(TOKEN), domain="127.0.0.1", path="/")
    visitor.headers["Origin"] = ADDRESS
    return visitor


def stranger(project: Project) -> TestClient:
    """Return a visitor without the cookie."""
    return stranger_of(make_app(project, TOKEN))


def stranger_of(app: ASGIApp) -> TestClient:
    """Return a visitor without the cookie to an application."""
    return TestClient(app, base_url=ADDRESS, follow_redirects=False)
