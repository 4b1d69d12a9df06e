"""``upicker doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from upicker.cli.console import as_json, is_quiet, note, problem, result, warning
from upicker.cli.options import Flag, Json

if TYPE_CHECKING:
    from upicker.run.doctor import Finding


def doctor(*, no_self_test: Annotated[bool, Flag] = False, json: Json = False) -> int:
    """Check installation and machine: versions, memory, GPU, the general model, optional parts; then a self-test.

    Each line is "ok", "missing" (optional, with what it is for), "warning" or "broken", with what to do about it. The
    exit code is 1 if something is broken.

    Parameters
    ----------
    no_self_test
        Leave out the self-test: simulating a small micrograph, picking it with the general model, scoring the picks.
    """
    from upicker.run import doctor as known

    as_json(json)
    findings = []
    for finding in known.examine(not no_self_test):
        _show(finding)
        findings.append(finding)
    broken = [one.what for one in findings if one.state == known.BROKEN]
    if broken:
        problem(f"broken: {', '.join(broken)}")
    else:
        note("nothing is broken")
    code = 1 if broken else 0
    checks = [{"what": one.what, "state": one.state, "found": one.found, "remedy": one.remedy} for one in findings]
    result({"result": "doctor", "broken": broken, "checks": checks, "exit_code": code})
    return code


def _show(one: Finding) -> None:
    line = f"{one.state:8} {one.what}: {one.found}" + (f". {one.remedy}" if one.remedy else "")
    if one.state in ("broken", "warning"):
        (problem if one.state == "broken" else warning)(line)
    elif one.state != "ok" or not is_quiet():
        note(line)
