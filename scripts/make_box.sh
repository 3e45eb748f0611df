#!/usr/bin/env bash
# Make the model in the box: scripts/make_box.sh FOLDER [RUNS]. FOLDER holds the files of docs/guides/open_labels.md: those of
# phonondb2018 and petretto2018, and the two of the Materials Project that stand in for dtnet-mp. Some 100 minutes of two cores;
# after a stop the same command goes on where it was.
#
# (a) ensembles of two on the splits of seeds 0-4, without twins of validation and test part in any source: the errors and the
#     intervals that are reported; (b) an ensemble of five, trained on all of it, which is put into zoo/box.
set -euo pipefail
cd "$(dirname "$0")/.."
labels=$1
runs=${2:-runs/box}
mp="{name: dtnet-mp, path: $labels/mp_dielectric_614.json.gz}, {name: dtnet-mp, path: $labels/mp_dielectric_838.json.gz}"
sources="auxiliary=[{name: phonondb2018, path: $labels}, {name: petretto2018, path: $labels}, $mp]"
for split in 0 1 2 3 4; do
    fold="$runs/fold_$split"
    if [ -e "$fold/metrics.json" ]; then continue; fi
    if [ -e "$fold/recipe.yaml" ]; then
        zoo run --resume "$fold"
    else
        zoo run dielectric_all "$sources" 'seeds=[0,1]' "split.seed=$split" tracking.enabled=false --out "$fold"
    fi
done
if [ -e "$runs/final/refit.yaml" ]; then
    [ -e "$runs/final/metrics.json" ] || zoo refit --resume "$runs/final"
else
    zoo refit "$runs"/fold_* --members 5 --out "$runs/final"
fi
python scripts/put_in_the_box.py "$runs/final" zoo-dielectric-1
