#!/usr/bin/env bash
# The scripts around the CUDA backend, as far as they can be tried without a GPU: gpu_check.sh end to end at tiny sizes,
# the page made of its results, and the report on registers and spills.
set -uo pipefail
build=${BUILD:-build} python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo 1..10
number=0
check() { # NAME, EXIT STATUS, PART of the output, COMMAND...
    local name=$1 want=$2 part=$3 output status
    shift 3
    number=$((number + 1))
    output=$("$@" 2>&1)
    status=$?
    if [ "$status" = "$want" ] && grep -qF -- "$part" <<<"$output"; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        printf '# wanted status %s and "%s"; got status %s and:\n%s\n' "$want" "$part" "$status" "$output" | sed 's/^/# /'
    fi
}
if ! "$python" -c 'import json' 2>/dev/null; then
    for name in dry_run wrong_stage measure stand_in resume page no_figures spill no_spill renamed; do
        number=$((number + 1))
        echo "ok $number - $name # SKIP no Python here ($python)"
    done
    exit 0
fi

check dry_run 0 'scripts/peers/torch_step.py --device cuda' scripts/gpu_check.sh --dry-run --out "$scratch/check"
check wrong_stage 64 "no option or stage 'benhc'" scripts/gpu_check.sh benhc
check measure 0 'ok       step exconb' env BUILD="$build" scripts/gpu_check.sh --cpu --out "$scratch/check" train bench
if [ -e "$build/simt/libexcon_cuda.so" ]; then
    check stand_in 0 'ok       step exconb' env BUILD="$build" scripts/gpu_check.sh --simt --out "$scratch/simt" train bench
else
    number=$((number + 1))
    echo "ok $number - stand_in # SKIP no $build/simt/libexcon_cuda.so (make test-simt)"
fi
check resume 0 'step exconb resnet10 16x16 batch 4 (measured before)' env BUILD="$build" scripts/gpu_check.sh --cpu --out "$scratch/check" bench
check page 0 'Not a measurement of any GPU' "$python" scripts/gpu_table.py --try-out "$scratch/check/gpu-check.json"
check no_figures 1 'not of a GPU' "$python" scripts/gpu_table.py --out "$scratch/page" "$scratch/check/gpu-check.json"

# ptxas KERNEL SPILLED-BYTES   what nvcc -Xptxas -v says of a kernel
ptxas() {
    cat <<END
ptxas info    : Compiling entry function '_Z${#1}$1v' for 'sm_90'
ptxas info    : Function properties for _Z${#1}$1v
    $2 bytes stack frame, $2 bytes spill stores, $2 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, $2 bytes cumulative stack size, 512 bytes smem, 384 bytes cmem[0]
END
}
printf 'some_cuda.cu hot*   # watched\n' >"$scratch/hot"
ptxas hot_kernel 8 >"$scratch/spills"
{ ptxas hot_kernel 0 && ptxas cold_kernel 8; } >"$scratch/clean"
ptxas other_kernel 0 >"$scratch/renamed"
report() { "$python" scripts/ptxas_report.py --hot "$scratch/hot" "kernels/cuda/some_cuda.cu=$scratch/$1"; }
check spill 1 'SPILLS' report spills
check no_spill 0 '2 kernels, 1 of them hot, 0 hot ones spill, 1 spill in all' report clean
check renamed 65 "no kernel matches 'some_cuda.cu hot*'" report renamed
