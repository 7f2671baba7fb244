#!/bin/sh
# One training step against PyTorch, the published code's way and a tuned one, alternating in one run.
#
# Usage: scripts/compare_step.sh [result.json]      from the top folder
# Variables: METHOD (excon; or supcon, exconb), MODEL (resnet18), SIZE (64), BATCH (32), STEPS (3 timed steps a run),
# ROUNDS (3), THREADS (2), PRECISION (bf16), PEERS ("published tuned"), EXCON, PYTHON.
set -eu
cd "$(dirname "$0")/.."
. scripts/peers/common.sh
need_peer
need_excon
METHOD=${METHOD:-excon}
PRECISION=${PRECISION:-bf16}
shape="--model ${MODEL:-resnet18} --size ${SIZE:-64} --batch ${BATCH:-32} --method $METHOD --steps ${STEPS:-3}"
json=${1:+--json "$1"}
set -- --rounds "${ROUNDS:-3}" --keys seconds,images_per_s,peak_mb
for way in ${PEERS:-published tuned}; do
    set -- "$@" --peer "$way=$PYTHON scripts/peers/torch_step.py --way $way --threads $THREADS $shape"
done
# shellcheck disable=SC2086 # $json is nothing, or an option and a file
exec "$PYTHON" scripts/peers/compare.py "$@" $json \
    --title "Training step, $shape, $THREADS threads, ours in $PRECISION" \
    --ours "$EXCON bench step $shape --precision $PRECISION --json"
