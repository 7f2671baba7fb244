#!/usr/bin/env bash
# The scripts around the CUDA backend, as far as they can be tried without a GPU: gpu_check.sh end to end at tiny sizes, and
# what it does with a program that fails, hangs or is slow (a stand-in for excon); the page made of its results; the sums over
# ncu's kernels; the report on registers and spills; and which GPUs the Makefile compiles for.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
fake=$build/gpu-scripts-test.$$ # relative where BUILD is: tests/run.sh wants that
trap 'rm -rf "$scratch" "$fake"' EXIT

echo 1..30

# ---- which GPUs -----------------------------------------------------------------------------------------------------

for arch in 75 '75 90'; do
    says "arch_$arch" 2 'compute capability 80 or newer' make -n CUDA_ARCHS="$arch" help
done
says arch_90 0 '' make -n CUDA_ARCHS=90 help

# ---- a program that fails, hangs or is slow -------------------------------------------------------------------------
# FAKE_NCCL=broken: nothing starts without comm.transport=mpi. FAKE_SLOW=NAME: `bench NAME` takes for ever.

mkdir -p "$fake/tests/unit/kernels" "$fake/tests/simt" "$fake/simt"
cat >"$fake/excon" <<'END'
#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
case "$1 ${FAKE_NCCL:-} $*" in
import*) exit ;;
--version*) echo "excon fakerevision" && exit ;;
digest*plain*) printf '%064d\n' 1 && exit ;;
digest*) printf '%064d\n' 0 && exit ;;
*comm.transport=mpi*) ;;
*broken*) echo "excon: NCCL found no network" >&2 && exit 71 ;;
esac
case "$2" in
"${FAKE_SLOW:-none}") exec sleep 60 ;;
esac
echo '{"seconds":1}'
END
printf '#!/bin/sh\necho 1..2; echo "ok 1 - a"; echo "ok 2 - b"\n' >"$fake/tests/simt/test_backends"
printf '#!/bin/sh\necho 1..2; echo "ok 1 - a"; echo $$ >"%s/slow"; exec sleep 60\n' "$fake" >"$fake/tests/unit/kernels/test_classify"
chmod +x "$fake/excon" "$fake/tests/simt/test_backends" "$fake/tests/unit/kernels/test_classify"
faked() { env BUILD="$fake" scripts/gpu_check.sh --simt --out "$scratch/fake" --tar "$scratch/tar" "$@"; }
in_json() { grep -qF -- "$1" "$scratch/fake/gpu-check.json"; }

says nccl_does_not_start 1 'everything from here on with comm.transport=mpi' env FAKE_NCCL=broken BUILD="$fake" \
    scripts/gpu_check.sh --simt --out "$scratch/fake" --tar "$scratch/tar" rates steps train
grep -E '^(bench|train)' "$fake/calls" | sed 1d >"$scratch/after"
[ "$(wc -l <"$scratch/after")" -ge 7 ] && ! grep -v 'comm.transport=mpi' "$scratch/after" && in_json '"transport":"mpi"' && in_json 'NCCL found no network'
check mpi_from_there_on $? "$scratch/after"
[ "$(grep '^==' "$scratch/output" | paste -sd' ')" = '== device == rates == steps == train' ]
check stages_in_the_order_given $? "$scratch/output"
in_json '"revision":"fakerevision","mode"' && ! in_json '"revision":""' && ! in_json '"revision":"unknown"'
check revision_is_the_program\'s $? "$scratch/fake/gpu-check.json"
rm -rf "$scratch/fake" "$scratch/tar"

# What does not fit is said; every stage is in the tar.
says short_of_time 0 'operators: no time left in this call: call again' faked --short A --budget 2
for name in build device steps ops resume graphs rates; do
    in_json "\"stage\":\"$name\",\"short\":true" || echo "no $name" >>"$scratch/output"
done
! grep '^no ' "$scratch/output" >"$scratch/missing"
check every_stage_is_in_the_json $? "$scratch/missing"
tar -xzf "$scratch/tar/gpu-check-A.tar.gz" -O gpu-check.json | cmp - "$scratch/fake/gpu-check.json" >"$scratch/cmp" 2>&1
check one_tar_holds_it $? "$scratch/cmp"
[ "$(ls "$scratch/tar")" = gpu-check-A.tar.gz ]
check and_nothing_else $? "$scratch/output"
says measured_before 0 'loss 512 x 128 (measured before)' sh -c "
    BUILD=$fake scripts/gpu_check.sh --simt --out $scratch/fake loss && BUILD=$fake scripts/gpu_check.sh --simt --out $scratch/fake loss"
says different_bits 1 'FAILED   ten steps with and without recorded captures' faked graphs
says tar_within_its_limit 0 'the tar is without the largest' env TAR_MOST=3000 BUILD="$fake" \
    scripts/gpu_check.sh --simt --out "$scratch/fake" --tar "$scratch/small" steps

# A signal: what is there is kept, and nothing goes on.
rm -rf "$scratch/fake" "$scratch/tar" "$fake/calls"
FAKE_SLOW=ops BUILD="$fake" scripts/gpu_check.sh --simt --out "$scratch/fake" --tar "$scratch/tar" steps rates >"$scratch/output" 2>&1 &
caller=$!
while ! grep -qs '^bench ops' "$fake/calls" && kill -0 $caller 2>/dev/null; do sleep 0.1; done
in_json '"name":"step exconb resnet10 16x16 batch 4"'
check on_disk_before_the_next $? "$scratch/fake/gpu-check.json"
kill -TERM $caller
wait $caller
status=$?
[ $status = 143 ] && in_json '"stage":"rates","short":false' && in_json '"status":"unfinished"' &&
    tar -xzf "$scratch/tar/gpu-check.tar.gz" -O gpu-check.json | cmp -s - "$scratch/fake/gpu-check.json"
check kept_when_ended $? "$scratch/output"

# Of a suite that is ended the results of the programs that ran count.
BUILD="$fake" scripts/gpu_check.sh --simt --short A --out "$scratch/fake" --tar "$scratch/tar" >"$scratch/output" 2>&1 &
caller=$!
while [ ! -s "$fake/slow" ] && kill -0 $caller 2>/dev/null; do sleep 0.1; done
kill -TERM $caller
wait $caller
in_json '"status":"unfinished","passed":3,"failed":0,"skipped":1' && in_json 'programs did not finish' && ! kill -0 "$(cat "$fake/slow")" 2>/dev/null
check partial_counts_are_kept $? "$scratch/fake/gpu-check.json"

says wrong_short 64 'there are A and B' scripts/gpu_check.sh --short C
says wrong_stage 64 "no option or stage 'benhc'" scripts/gpu_check.sh benhc
says dry_run 0 'ncu --clock-control none' scripts/gpu_check.sh --dry-run --out "$scratch/check"

# ---- the real program ---------------------------------------------------------------------------------------------

if [ -e "$build/simt/libexcon_cuda.so" ]; then
    says stand_in 0 'ok       step exconb' env BUILD="$build" scripts/gpu_check.sh --simt --out "$scratch/simt" train steps rates
    says marked_step 0 'kernels between the profiler' env EXCON_CUDA_LIBRARY="$PWD/$build/simt/libexcon_cuda.so" "$build/excon" bench step \
        --backend cuda --model resnet10 --size 16 --width 4 --batch 4 --steps 2 --mark-last --set cuda.graphs=false
else
    skip "no $build/simt/libexcon_cuda.so (make test-simt)" stand_in marked_step
fi
says no_marks 64 'there is no cudaProfilerStart' "$build/excon" bench step --backend cpu --model resnet10 --size 16 --width 4 --batch 4 --mark-last

if ! "$python" -c 'import json' 2>/dev/null; then
    skip "no Python here ($python)" page no_figures kernels no_kernels spill no_spill renamed
    exit 0
fi
if [ -e "$scratch/simt/gpu-check.json" ]; then
    says page 0 'Not a measurement of any GPU' "$python" scripts/gpu_table.py --try-out "$scratch/simt/gpu-check.json"
    says no_figures 1 'not of a GPU' "$python" scripts/gpu_table.py --out "$scratch/page" "$scratch/simt/gpu-check.json"
else
    skip "no results of the stand-in GPU" page no_figures
fi

cat >"$scratch/ncu.csv" <<'END'
==PROF== Connected to process 7 (excon)
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","7","void norm_kernel<float, (int)4>(float const *, long)","gpu__time_duration.sum","ns","1,500"
"1","7","other_kernel(int)","gpu__time_duration.sum","us","1.5"
"2","7","void norm_kernel<float, (int)4>(float const *, long)","gpu__time_duration.sum","ns","2,500"
==PROF== Disconnected
END
says kernels 0 '{"launches": 3, "seconds": 5.5e-06, "kernels": [{"kernel": "norm_kernel<float, (int)4>", "launches": 2, "seconds": 4e-06' \
    "$python" scripts/gpu/kernels.py "$scratch/ncu.csv"
says no_kernels 65 'names no kernel' "$python" scripts/gpu/kernels.py /dev/null

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
says spill 1 'SPILLS' report spills
says no_spill 0 '2 kernels, 1 of them hot, 0 hot ones spill, 1 spill in all' report clean
says renamed 65 "no kernel matches 'some_cuda.cu hot*'" report renamed
