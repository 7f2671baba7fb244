#!/usr/bin/env bash
# `excon check` says which way training images take and what memory it needs; on the CPU only data.loader: device puts them
# on the device.
set -uo pipefail
excon=${EXCON:-build/excon}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo 1..6
number=0
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

check() { # NAME, PART of the line, [--set key=value]...
    local name=$1 part=$2
    shift 2
    number=$((number + 1))
    if "$excon" check "$scratch/run.yaml" "$@" >"$scratch/log" 2>&1 &&
        grep -qF -- "data path: training images $part" "$scratch/log"; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        sed 's/^/# /' "$scratch/log"
    fi
}

check auto_memory 'held in host memory (1.' # 400 * 3072 bytes
check auto_stream 'streamed from disk (' --set data.memory_mb=1
check memory 'held in host memory (1.' --set data.loader=memory --set data.memory_mb=1
check stream 'streamed from disk (' --set data.loader=stream
check device 'resident on the device (1.2 MB a rank' --set data.loader=device --set data.device_mb=0
check auto_leaves_the_cpu_alone 'held in host memory (' --set data.device_mb=16777216
