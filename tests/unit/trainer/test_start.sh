#!/usr/bin/env bash
# What a run says at its start: of a cache too small for its shuffle window, once, with two ways out that both work; and
# which precision `auto` takes.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
echo 1..9

# 256 images of 12 kB in 4 chunks of 0.8 MB; no epoch is trained.
"$excon" import synthetic "$scratch/data" --classes 4 --size 64 --train-per-class 64 --val-per-class 1 >/dev/null
cat >"$scratch/run.yaml" <<END
data: {dir: $scratch/data, loader: stream, memory_mb: 3, holdout: 0}
run: {dir: $scratch/run}
model: {encoder: resnet10, width: 4}
train: {epochs: 0, batch: 8}
END
start() { "$mpirun" -n 2 "$excon" train "$scratch/run.yaml" "$@" >"$scratch/log" 2>&1; }
warnings() { grep -c 'excon: warning: data.memory_mb' "$scratch/log"; }
said() { sed -nE "s/.*excon: warning: .*set $1 to ([0-9]+).*/\1/p; s/.* or $1 to ([0-9]+).*/\1/p" "$scratch/log"; }

start && [ "$(warnings)" = 1 ] && grep -q 'room for 1 of the 4 shard chunks' "$scratch/log"
check warns_once $?
memory=$(said data.memory_mb) window=$(said data.shuffle_window)
start --set "data.memory_mb=$memory" && [ "$(warnings)" = 0 ]
check enough_memory $?
start --set "data.memory_mb=$((memory - 1))" && [ "$(warnings)" = 1 ]
check no_more_than_needed $?
start --set "data.shuffle_window=$window" && [ "$(warnings)" = 0 ]
check smaller_window $?
start --set data.loader=memory && [ "$(warnings)" = 0 ]
check not_in_memory $?

# bf16 where AMX or AMD's AVX-512 multiplies it, by the kernel's word on the processor; f32 on all others.
has() { grep -m 1 '^flags' /proc/cpuinfo | grep -qw "$1"; }
expected=f32
if has amx_bf16 || { has avx512_bf16 && grep -q AuthenticAMD /proc/cpuinfo; }; then expected=bf16; fi
start --set precision=auto --set backend=cpu --set data.loader=memory && grep -q "precision $expected, chosen by auto" "$scratch/log"
check "auto takes $expected" $?
DNNL_MAX_CPU_ISA=AVX2 start --set precision=auto --set backend=cpu && grep -q 'precision f32, chosen by auto' "$scratch/log"
check auto_without_bf16_products $?
# a script, since the mpirun of Open MPI 5.0.7 crashes on two commands (a : b)
cat >"$scratch/by_rank" <<'END'
#!/bin/sh
[ "$OMPI_COMM_WORLD_RANK" != 0 ] || export DNNL_MAX_CPU_ISA=AVX2
exec "$@"
END
chmod +x "$scratch/by_rank"
"$mpirun" -n 2 "$scratch/by_rank" "$excon" train "$scratch/run.yaml" --set precision=auto --set backend=cpu >"$scratch/log" 2>&1 &&
    grep -q 'precision f32, chosen by auto' "$scratch/log"
check auto_takes_what_suits_all_ranks $?
start --set precision=f32 && grep -q 'precision f32 |' "$scratch/log"
check as_configured $?
