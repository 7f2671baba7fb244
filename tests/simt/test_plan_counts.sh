#!/usr/bin/env bash
# Background rows of ExConB: their number differs at every step, and yet cuDNN's plans, which take as long as a step to
# find, are all found in the first epoch. Counted by the stand-in for cuDNN: as many plans for two epochs as for one.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/tap.sh
echo 1..2
"$excon" import synthetic "$scratch/data" --classes 4 --size 16 --train-per-class 9 --val-per-class 1 >/dev/null
cat >"$scratch/run.yaml" <<END
data: {dir: $scratch/data, holdout: 0}
method: exconb
backend: cuda
precision: bf16
eval: {selection: val, every_epochs: 0}
model: {encoder: resnet10, width: 4, projection: 8}
train: {batch: 8, log_every: 1}
optim: {lr: 0.01, warmup: off}
END

background() { # EPOCHS
    sed -n 's/.*"event":"step".*"background":\([0-9]*\).*/\1/p' "$scratch/epochs-$1/metrics.jsonl"
}

for epochs in 1 2; do
    EXCON_SIMT_CUDNN_PLANS=$scratch/plans-$epochs "$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/epochs-$epochs" \
        --set "train.epochs=$epochs" >"$scratch/$epochs.log" 2>&1 || break
done
first=$(background 1 | wc -l)
[ "$(background 2 | sort -u | wc -l)" -ge 3 ] &&
    background 2 | tail -n "+$((first + 1))" | grep -vxF "$(background 1)" >/dev/null
told=$?
{
    tail -n 5 "$scratch"/*.log
    for epochs in 1 2; do
        echo "epochs: $epochs; plans by row count: $(sort -n "$scratch/plans-$epochs" | uniq -c | tr -s ' \n' ' ')"
    done
    echo "background rows, step by step: $(background 2 | tr '\n' ' ')"
} >"$scratch/log" 2>&1
check "the second epoch has numbers of background rows that the first did not have" $told
[ -s "$scratch/plans-1" ] && [ "$(wc -l <"$scratch/plans-1")" = "$(wc -l <"$scratch/plans-2")" ]
check "no plan is made after the first epoch" $?
