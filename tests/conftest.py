"""What several test files share: fixtures for what may be missing on a machine, and the option that forbids it.

A test that uses the fixture `chromium`, `relion` or `node` gets the marker `browser`, `relion` or `javascript`. Where
the program is not installed it skips, with a reason; under ``--must-run=browser`` it fails instead, and so does a run
in which no test with that marker passed.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# By default, Hypothesis fails examples that take longer than 200 ms, and data that are slow to draw.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
SHARED = Path(__file__).resolve().parents[2] / "shared"
# Files that take longest, beside those with the marker `slow`: they begin first, so that no process is left with one of
# them while the others have nothing to do.
LONGEST = {
    *("test_train_stages.py", "test_train_loop.py", "test_train_general.py", "test_cli_training.py"),
    *("test_run_relion.py", "test_run_find.py", "test_run_demo.py", "test_cli_benchmark.py", "test_cuda.py"),
}
MARKER_OF_FIXTURE = {"chromium": "browser", "relion": "relion", "node": "javascript", "slurm": "slurm"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--must-run",
        action="append",
        default=[],
        metavar="MARKER",
        help="fail if a test with this marker is skipped, or if none passes (may be repeated)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("must_run"):
        config.pluginmanager.register(MustRun(config), "must-run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in MARKER_OF_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(MARKER_OF_FIXTURE[fixture])
    first = {item.path for item in items if item.path.name in LONGEST or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in first)


class MustRun:
    """Turn skips of tests with the required markers into failures.

    With pytest-xdist, the workers run the tests and turn the skips; the process that started them counts.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.required = set(config.getoption("must_run"))
        self.passed: set[str] = set()
        self.is_worker = hasattr(config, "workerinput")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        report = yield
        required = self.required & {marker.name for marker in item.iter_markers()}
        if required and report.skipped:
            report.outcome = "failed"
            report.longrepr = f"skipped in spite of --must-run={min(required)}: {report.longrepr}"
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed |= self.required & set(report.keywords)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.is_worker and self.required - self.passed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for marker in sorted(self.required - self.passed):
            terminalreporter.line(f"--must-run={marker}: no test with this marker passed", red=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real micrographs beside the checkout; tests that use it skip where it is missing."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the folder of real micrographs is not here")
    return SHARED


# Not for the whole session: while it is open, its event loop counts as running, and other tests start their own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser of Playwright's; tests that use it skip where there is none."""
    from browser import chromium

    yield from chromium()


@pytest.fixture(scope="session")
def relion() -> str:
    """RELION's program that cuts particles; tests that use it skip where RELION is not installed."""
    program = shutil.which("relion_preprocess")
    if program is None:
        pytest.skip("RELION is not installed (Debian's package relion)")
    return program


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    """SLURM with two nodes on this machine: its configuration; tests that use it skip where it is not installed."""
    import toy_slurm

    if (reason := toy_slurm.missing()) is not None:
        pytest.skip(reason)
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        yield from toy_slurm.running(Path(folder))


@pytest.fixture(scope="session")
def node() -> str:
    """Node, which runs JavaScript without a browser; tests that use it skip where it is missing or too old."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        pytest.skip(f"node is {version}; 20 or newer is needed")
    return program
