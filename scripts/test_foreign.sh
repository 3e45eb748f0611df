#!/usr/bin/env bash
# The encoders mace and tensornet against the packages that they come from, each in an environment of its own: mace-torch
# pins e3nn 0.4.4, the zoo needs 0.5.6 or newer, so they cannot live together.
#
#   scripts/test_foreign.sh [mace] [tensornet]
#
# The package makes models with random weights and computes their features (tests/encoders/data/make_*.py); the zoo
# converts these models and compares. What the zoo's environment has already, torch above all, is not installed again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
place=$(realpath -ms "${FOREIGN:-.venv/foreign}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
[ $# -gt 0 ] || set -- mace tensornet

environment() {  # NAME REQUIREMENT...
    local venv=$place/$1
    [ -e "$venv/.installed" ] && return
    echo "making $venv"
    "$python" -m venv --clear "$venv"
    "$python" -c 'import sys; print(*[p for p in sys.path if p.endswith("site-packages")], sep="\n")' \
        > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/zoo.pth"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}" 2> "$venv/pip.log" ||
        { cat "$venv/pip.log"; exit 1; }
    touch "$venv/.installed"
}

make_models() {  # PACKAGE SCRIPT VARIANT...
    for variant in "${@:3}"; do
        "$place/$1/bin/python" -W ignore "tests/encoders/data/$2" "$models/$1/$variant" 1 "$variant" > "$models/log" 2>&1 ||
            { cat "$models/log"; exit 1; }
    done
}

models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT
marks=()
for package in "$@"; do
    case $package in
        mace)
            environment mace torch==2.13.0 mace-torch==0.3.16 e3nn==0.4.4
            make_models mace make_mace.py residual density third-order public agnostic ;;
        tensornet)
            environment tensornet torch==2.13.0 matgl==4.1.2
            make_models tensornet make_tensornet.py bessel gaussian ;;
        *) echo "test_foreign: mace or tensornet, not $package" >&2; exit 2 ;;
    esac
    marks+=("$package")
done
ZOO_FOREIGN=$models "$python" -m pytest -q -m "$(printf '%s or ' "${marks[@]}" | sed 's/ or $//')" tests/encoders/test_mace.py tests/encoders/test_tensornet.py
