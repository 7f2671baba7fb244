#!/usr/bin/env bash
# What TensorBoard gets of a run and of its evaluation, by a reader of our own and by TensorBoard's where that is here.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
export OMP_NUM_THREADS=1

echo 1..9
if ! "$python" -c 'import struct' 2>/dev/null; then
    skip "no Python here ($python)" run scalars learning_rates sheets configuration evaluation classifier_pass tensorboard \
        tensorboard_after_resume
    exit 0
fi
list() { "$python" tests/support/shell/event_list.py "$@" >"$scratch/list" 2>&1; }
has() { # LINE (extended regular expression)...: each stands in the list
    local line
    for line in "$@"; do
        grep -qE "^$line\$" "$scratch/list" || {
            echo "missing: $line" >>"$scratch/list"
            return 1
        }
    done
}

"$excon" import synthetic "$scratch/data" --classes 6 --size 16 --train-per-class 20 --val-per-class 10 >/dev/null
cat >"$scratch/run.yaml" <<END
data: {dir: $scratch/data, holdout: 0.1}
model: {encoder: resnet10, width: 4, projection: 16}
train: {epochs: 2, batch: 27, log_every: 2}
optim: {lr: 0.01}
END
number_pattern='-?[0-9.]+(e-?[0-9]+)?'
"$mpirun" -n 2 "$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/run" --set method=exconb >"$scratch/log" 2>&1 &&
    "$excon" eval "$scratch/run" >>"$scratch/log" 2>&1
check run $? "$scratch/log"
list "$scratch/run/events"
has "scalar train/loss 2 $number_pattern" "scalar train/classifier_loss 8 $number_pattern" "scalar train/accept_rate 8 $number_pattern" \
    "scalar train/background [0-9]+ $number_pattern" "scalar holdout/top1 8 $number_pattern" "scalar holdout/top5 8 $number_pattern" \
    "scalar holdout/nll 4 $number_pattern"
check scalars $? "$scratch/list"
has 'scalar lr/encoder 4 0.00500[0-9]+' 'scalar lr/classifier 4 0.00500[0-9]+' # half way down the cosine
check learning_rates $? "$scratch/list"
has 'image holdout/saliency 4 412x276 JPEG' 'image holdout/saliency 8 412x276 JPEG' # rank 0 has 6 of 12 images, of 64 x 64 in 4 columns
check sheets $? "$scratch/list"
has 'text config 0 # 2 ranks, f32, .*'
check configuration $? "$scratch/list"
if list "$scratch/run/events" tensorboard; then
    list "$scratch/run/events" && cp "$scratch/list" "$scratch/ours" && list "$scratch/run/events" tensorboard &&
        diff "$scratch/ours" "$scratch/list" >"$scratch/diff"
    check tensorboard $? "$scratch/diff"
else
    skip "Python package tensorboard is not installed (pip install tensorboard)" tensorboard
fi
list "$scratch/run/events/eval"
has "scalar val/top1 [48] $number_pattern" "scalar val/top5 [48] $number_pattern" "scalar val/nll [48] $number_pattern" \
    "scalar val/ece [48] $number_pattern" "scalar val/drop [48] $number_pattern" "scalar val/soft_increase [48] $number_pattern"
check evaluation $? "$scratch/list"

# A classifier with a pass of its own has its own steps; official runs select on val.
"$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/official" --set method=supcon --set profile=official \
    --set data.holdout=0 --set train.epochs=1 >"$scratch/log" 2>&1
list "$scratch/official/events"
has 'scalar lr/encoder 5 .*' 'scalar lr/classifier 10 .*' 'scalar val/top1 10 .*' 'image val/saliency 10 .*' &&
    ! grep -q 'lr/classifier 5 \|lr/encoder 10 ' "$scratch/list"
check classifier_pass $? "$scratch/list"

# What a killed run wrote of steps beyond its checkpoint is void after the resume: TensorBoard shows each step once.
"$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/twice" --set method=ce --set train.epochs=1 >"$scratch/log" 2>&1
"$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/twice" --set method=ce --set train.epochs=2 >>"$scratch/log" 2>&1
if list "$scratch/twice/events" tensorboard; then
    [ "$(grep -c '^scalar train/loss ' "$scratch/list")" = "$(grep '^scalar train/loss ' "$scratch/list" | cut -d' ' -f3 | sort -u | wc -l)" ] &&
        has 'scalar train/loss 8 .*'
    check tensorboard_after_resume $? "$scratch/list"
else
    skip "Python package tensorboard is not installed (pip install tensorboard)" tensorboard_after_resume
fi
