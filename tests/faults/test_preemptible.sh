#!/usr/bin/env bash
# scripts/preemptible.sh: a signal at any moment from its first one on ends in 75 with nothing lost, though mpirun and the
# ranks do not listen for their first tenth of a second; codes and streams pass through; nothing is left behind.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh
preemptible=$PWD/scripts/preemptible.sh

echo 1..12
make_data
limit=100 # steps; what the trials have done by their signal is far less

launch() { # COMMAND...: under preemptible.sh in a session of its own, output in $scratch/out; $job is its shell
    setsid "$preemptible" "$@" >"$scratch/out" 2>&1 </dev/null &
    job=$!
}

listens() { # its shell has replaced setsid, and its traps stand
    [ "$(cat "/proc/$job/comm" 2>/dev/null)" = preemptible.sh ] || return 1
    local mask
    mask=$(sed -n 's/^SigCgt:\s*//p' "/proc/$job/status" 2>/dev/null)
    (((0x${mask:-0} & 1 << 11) && (0x${mask:-0} & 1 << 14) && (0x${mask:-0} & 1)))
}
await_listening() { until listens || ! running; do :; done; }

left_behind() { # SESSION: processes still in it half a second later; the dead that nobody has waited for do not count
    local found
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        # shellcheck disable=SC2009 # pgrep cannot leave out the dead
        found=$(ps -o stat=,pid=,args= -s "$1" | grep -v '^Z') || return 1
        sleep 0.05
    done
    echo "# left behind: $found"
}

# Commands that hear no USR2, and one no TERM either, given up after a second; looked at when the rest is done.
export PREEMPT_SECONDS=1
launch bash -c 'trap "" USR2 TERM; exec sleep 300'
deaf=$job
await_listening
milliseconds 100 # until it is deaf
kill -USR2 "$deaf"
launch bash -c 'trap "" USR2; exec sleep 300'
numb=$job
await_listening
milliseconds 100
kill -USR2 "$numb"
unset PREEMPT_SECONDS

[ "$(echo through | "$preemptible" cat)" = through ]
check passes_streams $?
"$preemptible" sh -c 'exit 78'
[ $? = 78 ]
check passes_codes $?
"$preemptible" sh -c 'kill -USR2 $$' 2>/dev/null
[ $? = 75 ]
check killed_by_usr2_is_75 $?
"$preemptible" 2>"$scratch/out"
[ $? = 64 ] && grep -q usage "$scratch/out"
check usage $? "$scratch/out"

# Sourced into a batch script, whose shell gets the signals.
cat >"$scratch/batch" <<END
set -eu
. "$preemptible" bash -c 'trap "sleep 0.1; exit 75" USR2; while :; do sleep 0.01; done' || code=\$?
echo "requeue after \$code"
END
bash "$scratch/batch" >"$scratch/out" 2>&1 &
job=$!
milliseconds 300
kill -TERM "$job"
finish && [ "$(cat "$scratch/out")" = 'requeue after 75' ]
check sourced $? "$scratch/out"

# A wait that a signal interrupts must neither be missed nor taken for the command's end.
wrong=0
for i in {1..40}; do
    launch bash -c 'trap "exit 75" USR2; while :; do sleep 0.001; done'
    await_listening
    milliseconds $((RANDOM % 30))
    kill "-$([ $((i % 2)) = 0 ] && echo USR2 || echo TERM)" "$job"
    if [ $((i % 3)) = 0 ]; then kill -TERM "$job" 2>/dev/null; fi
    finish
    code=$?
    if [ $code != 75 ]; then
        echo "# trial $i: $code"
        wrong=$((wrong + 1))
    fi
done
[ $wrong = 0 ]
check wait_and_trap $?

# The real thing, at any moment of its start; each trial is one run folder.
settings() { printf 'method: exconb\ntrain: {epochs: 50, batch: 16, log_every: 1}\n'; }
settings | make_run whole
train whole 2 --set train.max_steps=$limit
check reference $? "$scratch/whole/log"
wrong=0 orphans=0 unequal=0 compared=0 saved=0 slowest=0 tried=0
try() { # SIGNAL, DELAY in milliseconds after the script listens, and, if given, after STEP was recorded
    local signal=$1 delay=$2 step=${3:-0}
    tried=$((tried + 1))
    settings | make_run trial
    rm -rf "$scratch/trial/run"
    cd "$scratch/trial" || exit 70
    launch "$mpirun" -n 2 "$excon" train config.yaml
    cd "$OLDPWD" || exit 70
    session=$job
    await_listening
    while [ "$(last_step trial)" -lt "$step" ] && running; do milliseconds 5; done
    milliseconds "$delay"
    kill "-$signal" "$job"
    begin=${EPOCHREALTIME/./}
    finish
    code=$?
    took=$(((${EPOCHREALTIME/./} - begin) / 1000))
    [ $took -le $slowest ] || slowest=$took
    if [ $code != 75 ]; then
        echo "# $signal after $delay ms: $code"
        tail -n 5 "$scratch/out" | sed 's/^/#   /'
        wrong=$((wrong + 1))
    fi
    if left_behind "$session"; then orphans=$((orphans + 1)); fi
    if [ -e "$scratch/trial/run/checkpoints/last.h5" ]; then saved=$((saved + 1)); fi
    if [ "$signal" = TERM ] || [ $((delay % 20)) != 0 ]; then return; fi
    train trial 2 --set train.max_steps=$limit && cmp "$(checkpoint whole)" "$(checkpoint trial)" || unequal=$((unequal + 1))
    compared=$((compared + 1))
}
trials=("USR2 "{0,5,10,20,40,60,80,100,150,300} "TERM "{0,5,10,20,40,60,80,100,150,300})
for _ in 1 2 3; do trials+=("USR2 $((RANDOM % 120))" "TERM $((RANDOM % 120))"); done
for trial in "${trials[@]}"; do
    read -r signal delay <<<"$trial"
    try "$signal" "$delay"
done
# Ranks may start later than that, by Open MPI 5 and on a busy machine: signals from the first steps on.
for ((more = 0; saved < 10 && more < 16; more++)); do
    if [ $((more % 4)) = 0 ]; then try USR2 20 $((1 + more)); else try TERM 20 $((1 + more)); fi
done
echo "# $SECONDS s: $saved of $tried had a state to save, $unequal of $compared continued in other bytes; the slowest ended $slowest ms after its signal"
[ $wrong = 0 ]
check signal.always_75 $?
[ $orphans = 0 ]
check signal.nothing_left $?
[ $unequal = 0 ] && [ $compared -ge 5 ] && [ $saved -ge 10 ]
check signal.continues_in_the_same_bytes $?

job=$numb
finish
[ $? = 143 ]
check gives_up_by_term $?
job=$deaf
finish
[ $? = 137 ]
check gives_up_by_kill $?
