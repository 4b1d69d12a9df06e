"""The application: its commands, and the exit codes of errors.

Exit codes:

====  ==========================================================================
0     success
1     an error: a file that cannot be used or written
2     invalid command line or config
3     one or more micrographs failed; all others were processed
130   stopped with Ctrl-C (143: by a termination signal); all files written are complete
====  ==========================================================================
"""

from __future__ import annotations

import shlex
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cyclopts import App, CycloptsError

from upicker import __version__
from upicker.cli import (
    benchmark,
    check_frame,
    completion,
    config,
    convert,
    demo,
    doctor,
    evaluate,
    extract,
    inspect,
    label,
    merge,
    pick,
    propose,
    relion_job,
    report,
    simulate,
    size,
    status,
    suggest,
    train,
    training,
    triage,
)
from upicker.cli.console import as_json, printing, problem, record, result, warning
from upicker.errors import ConfigError, UPickerError, UPickerWarning


def name_of(command: Callable[..., int]) -> str:
    """Return a command's name on the command line."""
    return command.__name__.replace("_", "-")


app = App(
    "upicker",
    help="Pick particles in cryo-EM micrographs: train on unlabelled micrographs, then on a few labelled ones.",
    help_epilogue="Lengths take a unit: 190A, 19nm, 108px; a bare number is in Angstrom.\n\n"
    "All commands: --log-file FILE appends all that is printed, with times; -q prints no progress; -v prints more.",
    help_format="markdown",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
USAGE = {
    propose.propose: "MICS... -o DIR --diameter 108px [OPTIONS]",
    training.pretrain: "MICS... -o pre.safetensors --diameter 108px [OPTIONS]",
    training.finetune: "MICS... --labels DIR -o model.safetensors [--init pre.safetensors] [OPTIONS]",
    train.train: "SETS.toml -o general.safetensors [OPTIONS]",
    label.label: "MICS... --labels DIR [--diameter 190A] [--model model.safetensors] [OPTIONS]",
    suggest.suggest: "MICS... [--model model.safetensors] [--labels DIR] [-o ranking.csv] [OPTIONS]",
    triage.triage: "MICS... -o good.star [OPTIONS]",
    size.size: "MICS... [OPTIONS]",
    pick.pick: "MICS... -o DIR [--diameter 190A] [--model model.safetensors] [OPTIONS]",
    status.status: "FOLDER",
    merge.merge: "PARTS... -o DIR",
    inspect.inspect: "PICKS --micrographs MICS... [--labels DIR] [OPTIONS]",
    report.report: "PICKS -o report.html [--micrographs MICS...] [--labels DIR] [OPTIONS]",
    evaluate.evaluate: "LABELS PICKS [OPTIONS]",
    extract.extract: "PICKS --micrographs MICS... --box 160px -o particles.star [OPTIONS]",
    convert.convert: "FILES... --to FORMAT -o OUT [--micrographs MICS...] [OPTIONS]",
    check_frame.check_frame: "PICKS... --micrographs MICS... [OPTIONS]",
    relion_job.relion_job: "--in_mics micrographs.star --o External/job012/ [OPTIONS]",
    simulate.simulate: "SPECIMEN... -o DIR [OPTIONS]",
    benchmark.benchmark: "--dataset DIR -o OUT [OPTIONS]",
    config.config: "[--preset paper] [--config FILE] [--set ROOM.KNOB=VALUE]",
    demo.demo: "[--out DIR]",
    doctor.doctor: "[--no-self-test] [--json]",
    completion.completion: "bash|zsh|fish",
}
# Commands whose process computes a network; others share their memory with what else runs on the machine.
COMPUTING = {
    name_of(command)
    for command in (
        training.pretrain,
        training.finetune,
        train.train,
        suggest.suggest,
        triage.triage,
        size.size,
        pick.pick,
        relion_job.relion_job,
        benchmark.benchmark,
        demo.demo,
    )
}
HELP = {convert.convert: convert.help_with_formats}
for _order, (_command, _usage) in enumerate(USAGE.items()):
    app.command(
        _command,
        usage=f"Usage: upicker {name_of(_command)} {_usage}",
        sort_key=_order,
        help_formatter=HELP.get(_command),
    )


class Terminated(KeyboardInterrupt):
    """A termination signal, as cluster schedulers send it: handled like Ctrl-C, no partial files are left."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.

    Returns
    -------
    int
        The exit code.
    """
    words, quiet, verbose, log_file = _general(arguments)
    try:
        with printing(log_file, quiet, verbose):
            as_json("--json" in words)
            return _logged(words)
    except UPickerError as error:
        problem(str(error))
        return 2


def _general(arguments: Sequence[str]) -> tuple[list[str], bool, bool, Path | None]:
    """Return a command line without the options of all commands, and these: ``-q``, ``-v`` and ``--log-file``."""
    words, flags, log_file = [], set(), None
    rest = iter(arguments)
    for word in rest:
        if word in ("-q", "--quiet", "-v", "--verbose"):
            flags.add(word.lstrip("-")[0])
        elif word == "--log-file":
            log_file = next(rest, "")
        elif word.startswith("--log-file="):
            log_file = word.partition("=")[2]
        else:
            words.append(word)
    return words, "q" in flags, "v" in flags, None if log_file is None else Path(log_file)


def _logged(words: Sequence[str]) -> int:
    """Run one command line, with its beginning and end in the log file."""
    record(f"upicker {__version__} on {socket.gethostname()}: upicker {shlex.join(words)}")
    began = time.monotonic()
    try:
        code = _run(words)
    except BaseException:
        record(f"ended by an error\n{traceback.format_exc()}")
        raise
    record(f"exit code {code} after {time.monotonic() - began:.1f} s")
    return code


def _failed(error: UPickerError, code: int) -> int:
    problem(str(error))
    values = {"kind": type(error).__name__, "where": error.where, "what": error.found, "remedy": error.remedy}
    result({"error": values, "exit_code": code})
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        command = next((word for word in arguments if word in _names()), "")
        problem(f"{error} See: upicker {command + ' ' if command else ''}--help")
        result({"error": {"kind": "usage", "what": str(error)}, "exit_code": 2})
        return 2
    except ConfigError as error:
        return _failed(error, 2)
    except UPickerError as error:
        return _failed(error, 1)
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        problem(f"There is not enough memory{reason}. Use a larger machine, fewer --jobs, or smaller micrographs.")
        return 1
    except KeyboardInterrupt as stop:
        problem("Stopped. All files written are complete; continue with --resume (training) or --skip-existing.")
        return 143 if isinstance(stop, Terminated) else 130
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run the command line of this process, and exit."""
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _show_warning
    if sys.argv[1:2] and sys.argv[1] in COMPUTING:
        from upicker.run.allocator import keep_freed_memory

        keep_freed_memory()
    sys.exit(run(sys.argv[1:]))


_others = warnings.showwarning


def _show_warning(message: Warning | str, *rest: Any) -> None:
    """Print the package's warnings without a line of code, and others as usual."""
    if isinstance(message, UPickerWarning):
        warning(str(message))
    else:
        _others(message, *rest)


def _names() -> set[str]:
    return {name_of(command) for command in USAGE}


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated
