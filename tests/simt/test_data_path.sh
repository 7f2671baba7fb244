#!/usr/bin/env bash
# Training on a CUDA device: whichever way the images take, and changed in mid-epoch, the run is the same bit for bit;
# data.device_mb decides about the way.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/tap.sh

echo 1..6
"$excon" import synthetic "$scratch/data" --classes 3 --size 16 --train-per-class 10 --val-per-class 1 >/dev/null
cat >"$scratch/run.yaml" <<END
method: supcon
backend: cuda
data: {dir: $scratch/data, holdout: 0, classes: 2}
eval: {selection: val, every_epochs: 0}
model: {encoder: resnet10, width: 4, projection: 8}
train: {epochs: 1, batch: 7}
optim: {lr: 0.05}
comm: {transport: ${EXCON_TRANSPORT:-auto}}
END

train() { # NAME, [--set key=value]...
    local name=$1
    shift
    "$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/$name" "$@" >"$scratch/$name.log" 2>&1
}
digest() { "$excon" digest "$scratch/$1/checkpoints/last.h5"; }

train resident && grep -q 'data path: training images resident on the device' "$scratch/resident.log"
check resident_by_default $? "$scratch/resident.log"
wanted=$(digest resident)

train memory --set data.device_mb=0 && grep -q 'held in host memory.*through pinned buffers' "$scratch/memory.log"
check device_mb_0_stays_on_the_host $? "$scratch/memory.log"
[ -n "$wanted" ] && [ "$(digest memory)" = "$wanted" ]
check same_from_memory $? "$scratch/memory.log"

train stream --set data.loader=stream && grep -q 'streamed from disk.*through pinned buffers' "$scratch/stream.log"
check streams_when_told $? "$scratch/stream.log"
[ -n "$wanted" ] && [ "$(digest stream)" = "$wanted" ]
check same_from_stream $? "$scratch/stream.log"

train mixed --set data.loader=stream --set train.max_steps=1 && train mixed --set train.max_steps=2 &&
    train mixed --set data.loader=memory && [ -n "$wanted" ] && [ "$(digest mixed)" = "$wanted" ]
check same_when_changed_in_mid_epoch $? "$scratch/mixed.log"
