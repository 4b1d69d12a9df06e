"""The option under which a test must not skip (tests/conftest.py), tried on small suites of its own."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPPING = {
    "test_fixture": "def test_it(relion): pass",
    "test_body": "import pytest\n@pytest.mark.relion\ndef test_it(): pytest.skip('no')",
    "test_condition": "import pytest\n@pytest.mark.relion\n@pytest.mark.skipif(True, reason='no')\ndef test_it(): pass",
    "test_import": "import pytest\n@pytest.mark.relion\ndef test_it(): pytest.importorskip('no_such_module')",
}
PASSING = "import pytest\n@pytest.mark.relion\ndef test_passes(): pass\n"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty suite with our conftest.py, on a machine without RELION."""
    monkeypatch.setenv("PATH", "")
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers =\n  browser\n  relion\n  javascript\n  slow\n")
    return pytester


@pytest.mark.parametrize("distributed", [("-n", "1"), ("-p", "no:xdist")], ids=" ".join)
def test_what_must_run_fails_where_it_skips(suite, distributed):
    suite.makepyfile(**SKIPPING, test_passes=PASSING)
    suite.runpytest(*distributed).assert_outcomes(skipped=4, passed=1)
    result = suite.runpytest(*distributed, "--must-run=relion")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2, errors=2, passed=1)
    assert str(result.stdout).count("in spite of --must-run=relion: ") >= 4


@pytest.mark.parametrize("distributed", [("-n", "1"), ("-p", "no:xdist")], ids=" ".join)
def test_a_marker_that_must_run_needs_a_test_that_passes(suite, distributed):
    suite.makepyfile(PASSING)
    assert suite.runpytest(*distributed, "--must-run=relion").ret == pytest.ExitCode.OK
    result = suite.runpytest(*distributed, "--must-run=relion", "--must-run=browser")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--must-run=browser: no test with this marker passed"])


def test_markers_follow_from_the_fixtures(suite):
    suite.makepyfile("def test_one(relion): pass\ndef test_other(): pass")
    suite.runpytest("-p", "no:xdist", "-m", "relion").assert_outcomes(skipped=1, deselected=1)
