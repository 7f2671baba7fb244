#!/usr/bin/env bash
# Equal runs give equal digests: three runs of each method with the same number of threads end in the same parameters,
# momentum and statistics, bit for bit, on narrow nets with even and odd widths. (Sums are cut into parts by the number
# of threads, so runs with different numbers of threads differ in the last bits.)
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
echo 1..12

# Twenty images of 64x64 are what an earlier oneDNN's narrow 1x1 convolutions wrote past their temporaries with.
"$excon" import synthetic "$scratch/data" --classes 4 --size 64 --train-per-class 11 --val-per-class 1 >/dev/null
cat >"$scratch/c.yaml" <<END
data: {dir: $scratch/data}
model: {encoder: resnet10, width: 8}
train: {epochs: 1, batch: 20, max_steps: 2}
checkpoint: {keep: 1}
backend: cpu
precision: f32
END

# once THREADS KEY=VALUE...   trains in a fresh folder; the digest in $digest, "failed" without one
once() {
    local threads=$1 sets=() key
    shift
    for key in "$@"; do sets+=(--set "$key"); done
    rm -rf "$scratch/run"
    digest=failed
    if OMP_NUM_THREADS=$threads timeout 120 "$excon" train "$scratch/c.yaml" --set run.dir="$scratch/run" "${sets[@]}" >"$scratch/log" 2>&1; then
        digest=$("$excon" digest "$scratch/run/checkpoints/last.h5")
    else
        sed 's/^/# /' "$scratch/log"
    fi
}

# thrice THREADS KEY=VALUE...
thrice() {
    local first digest equal=1
    once "$@"
    first=$digest
    for _ in 2 3; do
        once "$@"
        if [ "$digest" = failed ] || [ "$digest" != "$first" ]; then
            echo "# $digest after $first"
            equal=0
        fi
    done
    [ $equal = 1 ]
    check "$*" $?
}

for threads in 1 2; do
    for method in ce simclr supcon excon exconb; do thrice $threads method=$method; done
    thrice $threads method=excon model.width=7
done
