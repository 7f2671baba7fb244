#!/usr/bin/env bash
# gpu_check.sh [OPTION]... [STAGE]...   Builds, tests, trains and measures on a machine with a GPU: one command.
#
# Stages run in the order given; without names, those that have not passed yet, in this order:
#   build      the program and the tests, with CUDA; or, where no compiler or library is, a bundle made elsewhere
#   device     one small loss. Comes before the first stage that needs a GPU, named or not; where NCCL cannot start, that
#              is said, and everything after it runs with comm.transport=mpi
#   ops        every operator on the device against its reference         (tests/run.sh gpu/unit gpu/test_)
#   resume     images from disk, host or device, a run that is stopped: the same bits
#   graphs     ten ExCon steps with and without recorded captures: the same bits
#   halves     ten ExCon steps in bf16, and five and five: the same bits
#   golden     golden numbers, file by file
#   steps      whole training steps
#   rates      operators beside copy and matrix product
#   loss       the loss alone, beside the published one
#   peer       training steps in PyTorch on the same GPU: the published way, and tuned
#   profile    ncu: seconds of every kernel of one ExCon step
#   sanitizer  compute-sanitizer's memcheck and racecheck over the operator tests
#   train      ExCon on a small synthetic dataset in bf16: accuracy must rise above TRAIN_TOP1
#   ranks      two ranks on this one GPU, messages by MPI
# Options:
#   --short A  the most valuable in 330 s, nothing is built: build device steps ops resume graphs rates, each in part
#   --short B  what comes next in 400 s: build device peer profile loss halves golden sanitizer
#   --out DIR  where results and logs go (build/gpu-check). Calls with the same DIR go on where the last one ended.
#   --tar DIR  where gpu-check[-A|-B].tar.gz of them goes (--out's), below 16 MiB, rewritten after every stage
#   --bundle FILE  use this bundle (make gpu-bundle) instead of building
#   --budget S seconds this call may take (540): what does not fit is left for the next call
#   --again    measure again what DIR has already
#   --dry-run  print every command, run none
#   --simt     the stand-in GPU of tests/simt in place of a real one, tiny sizes: tries this script, measures nothing
#   --cpu      the CPU backend, tiny sizes: likewise
# Variables: BUILD (build), PYTHON (one with PyTorch for CUDA), TRAIN_TOP1 (0.5; chance is 0.25), BATCH (256), STEPS (20),
# TEST_TIMEOUT (seconds of one test program: 45; on the stand-in 240).
#
# DIR/gpu-check.json, rewritten after every result, scripts/gpu_table.py turns into docs/gpu-results.md:
#   {"schema": "excon-gpu-check/2", "date", "revision", "mode": "cuda|simt|cpu", "transport": "auto|mpi",
#    "host": {"gpu", "driver", "memory", "capability", "nvcc", "torch", "cpu", "system"},
#    "stages": [{"stage", "short", "date", "seconds", "status": "passed|failed|skipped|unfinished",
#                "passed", "failed", "skipped", "reason"}],
#    "runs": [{"name", "kind": "ops|step|loss|profile|train", "who": "excon|tuned|published", "date", "revision", "gpu",
#              "failed": null or why, "result": the JSON object that the command printed, or null}]}
# Exit status: 0 when nothing failed, 1 when something did, 64 for a wrong call, 71 when the program can use no GPU here,
# 128 and the signal's number when one ended it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70

ALL_STAGES=(build device ops resume graphs halves golden steps rates loss peer profile sanitizer train ranks)
BUILD=$(realpath -m --relative-to=. "${BUILD:-build}") # tests/run.sh wants a relative path
mode=cuda out='' tar_dir='' bundle='' budget='' again=0 dry=0 short=''
stages=()
wrong() { echo "gpu_check: $*; --help lists them" >&2 && exit 64; }
while [ $# -gt 0 ]; do
    case $1 in
    --out | --tar | --bundle | --budget | --short) [ $# -gt 1 ] || wrong "$1 wants a value" ;;
    esac
    case $1 in
    --out) out=$2 && shift ;;
    --tar) tar_dir=$2 && shift ;;
    --bundle) bundle=$2 && shift ;;
    --budget) budget=$2 && shift ;;
    --short) short=$2 && shift ;;
    --again) again=1 ;;
    --dry-run) dry=1 ;;
    --simt) mode=simt ;;
    --cpu) mode=cpu ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit 0 ;;
    *)
        [[ " ${ALL_STAGES[*]} " == *" $1 "* ]] || wrong "no option or stage '$1'"
        stages+=("$1")
        ;;
    esac
    shift
done
[ -z "$short" ] || [ ${#stages[@]} = 0 ] || wrong "--short has its own stages"
case $short in
'') budget=${budget:-540} ;;
A) budget=${budget:-330} stages=(build device steps ops resume graphs rates) ;;
B) budget=${budget:-400} stages=(build device peer profile loss halves golden sanitizer) ;;
*) wrong "--short $short: there are A and B" ;;
esac
if [ $mode = cpu ]; then backend=cpu; else backend=cuda; fi
if [ $mode = cuda ]; then test_timeout=${TEST_TIMEOUT:-45}; else test_timeout=${TEST_TIMEOUT:-240}; fi
out=$(realpath -m "${out:-$BUILD/gpu-check}")
tar_dir=$(realpath -m "${tar_dir:-$out}")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe # the same to Open MPI 5

# shellcheck source=scripts/gpu/results.sh
. scripts/gpu/results.sh
# shellcheck source=scripts/gpu/host.sh
. scripts/gpu/host.sh
# shellcheck source=scripts/gpu/tests.sh
. scripts/gpu/tests.sh
# shellcheck source=scripts/gpu/rates.sh
. scripts/gpu/rates.sh

# Ends what runs and keeps what there is, at once: who sends a signal may soon kill.
ended() { # NUMBER
    trap '' TERM INT HUP
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    echo "gpu_check: ended by signal $1"
    exit $((128 + $1))
}
leave() {
    if [ -n "$stage" ]; then
        add_reason "this call ended early"
        keep_stage
        pack
        [ -z "$child" ] || wait "$child"
        [ -z "$suite_name" ] || count_suite "$suite_name" 124
        end_stage unfinished
    fi
    pack
}
if [ $dry = 0 ]; then
    mkdir -p "$out/logs" "$out/runs" "$out/stages" "$out/golden" "$tar_dir" || exit 73
    trap leave EXIT
    trap 'ended 15' TERM
    trap 'ended 2' INT
    trap 'ended 1' HUP
fi

device_seen=0
find_host
use_what_is_here
if [ ${#stages[@]} = 0 ]; then
    for name in "${ALL_STAGES[@]}"; do
        if [ $again = 0 ] && [ "$name" != device ] &&
            grep -q '"short":false.*"status":"passed".*"skipped":0' "$out/stages/$name.json" 2>/dev/null; then
            [ $dry = 1 ] || echo "== $name passed before"
        else
            stages+=("$name")
        fi
    done
fi
for name in "${stages[@]}"; do
    case $name in
    build) ;;
    device) [ $device_seen = 0 ] || continue ;;
    *) [ $device_seen = 1 ] || run_stage device ;;
    esac
    run_stage "$name"
    if [ "$name" = build ] && [ $dry = 0 ] && ! "$EXCON" --version >/dev/null 2>&1; then break; fi
done
[ $dry = 0 ] || exit 0
write_json
echo "results: $out/gpu-check.json; as a page: scripts/gpu_table.py $out/gpu-check.json"
echo "excon: $passed_all passed, $failed_all failed, $skipped_all skipped"
[ $failed_all = 0 ]
