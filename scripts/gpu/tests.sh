# shellcheck shell=bash disable=SC2034,SC2154 # gpu_check.sh and its parts share their variables
# Sourced by gpu_check.sh: the stages that test.

variant() { case "$mode" in cuda) echo gpu/ ;; simt) echo simt/ ;; cpu) echo '' ;; esac; }

# Every operator against its reference; with --short those of unit/kernels and test_backends, the others have stages.
stage_ops() {
    if [ "$mode" = cpu ]; then
        suite operators 240 kernels/test_ops
    elif [ -n "$short" ]; then
        suite operators 150 "$(variant)unit/kernels" "$(variant)test_backends"
    else
        suite operators 300 "$(variant)unit" "$(variant)test_backends" "$(variant)test_cudnn"
        test_timeout=150 suite "ten steps" 150 "$(variant)test_ten_steps"
    fi
}

# Training images from disk, host and device, and a run that is stopped twice: the same bits.
stage_resume() {
    if [ "$mode" = cpu ]; then skip "the data path's test is about CUDA devices"; else suite data-path 90 "$(variant)test_data_path"; fi
}

# ---- ten steps, as bits ---------------------------------------------------------------------------------------------

same_data=$out/same-data

same_begin() {
    [ ! -e "$same_data/index.h5" ] || return 0
    check "import for ten steps" 60 "$EXCON" import synthetic "$same_data" --classes 4 --size "$same_size" --train-per-class "$same_images" \
        --val-per-class 1 --correlation 0
}

# same_train FOLDER STEPS [--set key=value]...   ExCon in bf16 up to a step; goes on where the folder's run ended
same_train() {
    local folder=$out/same-$1 steps=$2
    shift 2
    run "${folder##*/}-$steps" 90 "$EXCON" train configs/demo.yaml --set backend="$backend" --set precision=bf16 \
        --set data.dir="$same_data" --set run.dir="$folder" --set eval.every_epochs=0 --set train.max_steps="$steps" \
        --set checkpoint.every_steps=0 "${same_net[@]}" "${with_transport[@]}" "$@"
}

# same_digest NAME FOLDER FOLDER   one counted result: both runs ended with the same bits
same_digest() {
    local name=$1 first second
    [ "$dry" = 0 ] || return 0
    first=$("$EXCON" digest "$out/same-$2/checkpoints/last.h5" 2>&1)
    second=$("$EXCON" digest "$out/same-$3/checkpoints/last.h5" 2>&1)
    if [[ $first =~ ^[0-9a-f]{64}$ ]] && [ "$first" = "$second" ]; then pass "$name"; else fail "$name: $first and $second"; fi
}

# same NAME CODE FOLDER FOLDER   what became of the runs of both folders: CODE is theirs
same() {
    case $2 in
    0) same_digest "$1" "$3" "$4" ;;
    125) later "$1" ;;
    124) skip "$1: $(why 124)" ;;
    *) fail "$1: $(why "$2")" ;;
    esac
}

stage_graphs() {
    same_begin || return
    [ "$dry" = 1 ] || rm -rf "$out/same-graphs" "$out/same-plain"
    same_train graphs 10 --set cuda.graphs=true && same_train plain 10 --set cuda.graphs=false
    same "ten steps with and without recorded captures" $? graphs plain
}

stage_halves() {
    same_begin || return
    [ "$dry" = 1 ] || rm -rf "$out/same-whole" "$out/same-halves"
    same_train whole 10 && same_train halves 5 && same_train halves 10
    same "ten steps in bf16 and five and five" $? whole halves
}

# ---- golden numbers and ranks ---------------------------------------------------------------------------------------

# With --short: each method, its bf16 where that has a file, both explanations, the deepest net.
golden_short=(step-excon-recommended step-exconb-recommended step-supcon-official step-excon-bf16 explain-recommended explain-official
    encode-resnet50 supcon-class)

# by_file PART FILE...   tests named PART with one golden file at a time; what has passed is not done again
by_file() {
    local part=$1 file name mark folder
    shift
    for file in "$@"; do
        name=${part##*/test_}-$(basename "$file" .h5)
        mark=$out/golden/$name.passed
        if [ "$again" = 0 ] && [ "$(cat "$mark" 2>/dev/null)" = "$revision $mode" ]; then
            pass "$name (passed before)"
            continue
        fi
        folder=$out/golden/$name
        [ "$dry" = 1 ] || { mkdir -p "$folder" && ln -sf "$PWD/$file" "$folder/"; }
        GOLDEN=$folder suite "$name" $((test_timeout + 5)) "$part"
        [ "$dry" = 1 ] || ! grep -qE '^excon: .* 0 failed, 0 skipped$' "$log" || echo "$revision $mode" >"$mark"
    done
}

stage_golden() {
    local name files=()
    if [ "$mode" = cpu ]; then
        skip "golden cases on the CPU are make test's"
    elif [ -n "$short" ]; then
        for name in "${golden_short[@]}"; do files+=("tests/golden/$name.h5"); done
        by_file "$(variant)golden/test_golden" "${files[@]}"
    else
        by_file "$(variant)golden/test_golden" tests/golden/{encode,explain,step,supcon}-*.h5
        suite faithfulness $((test_timeout + 5)) "$(variant)golden/test_faithfulness"
    fi
}

stage_ranks() {
    if [ "$mode" = cpu ]; then
        suite collectives 240 ranks/test_collectives
        return
    fi
    suite collectives 120 "$(variant)ranks/test_collectives"
    by_file "$(variant)ranks/test_ranks" tests/golden/step-*.h5
}

# ---- compute-sanitizer ----------------------------------------------------------------------------------------------

# test_device asks for more memory than there is, on purpose: errors of the API are reported by the tests themselves.
sanitize() { # TOOL TEST
    local tool=$1 name=$2 code program
    program=$tests_build/tests/unit/kernels/$name
    run "$tool-$name" 120 env EXCON_TEST_BACKEND=cuda "${in_bundle[@]}" "${sanitizer:-compute-sanitizer}" --tool "$tool" \
        --report-api-errors no --error-exitcode 99 "$program"
    code=$?
    [ "$dry" = 0 ] || return 0
    case "$code" in
    0) pass "$tool $name" ;;
    124) skip "$tool $name: $(why "$code")" ;;
    125) later "$tool $name" ;;
    99) fail "$tool $name: $(grep -m 1 'ERROR SUMMARY\|RACECHECK SUMMARY' "$log")" ;;
    *) fail "$tool $name: $(why "$code")" ;;
    esac
}

stage_sanitizer() {
    local sanitizer tool name names
    sanitizer=$(find_tool compute-sanitizer)
    if [ "$mode" != cuda ]; then
        skip "compute-sanitizer looks at real GPUs only"
    elif [ -z "$sanitizer" ] && [ "$dry" = 0 ]; then
        skip "no compute-sanitizer here"
    elif [ -n "$short" ]; then
        sanitize memcheck test_norm
        sanitize racecheck test_contrast_sums
        sanitize memcheck test_contrast # the slowest
    else
        names=$(grep -rl --include='test_*.c' device_fixture tests/unit/kernels | sort | sed 's|.*/||; s|\.c$||')
        for tool in memcheck racecheck; do
            for name in $names; do sanitize "$tool" "$name"; done
        done
    fi
}

# ---- does it learn --------------------------------------------------------------------------------------------------

stage_train() {
    local data=$out/train-data folder=$out/train-run top1 least=${TRAIN_TOP1:-0.5}
    local size=32 images=1000 sets=(--set model.encoder=resnet18 --set model.width=64 --set train.epochs=15 --set train.batch=128 --set optim.lr=0.1)
    if [ "$mode" != cuda ]; then
        size=16 images=16 least=-1
        sets=(--set model.encoder=resnet10 --set model.width=4 --set train.epochs=1 --set train.batch=8 --set train.max_steps=2)
    fi
    check import 60 "$EXCON" import synthetic "$data" --classes 4 --size "$size" --train-per-class $images --val-per-class 100 --correlation 0 || return
    [ "$dry" = 1 ] || rm -rf "$folder"
    check train 180 "$EXCON" train configs/demo.yaml --set backend="$backend" --set precision=bf16 --set data.dir="$data" --set run.dir="$folder" \
        "${sets[@]}" "${with_transport[@]}" || return
    again=1 measure train excon "train excon bf16" 60 "$EXCON" eval "$folder" --json
    [ "$dry" = 0 ] || return 0
    top1=$(sed -n 's/.*"top1":\([0-9.e-]*\).*/\1/p' "$out/runs/train-excon-bf16.json")
    if [ -n "$top1" ] && awk -v a="$top1" -v b="$least" 'BEGIN { exit !(a > b) }'; then
        pass "top-1 ${top1:-none} is above $least"
    else
        fail "top-1 ${top1:-none} is not above $least (chance 0.25)"
    fi
}
