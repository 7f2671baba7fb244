#!/usr/bin/env bash
# gpu_check.sh [OPTION]... [STAGE]...   Builds, tests, trains and measures on a machine with a GPU: one command.
#
# Stages, in this order; without names, those that have not passed yet:
#   build      the program and the tests, with CUDA; or, where no compiler or library is, a bundle made elsewhere
#   ops        every operator on the device against its reference         (tests/run.sh gpu/unit gpu/test_)
#   ranks      golden cases; two ranks on this one GPU, messages by MPI    (tests/run.sh gpu/golden gpu/ranks)
#   sanitizer  compute-sanitizer's memcheck and racecheck over the operator tests
#   train      ExCon on a small synthetic dataset in bf16: accuracy must rise above TRAIN_TOP1
#   bench      operators beside copy and matrix product; whole steps; the loss
#   peer       PyTorch on the same GPU: the published way, and tuned
# Options:
#   --out DIR      where results and logs go (build/gpu-check). Calls with the same DIR go on where the last one ended.
#   --bundle FILE  use this bundle (WITH_TESTS=1 make bundle) instead of building
#   --budget S     seconds this call may take (1440): what does not fit is left for the next call
#   --again        measure again what DIR has already
#   --dry-run      print every command, run none
#   --simt         the stand-in GPU of tests/simt in place of a real one, tiny sizes: tries this script, measures nothing
#   --cpu          the CPU backend, tiny sizes: likewise
# Variables: BUILD (build), PYTHON (one with PyTorch for CUDA), TRAIN_TOP1 (0.5; chance is 0.25), BATCH (256), STEPS (20).
#
# DIR/gpu-check.json, rewritten after every stage, scripts/gpu_table.py turns into docs/gpu-results.md:
#   {"schema": "excon-gpu-check/1", "date", "revision", "mode": "cuda|simt|cpu",
#    "host": {"gpu", "driver", "memory", "capability", "nvcc", "torch", "cpu", "system"},
#    "stages": [{"stage", "date", "seconds", "status": "passed|failed|skipped", "passed", "failed", "skipped", "reason"}],
#    "runs": [{"name", "kind": "ops|step|loss|train", "who": "excon|tuned|published", "date", "revision", "gpu",
#              "failed": null or why, "result": the JSON object that the command printed, or null}]}
# Exit status: 0 when nothing failed, 1 when something did, 64 for a wrong call, 71 when the program can use no GPU here.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 70

ALL_STAGES=(build ops ranks sanitizer train bench peer)
BUILD=${BUILD:-build}
mode=cuda out='' bundle='' budget=1440 again=0 dry=0
stages=()
while [ $# -gt 0 ]; do
    case $1 in
    --out) out=$2 && shift ;;
    --bundle) bundle=$2 && shift ;;
    --budget) budget=$2 && shift ;;
    --again) again=1 ;;
    --dry-run) dry=1 ;;
    --simt) mode=simt ;;
    --cpu) mode=cpu ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit 0 ;;
    build | ops | ranks | sanitizer | train | bench | peer) stages+=("$1") ;;
    *) echo "gpu_check: no option or stage '$1'; --help lists them" >&2 && exit 64 ;;
    esac
    shift
done
if [ $mode = cpu ]; then backend=cpu; else backend=cuda; fi
out=${out:-$BUILD/gpu-check}
prebuilt=$BUILD/prebuilt # a relative path: tests/run.sh wants one
passed_all=0 failed_all=0 skipped_all=0
if [ $dry = 0 ]; then
    mkdir -p "$out/logs" "$out/runs" "$out/stages" || exit 73
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }
left() { echo $((budget - SECONDS)); }
# As the inside of a JSON string.
json_text() { printf '%s' "$*" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# ---- what is here ---------------------------------------------------------------------------------------------------

gpu_name='' torch_version=''
find_python() {
    for PYTHON in "${PYTHON:-}" python3 /usr/bin/python3; do
        if [ -n "$PYTHON" ] && torch_version=$("$PYTHON" -c 'import torch; print(torch.__version__, "" if torch.cuda.is_available() else "(no GPU)")' 2>/dev/null); then
            return
        fi
    done
    PYTHON=python3 torch_version=
}

find_host() {
    local smi nvcc driver memory capability
    smi=$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2>/dev/null)
    IFS=, read -r gpu_name driver memory capability <<<"${smi%%$'\n'*}"
    [ "$mode" = cuda ] || gpu_name="none: $mode"
    nvcc=$( (nvcc --version || /usr/local/cuda/bin/nvcc --version) 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    find_python
    echo "GPU       ${gpu_name:-none that nvidia-smi sees}${driver:+, driver$driver,$memory, capability$capability}"
    echo "nvcc      ${nvcc:-not here}"
    echo "PyTorch   ${torch_version:-not here} ($PYTHON)"
    echo "program   $(command -v mpicc || echo 'no mpicc'), $(command -v pkg-config || echo 'no pkg-config')"
    [ $dry = 0 ] || return 0
    printf '{"gpu":"%s","driver":"%s","memory":"%s","capability":"%s","nvcc":"%s","torch":"%s","cpu":"%s, %s threads","system":"%s"}\n' \
        "$(json_text "$gpu_name")" "${driver# }" "${memory# }" "${capability# }" "$nvcc" "$(json_text "$torch_version")" \
        "$(json_text "$(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo)")" "$(nproc)" \
        "$(json_text "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release | tr -d '"')")" >"$out/host.json"
}

# The program, mpirun and the tests: from a bundle unpacked in $prebuilt, else from $BUILD.
in_bundle=() tests_build=$BUILD
use_what_is_built() {
    if [ -e "$prebuilt/excon" ] && { [ -n "$bundle" ] || [ ! -x "$BUILD/excon" ]; }; then
        tests_build=$prebuilt
        in_bundle=("$(dirname "$(readlink -f "$prebuilt/excon")")/in-bundle")
    fi
    export EXCON=$tests_build/excon
    [ "$revision" != unknown ] || revision=$("$EXCON" --version 2>/dev/null | awk '{ print $2 }')
    case $mode in
    simt) export EXCON_CUDA_LIBRARY=$PWD/$BUILD/simt/libexcon_cuda.so ;;
    cuda) export EXCON_CUDA_LIBRARY=$PWD/$tests_build/libexcon_cuda.so && find_cuda_libraries ;;
    esac
}

# cuBLAS, cuDNN and NCCL may lie in Python packages only.
find_cuda_libraries() {
    local missing folder
    [ -e "$EXCON_CUDA_LIBRARY" ] || return 0
    missing=$(ldd "$EXCON_CUDA_LIBRARY" 2>/dev/null | awk '/not found/ { print $1 }')
    [ -n "$missing" ] || return 0
    for folder in $("$PYTHON" -c 'import glob, site; print(*[f for s in site.getsitepackages() for f in glob.glob(s + "/nvidia/*/lib")])' 2>/dev/null) /usr/local/cuda/lib64; do
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    done
    export LD_LIBRARY_PATH
    missing=$(ldd "$EXCON_CUDA_LIBRARY" 2>/dev/null | awk '/not found/ { print $1 }')
    [ -z "$missing" ] || echo "gpu_check: libexcon_cuda.so still lacks ${missing//$'\n'/ } (set LD_LIBRARY_PATH)" >&2
}

# ---- running and counting -------------------------------------------------------------------------------------------

stage='' passed=0 failed=0 skipped=0 reason=''
pass() { passed=$((passed + 1)) && echo "  ok       $*"; }
fail() { failed=$((failed + 1)) && reason="${reason:+$reason; }$*" && echo "  FAILED   $*"; }
skip() { skipped=$((skipped + 1)) && reason="${reason:+$reason; }$*" && echo "  skipped  $*"; }
later() { # NAME: for the next call
    skipped=$((skipped + 1)) && echo "  skipped  $*: no time left in this call: call again"
    [[ $reason == *'call again'* ]] || reason="${reason:+$reason; }no time left in this call: call again"
}

# run NAME LIMIT COMMAND...   with its output in a log; 124 when LIMIT or the budget ended it, 125 when none was left
log=''
run() {
    local name=$1 limit=$2 code
    shift 2
    log=$out/logs/$stage-${name//[^A-Za-z0-9._-]/-}.log
    if [ $dry = 1 ]; then
        printf '  [%4d s] %s\n' "$limit" "$(printf '%q ' "$@")"
        return 0
    fi
    [ "$limit" -le "$(left)" ] || limit=$(left)
    [ "$limit" -ge 3 ] || return 125
    echo "+ $*" >"$log"
    timeout -k 10 "$limit" "$@" >>"$log" 2>&1 </dev/null
    code=$?
    [ $code != 137 ] || code=124
    return $code
}

# why CODE   what a run that ended with CODE has to say
why() {
    case $1 in
    124) echo "out of time" ;;
    *) echo "exit $1: $(grep -v '^+ ' "$log" | grep . | tail -n 1 | cut -c1-200)" ;;
    esac
}

# check NAME LIMIT COMMAND...   one counted result
check() {
    local code
    run "$@"
    code=$?
    case $code in
    0) [ $dry = 1 ] || pass "$1" ;;
    125) later "$1" ;;
    *) fail "$1: $(why $code)" ;;
    esac
    return $code
}

# suite LIMIT PART...   tests whose names contain a PART; their own counts
suite() {
    local limit=$1 line code
    shift
    run tests "$limit" env GPU="$([ "$mode" = cuda ] && echo 1 || echo 0)" BUILD="$tests_build" TEST_TIMEOUT="$limit" "${in_bundle[@]}" \
        tests/run.sh "$@"
    code=$?
    [ $dry = 0 ] || return 0
    line=$(sed -n 's/^excon: \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$log" 2>/dev/null | tail -n 1)
    if [ $code = 125 ]; then
        later tests
    elif [ -z "$line" ]; then
        fail "tests: $(why $code)"
    else
        read -r passed failed skipped <<<"$line"
        grep -E '^  [a-z]+/.*( [1-9][0-9]* failed)' "$log"
        echo "  $passed passed, $failed failed, $skipped skipped"
        [ "$failed" = 0 ] || reason="see $log"
    fi
}

# measure KIND WHO NAME LIMIT COMMAND...   keeps the JSON object in the last line of the output
measure() {
    local kind=$1 who=$2 name=$3 limit=$4 code object file failure=null
    shift 4
    file=$out/runs/${name//[^A-Za-z0-9._-]/-}.json
    if [ $again = 0 ] && [ -s "$file" ] && ! grep -q '"failed":"' "$file"; then
        [ $dry = 1 ] || pass "$name (measured before)"
        return 0
    fi
    run "$name" "$limit" "$@"
    code=$?
    [ $dry = 0 ] || return 0
    object=$(grep '^{.*}$' "$log" 2>/dev/null | tail -n 1)
    if [ $code = 125 ]; then
        later "$name"
        return 0
    elif [ $code != 0 ] || [ -z "$object" ]; then
        # a peer that does not run here (out of memory, say) is no failure of ours
        if [ "$who" = excon ]; then fail "$name: $(why $code)"; else skip "$name: $(why $code)"; fi
        failure="\"$(json_text "$(why $code)")\"" object=null
    else
        pass "$name"
    fi
    printf '{"name":"%s","kind":"%s","who":"%s","date":"%s","revision":"%s","gpu":"%s","failed":%s,"result":%s}\n' "$name" \
        "$kind" "$who" "$(now)" "$revision" "$(json_text "$gpu_name")" "$failure" "$object" >"$file"
}

write_json() {
    local file first
    {
        printf '{"schema":"excon-gpu-check/1","date":"%s","revision":"%s","mode":"%s","host":%s,"stages":[' "$(now)" \
            "$revision" "$mode" "$(cat "$out/host.json")"
        first=1
        for file in "${ALL_STAGES[@]}"; do
            [ -s "$out/stages/$file.json" ] || continue
            [ $first = 1 ] || printf ','
            first=0
            tr -d '\n' <"$out/stages/$file.json"
        done
        printf '],"runs":['
        first=1
        for file in "$out"/runs/*.json; do
            [ -s "$file" ] || continue
            [ $first = 1 ] || printf ','
            first=0
            tr -d '\n' <"$file"
        done
        printf ']}\n'
    } >"$out/gpu-check.json.new" && mv "$out/gpu-check.json.new" "$out/gpu-check.json"
}

run_stage() {
    local begin=$SECONDS status
    stage=$1 passed=0 failed=0 skipped=0 reason=''
    echo "== $stage"
    "stage_$stage"
    [ $dry = 0 ] || return 0
    status=passed
    [ $skipped = 0 ] || [ $passed != 0 ] || status=skipped
    [ $failed = 0 ] || status=failed
    printf '{"stage":"%s","date":"%s","seconds":%d,"status":"%s","passed":%d,"failed":%d,"skipped":%d,"reason":"%s"}\n' "$stage" \
        "$(now)" $((SECONDS - begin)) $status $passed $failed $skipped "$(json_text "$reason")" >"$out/stages/$stage.json"
    passed_all=$((passed_all + passed)) failed_all=$((failed_all + failed)) skipped_all=$((skipped_all + skipped))
    write_json
}

# ---- stages ---------------------------------------------------------------------------------------------------------

newest_bundle() { find "$BUILD/bundle" -maxdepth 1 -name 'excon-*.tar.gz' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-; }

unpack_bundle() {
    local root
    run unpack 60 sh -c "rm -rf '$prebuilt' && mkdir -p '$prebuilt' && tar -xzf '$1' -C '$prebuilt'" || return
    [ $dry = 0 ] || return 0
    root=$(find "$prebuilt" -mindepth 1 -maxdepth 1 -type d -name 'excon-*' | head -n 1)
    root=${root##*/}
    ln -s "$root/bin/excon" "$prebuilt/excon"
    ln -s "$root/lib/libexcon_cuda.so" "$prebuilt/libexcon_cuda.so"
    ln -s "$root/libexec/tests" "$prebuilt/tests"
    [ -x "$prebuilt/$root/bin/in-bundle" ] && [ -e "$prebuilt/libexcon_cuda.so" ]
}

stage_build() {
    local jobs found=$bundle
    jobs=$(nproc)
    if [ -z "$bundle" ]; then
        case $mode in
        cuda) run make 600 make -j"$jobs" CUDA=1 test-binaries ;;
        *) run make 600 make -j"$jobs" test-binaries ;;
        esac && {
            [ $dry = 1 ] || pass "built from source"
            return
        }
        found=$(newest_bundle)
        if [ -z "$found" ]; then
            fail "cannot build here ($(grep -E '\*\*\*|error' "$log" | head -n 1 | cut -c1-160)), and no bundle is under $BUILD/bundle"
            return
        fi
        bundle=$found
    fi
    if unpack_bundle "$found"; then
        [ $dry = 1 ] || pass "taken from $found"
    else
        fail "$found is no bundle with tests and CUDA (WITH_TESTS=1 make bundle)"
    fi
    use_what_is_built
}

# One product on the device before anything else: without a usable GPU nothing that follows says anything.
device_works() {
    local code
    stage=device
    run works 120 "$EXCON" bench loss --backend $backend --rows 256 --steps 1
    code=$?
    [ $code != 0 ] && [ $code != 125 ] || return 0
    echo "gpu_check: the program cannot use a GPU here: $(why $code)" >&2
    exit 71
}

variant() { case $mode in cuda) echo gpu/ ;; simt) echo simt/ ;; cpu) echo '' ;; esac; }

stage_ops() {
    case $mode in
    cpu) suite 240 kernels/test_ops ;;
    *) suite 300 "$(variant)unit" "$(variant)test_" ;;
    esac
}

stage_ranks() {
    case $mode in
    cpu) suite 240 ranks/test_collectives ;;
    *) suite 420 "$(variant)golden" "$(variant)ranks" ;;
    esac
}

stage_sanitizer() {
    local sanitizer tool source name code sources
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
    if [ "$mode" != cuda ]; then
        skip "compute-sanitizer looks at real GPUs only"
        return
    elif [ -z "$sanitizer" ] && [ $dry = 0 ]; then
        skip "no compute-sanitizer here"
        return
    fi
    mapfile -t sources < <(grep -rl --include='test_*.c' device_fixture tests/unit | sort)
    for tool in memcheck racecheck; do
        for source in "${sources[@]}"; do
            name=$(basename "$source" .c)
            run "$tool-$name" 60 env EXCON_TEST_BACKEND=cuda "${in_bundle[@]}" "${sanitizer:-compute-sanitizer}" --tool $tool \
                --error-exitcode 99 "$tests_build/${source%.c}"
            code=$?
            [ $dry = 0 ] || continue
            case $code in
            0) pass "$tool $name" ;;
            124) skip "$tool $name: $(why $code)" ;;
            125) later "$tool $name" ;;
            99) fail "$tool $name: $(grep -m 1 'ERROR SUMMARY\|RACECHECK SUMMARY' "$log")" ;;
            *) fail "$tool $name: $(why $code)" ;;
            esac
        done
    done
}

stage_train() {
    local data=$out/train-data folder=$out/train-run top1 least=${TRAIN_TOP1:-0.5}
    local size=32 images=1000 sets=(--set model.encoder=resnet18 --set model.width=64 --set train.epochs=15 --set train.batch=128 --set optim.lr=0.1)
    if [ $mode != cuda ]; then
        size=16 images=16 least=-1
        sets=(--set model.encoder=resnet10 --set model.width=4 --set train.epochs=1 --set train.batch=8 --set train.max_steps=2)
    fi
    check import 60 "$EXCON" import synthetic "$data" --classes 4 --size $size --train-per-class $images --val-per-class 100 --correlation 0 || return
    [ $dry = 1 ] || rm -rf "$folder"
    check train 180 "$EXCON" train configs/demo.yaml --set backend=$backend --set precision=bf16 --set data.dir="$data" --set run.dir="$folder" \
        "${sets[@]}" || return
    measure train excon "train excon bf16" 60 "$EXCON" eval "$folder" --json
    [ $dry = 0 ] || return 0
    top1=$(sed -n 's/.*"top1":\([0-9.e-]*\).*/\1/p' "$out/runs/train-excon-bf16.json")
    if [ -n "$top1" ] && awk -v a="$top1" -v b="$least" 'BEGIN { exit !(a > b) }'; then
        pass "top-1 ${top1:-none} is above $least"
    else
        fail "top-1 ${top1:-none} is not above $least (chance 0.25)"
    fi
}

# Shapes of a full measurement: 256 images are 512 trained views, the row of the floors in scripts/gpu_table.py.
batch=${BATCH:-256} steps=${STEPS:-20}
models=(resnet18 resnet50) sizes=(64 32) rows=(16384 65536 131072) tiny=() ops=(--batch "$batch" --steps "$steps")
peers=("resnet18 64" "resnet50 64") peer_rows=(16384 65536)
if [ $mode != cuda ]; then
    batch=4 steps=1 models=(resnet10) sizes=(16) rows=(512) tiny=(--width 4)
    ops=(--batch 2 --size 16 --width 8 --gemm 64 --rows 64 --steps 1)
    peers=("resnet10 16") peer_rows=(512)
fi

stage_bench() {
    local model size method n
    measure ops excon "ops bf16" 180 "$EXCON" bench ops --backend $backend --precision bf16 "${ops[@]}" --json
    for n in "${rows[@]}"; do
        measure loss excon "loss $n x 128" 60 "$EXCON" bench loss --backend $backend --rows "$n" --steps "$steps" --json
    done
    for size in "${sizes[@]}"; do
        for model in "${models[@]}"; do
            for method in supcon excon exconb; do
                measure step excon "step $method $model ${size}x$size batch $batch" 90 "$EXCON" bench step --backend $backend --precision bf16 \
                    --method $method --model "$model" --size "$size" --batch "$batch" --steps "$steps" "${tiny[@]}" --json
            done
        done
    done
}

stage_peer() {
    local device=cuda shape model size way method n
    if [ $mode != cuda ]; then device=cpu; fi
    if [ $dry = 0 ] && { [ -z "$torch_version" ] || { [ $device = cuda ] && [[ $torch_version == *'(no GPU)'* ]]; }; }; then
        skip "no Python here with PyTorch for this device: ${torch_version:-none} (PYTHON)"
        return
    fi
    for shape in "${peers[@]}"; do
        read -r model size <<<"$shape"
        for method in supcon excon; do
            for way in tuned published; do
                measure step $way "step $method $model ${size}x$size batch $batch $way" 120 "$PYTHON" scripts/peers/torch_step.py --device $device \
                    --way $way --method $method --model "$model" --size "$size" --batch "$batch" --steps $((steps < 10 ? steps : 10))
            done
        done
    done
    for n in "${peer_rows[@]}"; do
        measure loss published "loss $n x 128 published" 60 "$PYTHON" scripts/peers/published_loss.py --device $device --rows "$n" --repeats 3
    done
}

find_host
use_what_is_built
device_seen=$dry
for name in "${ALL_STAGES[@]}"; do
    if [ ${#stages[@]} -gt 0 ]; then
        [[ " ${stages[*]} " == *" $name "* ]] || continue
    elif [ $again = 0 ] && grep -q '"status":"passed".*"skipped":0' "$out/stages/$name.json" 2>/dev/null; then
        [ $dry = 1 ] || echo "== $name passed before"
        continue
    fi
    if [ "$name" != build ] && [ "$device_seen" = 0 ]; then
        device_works
        device_seen=1
    fi
    run_stage "$name"
    if [ "$name" = build ] && [ $failed != 0 ]; then break; fi
done
[ $dry = 0 ] || exit 0
echo "results: $out/gpu-check.json; as a page: scripts/gpu_table.py $out/gpu-check.json"
echo "excon: $passed_all passed, $failed_all failed, $skipped_all skipped"
[ $failed_all = 0 ]
