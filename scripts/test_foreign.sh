#!/usr/bin/env bash
# The encoders mace, tensornet and nequix against the packages that they come from, each in an environment of its own:
# mace-torch pins e3nn 0.4.4, the zoo needs 0.5.6 or newer, so they cannot live together; nequix wants JAX.
#
#   scripts/test_foreign.sh [mace] [tensornet] [nequix]
#
# The package makes models with random weights and computes their features and energies (tests/encoders/data/make_*.py);
# the zoo converts these models and compares. What the zoo's environment has already, torch above all, is not installed
# again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
[ $# -gt 0 ] || set -- mace tensornet nequix

environment() {  # NAME REQUIREMENT...: the path of its Python
    "$python" benchmarks/environment.py "$@"
}

make_models() {  # PACKAGE PYTHON SCRIPT VARIANT...
    for variant in "${@:4}"; do
        "$2" -W ignore "tests/encoders/data/$3" "$models/$1/$variant" 1 "$variant" > "$models/log" 2>&1 ||
            { cat "$models/log"; exit 1; }
    done
}

models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT
marks=()
for package in "$@"; do
    case $package in
        mace)
            theirs=$(environment mace mace-torch==0.3.16 e3nn==0.4.4)
            make_models mace "$theirs" make_mace.py residual density third-order public agnostic ;;
        tensornet)
            theirs=$(environment tensornet matgl==4.1.2)
            make_models tensornet "$theirs" make_tensornet.py bessel gaussian potential ;;
        nequix)
            # By hand: what it says it requires is JAX with CUDA, of gigabytes, and much that its model does not use.
            theirs=$(environment nequix --no-deps nequix==0.4.5 jax==0.7.2 jaxlib==0.7.2 ml-dtypes opt-einsum \
                e3nn-jax==0.21.0 equinox==0.13.8 jaxtyping==0.3.11 wadler-lindig jraph==0.0.6.dev0)
            make_models nequix "$theirs" make_nequix.py small other
            published=$(find ../shared/data/nequix -name '*.nqx' 2> "$models/log" || true)
            # shellcheck disable=SC2086  # one word for each file
            [ -z "$published" ] || "$theirs" -W ignore tests/encoders/data/make_nequix.py published \
                "$models/nequix/published.safetensors" $published ;;
        *) echo "test_foreign: mace, tensornet or nequix, not $package" >&2; exit 2 ;;
    esac
    marks+=("$package")
done
ZOO_FOREIGN=$models "$python" -m pytest -q -m "$(printf '%s or ' "${marks[@]}" | sed 's/ or $//')" tests/encoders/test_{mace,tensornet,nequix}{,_energy}.py
