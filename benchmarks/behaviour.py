"""Whether a change of the code kept its behaviour: run it before and after, and compare all that was written.

    git worktree add ../before COMMIT                                                    the code before
    PYTHONPATH=../before/src python benchmarks/behaviour.py record /tmp/before
    PYTHONPATH=src python benchmarks/behaviour.py record /tmp/after --before /tmp/before
    python benchmarks/behaviour.py compare /tmp/before /tmp/after
    git worktree remove ../before

Both versions run by the same script: that of the newer checkout. `record` takes about three minutes on a free core;
what it does is listed in `behaviour_steps.py`: all commands' help, simulation, proposals, 30 seeded steps of
pretraining and of fine-tuning, a few of a ResNet, of partial labels, of self-training and of all augmentations,
picking, extraction, evaluation, RELION's job, and conversions to every format and back. With `--before` it picks with
the weights that the version before has trained, converted, so that a difference in training does not hide one in
picking; `--weights W` takes a file of that version instead. `--shared DIR` adds real micrographs: the first of each
pattern in `behaviour_steps.REAL` that is there. `--quick` leaves out all trainings but one of six steps, for a look in
between.

`compare` prints a line for what is the same, and one for each thing that is not, with the largest difference of
numbers. It exits with 1 if anything differs that is not in the list of intended differences (`behaviour_intended.py`);
of those it prints the reason. Equal are: parameters by order, shape and initial value; losses to 1e-5 (the log has six
digits); tensors of trained weights to 1e-5; coordinates and scores of picks exactly; pictures by pixel; ``run.toml`` by
value, but for times, versions and renamed knobs; of a report its pictures and the numbers in its text; all other files
byte for byte.

Names of tensors follow from the order in which networks make them. Where that changed, `--keys map.toml` gives them::

    [tensors]
    "old.name" = "new.name"
    [knobs]
    "room.old" = "room.new"

`convert-weights OLD NEW --before RECORD --after RECORD` does the same conversion for any weights of the version before.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import behaviour_weights as weights


def main() -> int:
    arguments = _parser().parse_args()
    by_hand = tomllib.loads(arguments.keys.read_text()) if arguments.keys else {}
    if arguments.command == "record":
        from behaviour_record import Options, record

        if arguments.quick and arguments.before is None:
            _parser().error("--quick needs --before: there are no other weights to pick with")
        options = Options(arguments.before, arguments.weights, arguments.shared, arguments.quick, by_hand)
        record(arguments.out, options)
        return 0
    if arguments.command == "compare":
        from behaviour_compare import compare

        return compare(arguments.before, arguments.after, by_hand)
    names = weights.all_names(arguments.before, arguments.after, by_hand.get("tensors", {}))
    like = arguments.after / "files/training/finetune.safetensors"
    weights.convert(arguments.old, arguments.new, like, names, by_hand.get("knobs", {}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run the version that Python finds, and keep what it writes")
    record.add_argument("out", type=Path, help="the folder to make")
    record.add_argument("--before", type=Path, help="record of the version before, whose weights are picked with")
    record.add_argument("--weights", type=Path, help="weights of the version before to pick with in their place")
    record.add_argument("--shared", type=Path, help="folder of real micrographs")
    record.add_argument("--quick", action="store_true", help="leave out most trainings; needs --before")
    compare = commands.add_parser("compare", help="compare two records; exits with 1 if they differ")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    convert = commands.add_parser("convert-weights", help="make weights of the version before readable for the other")
    convert.add_argument("old", type=Path)
    convert.add_argument("new", type=Path)
    convert.add_argument("--before", type=Path, required=True, help="record of the version before")
    convert.add_argument("--after", type=Path, required=True, help="record of the version after")
    for command in (record, compare, convert):
        command.add_argument("--keys", type=Path, help="names of tensors and knobs that changed, if order does not say")
    return parser


if __name__ == "__main__":
    sys.exit(main())
