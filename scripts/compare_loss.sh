#!/bin/sh
# The contrastive loss, forward and backward, against the published loss in PyTorch, alternating in one run.
#
# Usage: scripts/compare_loss.sh [result.json]      from the top folder
# Variables: ROWS (16384; two views of half as many samples), DIM (128), ROUNDS (3), THREADS (2), EXCON, PYTHON.
# The peer holds about ten ROWS x ROWS float matrices: 8.3 GB at 16384 rows, a quarter of it at 8192.
set -eu
cd "$(dirname "$0")/.."
. scripts/peers/common.sh
need_peer
need_excon
ROWS=${ROWS:-16384}
DIM=${DIM:-128}
exec "$PYTHON" scripts/peers/compare.py --rounds "${ROUNDS:-3}" --keys seconds,extra_mb,peak_mb ${1:+--json "$1"} \
    --title "Contrastive loss, forward and backward, $ROWS rows of $DIM, $THREADS threads, float32" \
    --peer "published=$PYTHON scripts/peers/published_loss.py --rows $ROWS --dim $DIM --threads $THREADS" \
    --ours "$EXCON bench loss --rows $ROWS --dim $DIM --json"
