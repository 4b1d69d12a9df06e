"""The loop over many files: what fails stays alone, also when a process dies."""

import warnings
from pathlib import Path

import pytest
from failing_work import Raising, Work

from upicker.errors import ConfigError, OutputError, UPickerWarning, collected_warnings
from upicker.run.batch import Outcome, each

PATHS = [Path(f"{name}.mrc") for name in ("a", "bad", "b", "bug", "c", "huge")]


def summary(outcomes: list[Outcome[str]]) -> dict[str, str]:
    return {o.path.stem: o.value or f"{type(o.error).__name__}: {o.error}" for o in outcomes}


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_file_has_its_outcome_and_failures_stop_nothing(jobs):
    outcomes = list(each(PATHS, Work(), jobs))
    found = summary(outcomes)
    assert sorted(o.path for o in outcomes) == sorted(PATHS)
    assert [found[stem] for stem in "abc"] == ["A", "B", "C"]
    assert found["bad"] == "MicrographError: bad.mrc: is broken. Mend it."
    assert "unexpected ZeroDivisionError in failing_work.py" in found["bug"]
    assert "not enough memory" in found["huge"]
    assert all(o.seconds >= 0 for o in outcomes)


def _noticing(path: Path) -> str:
    warnings.warn(UPickerWarning(path, "it is odd", "Look at it"), stacklevel=1)
    return path.stem


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_come_with_the_outcome(jobs):
    for outcome in each(PATHS[:2], _noticing, jobs):
        [one] = outcome.warnings
        assert (one.where, one.found, one.remedy) == (str(outcome.path), "it is odd", "Look at it")
        assert str(one) == f"{outcome.path}: it is odd. Look at it."


def test_other_warnings_go_where_they_always_go():
    with collected_warnings() as noticed:
        with pytest.warns(RuntimeWarning, match="overflow"):
            warnings.warn("overflow", RuntimeWarning, stacklevel=1)
        for _ in range(2):
            warnings.warn(UPickerWarning("a", "b"), stacklevel=1)
    assert [str(one) for one in noticed] == ["a: b."] * 2


def test_the_death_of_a_process_is_laid_to_its_file():
    found = summary(list(each(PATHS, Work(killed=True), 2)))
    assert [found[stem] for stem in "abc"] == ["A", "B", "C"]
    assert "huge.mrc: the process working on it was killed" in found["huge"]
    assert len(found) == len(PATHS)


def test_files_are_done_in_order_and_one_at_a_time():
    done = []
    outcomes = each(PATHS[:3], lambda path: done.append(path) or path.stem)
    assert not done
    assert next(outcomes).path == PATHS[0]
    assert done == PATHS[:1]


@pytest.mark.parametrize(
    ("error", "jobs"),
    [
        (OutputError("out", "is full"), 1),
        (OutputError("out", "is full"), 2),
        (ConfigError("propose.top_k", "is no number"), 1),
    ],
)
def test_what_concerns_all_files_stops_all(jobs, error):
    with pytest.raises(type(error), match=str(error)):
        list(each(PATHS, Raising(error), jobs))


def test_a_config_error_that_names_the_file_is_that_file_s():
    [outcome] = each(PATHS[:1], Raising(ConfigError(PATHS[0], "its pixel size is not known")))
    assert isinstance(outcome.error, ConfigError)
