#!/usr/bin/env bash
# Instruction set levels: what each gives when forced by EXCON_CPU, ranks on processors of different levels, and
# processors that are not here (qemu's).
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/tap.sh
export OMP_NUM_THREADS=1

read -ra levels <<<"$(EXCON_CPU=none "$excon" bench loss --rows 8 --steps 1 2>&1 | sed -n 's/.* has //p' | tr -d ,)"
if [ "${levels[0]:-}" = native ]; then
    echo "1..1"
    skip "built for one kind of processor (ARCH=)" "levels"
    exit 0
fi
best=${levels[-1]:-none}
lowest=${levels[0]:-none}

# ---- the operators against their references at each level below the best, which all other tests use
operators=(contrast_sums dense norm ops saliency views classify)
for level in v2 v3; do
    for name in "${operators[@]}"; do
        if [ "$level" = "$best" ] || [[ " ${levels[*]} " != *" $level "* ]]; then
            skip "the other tests ran at $best" "$name at $level"
            continue
        fi
        EXCON_CPU=$level "$build/tests/unit/kernels/test_$name" >"$scratch/log" 2>&1
        check "$name at $level" $? "$scratch/log"
    done
done

# ---- whole runs
"$excon" import synthetic "$scratch/data" --classes 4 --size 16 --train-per-class 20 --val-per-class 8 >/dev/null
run() { # NAME, COMMAND of mpirun...: two steps of exconb in $scratch/NAME
    local name=$1
    shift
    "$mpirun" --oversubscribe "$@" >"$scratch/$name.log" 2>&1
}
# train NAME: the arguments of one training
train() {
    printf '%s\n' "$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/$1"
}
cat >"$scratch/run.yaml" <<END
method: exconb
data: {dir: $scratch/data, holdout: 0.1}
run: {dir: run}
backend: cpu
model: {encoder: resnet10, width: 16}
train: {epochs: 1, batch: 16, max_steps: 2, log_every: 1}
optim: {lr: 0.02}
END
digest() { "$excon" digest "$scratch/$1/checkpoints/last.h5"; }
losses() { sed -n 's/.*"event":"step",[^{]*"loss":\([0-9.e+-]*\).*/\1/p' "$scratch/$1/metrics.jsonl"; }

for name in a b; do
    mapfile -t command < <(train $name)
    run $name -n 1 env EXCON_CPU="$lowest" "${command[@]}"
done
[ -n "$(digest a)" ] && [ "$(digest a)" = "$(digest b)" ]
check "equal runs at $lowest give equal digests" $? "$scratch/a.log"
grep -q "^rank 0: .* level $lowest," "$scratch/a.log"
check "the banner names the level" $? "$scratch/a.log"

if [ "$best" = "$lowest" ]; then
    skip "this processor has $lowest alone" "levels agree"
    skip "this processor has $lowest alone" "ranks of different levels"
else
    mapfile -t command < <(train c)
    run c -n 1 "${command[@]}"
    # the last bits of f32 sums, through two steps of a network: 1e-4 is what golden runs keep to float64
    paste -d ' ' <(losses a) <(losses c) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1e-4 * $2)) bad = 1; n++ } END { exit bad || n != 2 }'
    check "losses at $lowest and $best agree" $? "$scratch/c.log"

    # a script, since the mpirun of Open MPI 5.0.7 crashes on two commands (a : b)
    cat >"$scratch/by_rank" <<END
#!/bin/sh
EXCON_CPU=$best
[ "\$OMPI_COMM_WORLD_RANK" != 0 ] || EXCON_CPU=$lowest
export EXCON_CPU
exec "\$@"
END
    chmod +x "$scratch/by_rank"
    mapfile -t mixed < <(train mixed)
    mapfile -t low < <(train low)
    run mixed -n 2 "$scratch/by_rank" "${mixed[@]}" && run low -n 2 env EXCON_CPU="$lowest" "${low[@]}" &&
        [ -n "$(digest low)" ] && [ "$(digest mixed)" = "$(digest low)" ]
    check "ranks of different levels compute at the lowest, to the same bits" $? "$scratch/mixed.log"
fi

# ---- refusals
EXCON_CPU=v9 "$excon" bench loss --rows 8 --steps 1 >"$scratch/log" 2>&1
[ $? = 64 ] && grep -q 'no such level' "$scratch/log"
check "a level that does not exist is refused (64)" $? "$scratch/log"

# ---- processors that are not here
emulator=$(command -v qemu-x86_64 || command -v qemu-x86_64-static)
emulated() { # MODEL, ARGUMENT...
    local model=$1
    shift
    timeout 120 "$emulator" -cpu "$model" "$excon" bench loss --rows 16 --steps 1 "$@" >"$scratch/log" 2>&1
}
for model in "Penryn none" "Nehalem v2" "Haswell v3"; do
    read -r cpu level <<<"$model"
    if [ -z "$emulator" ]; then
        skip "qemu-x86_64 is not here" "on a $cpu"
        continue
    fi
    emulated "$cpu" --json
    code=$?
    if [ "$level" = none ]; then
        [ $code = 71 ] && grep -q 'no x86-64-v2' "$scratch/log"
        check "a processor below the lowest level gets a sentence and 71" $? "$scratch/log"
    else
        [ $code = 0 ] && grep -q "level $level," "$scratch/log"
        check "on a $cpu: level $level" $? "$scratch/log"
    fi
done
if [ -z "$emulator" ]; then
    skip "qemu-x86_64 is not here" "a level above the processor's is refused"
else
    emulator_code=0
    EXCON_CPU=v4 emulated Nehalem || emulator_code=$?
    [ $emulator_code = 71 ] && grep -q 'lacks that level' "$scratch/log"
    check "a level above the processor's is refused (71)" $? "$scratch/log"
fi
echo "1..$number"
