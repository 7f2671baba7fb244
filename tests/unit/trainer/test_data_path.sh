#!/usr/bin/env bash
# `excon check` says which way training images take and what memory it needs; on the CPU only data.loader: device puts them
# on the device.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh

echo 1..6
"$excon" import synthetic "$scratch/data" --classes 4 --size 32 --train-per-class 100 --val-per-class 1 >/dev/null
cat >"$scratch/run.yaml" <<END
method: supcon
data: {dir: $scratch/data, holdout: 0}
eval: {selection: val}
run: {dir: $scratch/run}
model: {encoder: resnet10, width: 4}
train: {epochs: 1, batch: 8}
backend: cpu
END

path_is() { # NAME, PART of the line, [--set key=value]...
    local name=$1 part=$2
    shift 2
    says "$name" 0 "data path: training images $part" "$excon" check "$scratch/run.yaml" "$@"
}

path_is auto_memory 'held in host memory (1.' # 400 * 3072 bytes
path_is auto_stream 'streamed from disk (' --set data.memory_mb=1
path_is memory 'held in host memory (1.' --set data.loader=memory --set data.memory_mb=1
path_is stream 'streamed from disk (' --set data.loader=stream
path_is device 'resident on the device (1.2 MB a rank' --set data.loader=device --set data.device_mb=0
path_is auto_leaves_the_cpu_alone 'held in host memory (' --set data.device_mb=16777216
