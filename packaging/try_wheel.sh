#!/usr/bin/env bash
# Install a wheel in a fresh environment, whose other packages are those of the given Python, and pick with it:
#     packaging/try_wheel.sh .venv/bin/python dist/upicker-0.1.0-py3-none-any.whl
set -euo pipefail
python=$1 wheel=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv --without-pip "$folder/venv"
"$python" -m pip --python "$folder/venv/bin/python" install --quiet --no-deps --no-index "$wheel"
site=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Behind what is installed there, so that the wheel's upicker is the one that is found.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$site/others.pth"
cd "$folder"
"$folder/venv/bin/python" -c 'import sys, upicker; sys.exit(not upicker.__file__.startswith(sys.prefix))'
test -s "$folder/venv/share/man/man1/upicker.1"
"$folder/venv/bin/upicker" simulate barrel --micrographs 1 --shape 576x512 --pixel-size 3A --seed 1 -o sim -q
"$folder/venv/bin/upicker" pick sim/micrographs -o picks --diameter 150A -q
"$folder/venv/bin/upicker" doctor -q
test "$(wc -l < picks/*.csv)" -gt 10
