# shellcheck shell=bash disable=SC2034,SC2154 # gpu_check.sh and its parts share their variables
# Sourced by gpu_check.sh: the stages that measure.

# Shapes of a full measurement: 256 images are 512 trained views, the row of the floors in scripts/gpu_table.py.
batch=${BATCH:-256} steps=${STEPS:-20} tiny=()
deep=resnet50 plain=resnet18 side=64 sides=(64 32)
rows=(16384 65536 131072) ops=(--batch "$batch" --steps "$steps")
same_size=32 same_images=400 same_net=(--set model.encoder=resnet18 --set model.width=64 --set train.batch=128)
if [ "$mode" != cuda ]; then
    batch=4 steps=1 tiny=(--width 4)
    deep=resnet10 plain=resnet10 side=16 sides=(16)
    rows=(512) ops=(--batch 2 --size 16 --width 8 --gemm 64 --rows 64 --steps 1)
    same_size=16 same_images=25 same_net=(--set model.encoder=resnet10 --set model.width=4 --set train.batch=8)
elif [ -n "$short" ]; then
    rows=(16384 65536)
fi

# step METHOD MODEL SIDE [NOTE [--set key=value]...]
step() {
    local method=$1 model=$2 side=$3 note=${4:+ $4}
    shift $(($# < 4 ? 3 : 4))
    measure step excon "step $method $model ${side}x$side batch $batch$note" 60 "$EXCON" bench step --backend "$backend" --precision bf16 \
        --method "$method" --model "$model" --size "$side" --batch "$batch" --steps "$steps" "${tiny[@]}" "${with_transport[@]}" "$@" --json
}

stage_steps() {
    local model size method
    step excon "$plain" "$side"
    step excon "$plain" "$side" "without graphs" --set cuda.graphs=false
    for method in supcon exconb; do step $method "$plain" "$side"; done
    [ "$deep" = "$plain" ] || step excon "$deep" "$side"
    [ -z "$short" ] || return 0
    for method in supcon exconb; do [ "$deep" = "$plain" ] || step $method "$deep" "$side"; done
    for size in "${sides[@]:1}"; do
        for model in "$plain" "$deep"; do
            for method in supcon excon exconb; do step $method "$model" "$size"; done
        done
    done
}

stage_rates() {
    measure ops excon "ops bf16" 120 "$EXCON" bench ops --backend "$backend" --precision bf16 "${ops[@]}" "${with_transport[@]}" --json
}

# ---- PyTorch --------------------------------------------------------------------------------------------------------

# find_peer   sets no_peer to the reason why PyTorch cannot run here, or to nothing
peer_device=cuda no_peer=''
[ "$mode" = cuda ] || peer_device=cpu
find_peer() {
    no_peer=
    [ "$dry" = 0 ] || return 0
    if [ -z "$torch_version" ]; then
        no_peer="no Python here with PyTorch (PYTHON)"
    elif [ $peer_device = cuda ] && ! run torch 60 "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        no_peer="PyTorch $torch_version sees no GPU here, or does not start"
    fi
}

peer_step() { # WAY METHOD MODEL SIDE
    measure step "$1" "step $2 $3 ${4}x$4 batch $batch $1" 120 "$PYTHON" scripts/peers/torch_step.py --device $peer_device --way "$1" \
        --method "$2" --model "$3" --size "$4" --batch "$batch" --steps $((steps < 10 ? steps : 10))
}

# What one peer has compiled the next one finds: they train the same encoder.
stage_peer() {
    local method
    find_peer
    [ -z "$no_peer" ] || { skip "$no_peer" && return; }
    export TORCHINDUCTOR_CACHE_DIR=$out/inductor TRITON_CACHE_DIR=$out/inductor/triton
    for method in excon supcon exconb; do peer_step tuned $method "$plain" "$side"; done
    [ -z "$short" ] || return 0
    for method in excon supcon exconb; do
        peer_step published $method "$plain" "$side"
        [ "$deep" != "$plain" ] || continue
        peer_step tuned $method "$deep" "$side"
        peer_step published $method "$deep" "$side"
    done
}

stage_loss() {
    local n
    find_peer
    for n in "${rows[@]}"; do
        measure loss excon "loss $n x 128" 60 "$EXCON" bench loss --backend "$backend" --rows "$n" --steps "$steps" "${with_transport[@]}" --json
        if [ -n "$no_peer" ] || [ "$n" -gt 65536 ]; then continue; fi
        measure loss published "loss $n x 128 published" 60 "$PYTHON" scripts/peers/published_loss.py --device $peer_device --rows "$n" --repeats 3
    done
    [ -z "$no_peer" ] || skip "the published loss: $no_peer"
}

# ---- where the time of a step goes ----------------------------------------------------------------------------------

# The seconds of every kernel of one ExCon step that is launched kernel by kernel, after the warm-up.
stage_profile() {
    local ncu code table=$out/logs/profile-kernels.csv
    ncu=$(find_tool ncu)
    if [ "$mode" != cuda ]; then
        skip "ncu looks at real GPUs only"
        return
    elif [ -z "$ncu" ] && [ "$dry" = 0 ]; then
        skip "no ncu here"
        return
    fi
    run ncu 120 "${ncu:-ncu}" --clock-control none --profile-from-start off --target-processes all --metrics gpu__time_duration.sum \
        --csv --log-file "$table" "$EXCON" bench step --backend "$backend" --precision bf16 --method excon --model "$plain" --size "$side" \
        --batch "$batch" --steps 1 --mark-last --set cuda.graphs=false "${with_transport[@]}" --json
    code=$?
    case "$code" in
    0) measure profile excon "profile excon $plain ${side}x$side batch $batch" 30 "$PYTHON" scripts/gpu/kernels.py "$table" ;;
    125) later ncu ;;
    *) fail "ncu: $(why "$code")" ;;
    esac
}
