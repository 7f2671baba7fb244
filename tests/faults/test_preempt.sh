#!/usr/bin/env bash
# Preemption: SIGUSR2 to mpirun, or SIGTERM to one rank, saves at the next step boundary, every rank ends with 75, and
# the continued run ends in the same bytes; also when the signal comes while the program starts.
#
# Two gaps are not the program's: mpirun dies of a SIGUSR2 that comes before it has handlers of its own, and forwards
# none while it has no ranks; and a rank dies of one (mpirun: 140) that comes while its libraries are being loaded.
# Nothing has been written by then, so 140 may be taken for 75 (scripts/preemptible.sh does, test_preemptible.sh); here
# it is counted and the run must be whole.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh

echo 1..18
make_data
RANDOM=411
steps=120

settings() { # EPOCHS
    printf 'method: exconb\nprofile: official\ntrain: {epochs: %s, batch: 16, log_every: 1}\n' "$1"
    printf 'optim: {lr: 0.05}\ncheckpoint: {every_steps: 50}\n'
}

rank_process() { pgrep -P "$job" | sort -n | sed -n "$(($1 + 1))p"; } # RANK; mpirun starts them in order

saved_as_told() { # NAME: message, both ranks' logs, and a checkpoint of the last recorded step
    local name=$1 step
    step=$(last_step "$name")
    grep -q "state saved at step $step;" "$scratch/$name/log" &&
        tail -n 1 "$scratch/$name/run/logs/rank-0000.log" | grep -q "Z saved: signal" &&
        tail -n 1 "$scratch/$name/run/logs/rank-0001.log" | grep -q "Z saved: signal" &&
        [ -e "$(checkpoint "$name" "$step")" ]
}

settings 6 | make_run whole
train whole 2
check reference $? "$scratch/whole/log"

# Encoder pass, classifier pass, and a rank at a time.
settings 6 | make_run told
preempt() { # TEST, STEP, SIGNAL, RANK or mpirun
    start told 2
    await_step told "$2"
    milliseconds $((RANDOM % 10))
    if [ "$4" = mpirun ]; then kill "-$3" "$job"; else kill "-$3" "$(rank_process "$4")"; fi
    finish
    [ $? = 75 ]
    check "$1.exits_75" $? "$scratch/told/log"
    saved_as_told told
    check "$1.saved" $? "$scratch/told/log"
}
preempt usr2_mid_epoch 13 USR2 mpirun
preempt usr2_classifier_pass 33 USR2 mpirun
preempt term_rank_1 47 TERM 1
preempt term_rank_0 72 TERM 0
preempt usr2_rank_1 91 USR2 1
train told 2
check told.finishes $? "$scratch/told/log"
cmp "$(checkpoint whole)" "$(checkpoint told)" && diff <(losses whole) <(losses told)
check told.byte_equal $?
each_step_once told $steps
check told.each_step_once $?

# The first moment at which the program can be told: handlers stand before MPI, data and device.
catches_usr2() { # PID, of a process that has become excon
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = excon ] || return 1
    local mask
    mask=$(sed -n 's/^SigCgt:\s*//p' "/proc/$1/status" 2>/dev/null)
    ((0x${mask:-0} & 1 << 11))
}
settings 1 | make_run alone
settings 1 | make_run short
train short 2
wrong=0
for _ in 1 2 3 4 5 6; do
    rm -rf "$scratch/alone/run"
    cd "$scratch/alone" || exit 70
    "$excon" train config.yaml >log 2>&1 &
    job=$!
    cd "$OLDPWD" || exit 70
    until catches_usr2 "$job" || ! running; do :; done
    [ ! -e "$scratch/alone/run" ] || wrong=$((wrong + 1)) # it was not that early
    kill -USR2 "$job"
    finish
    [ $? = 75 ] && grep -q 'state saved at step 0;' "$scratch/alone/log" || wrong=$((wrong + 1))
done
[ $wrong = 0 ]
check early.one_process_75 $? "$scratch/alone/log"

# Through mpirun at any moment of its first 200 ms, and last (on a busy machine none of these may reach a rank) once both
# ranks listen.
both_listen() { catches_usr2 "$(rank_process 0)" && catches_usr2 "$(rank_process 1)"; }
settings 1 | make_run early
wrong=0 outcomes=
for i in 0 1 2 3 4 5 6 7 8 9 last; do
    rm -rf "$scratch/early/run"
    start early 2
    if [ $i = last ]; then
        until both_listen || ! running; do :; done
    else
        milliseconds $((20 * i + RANDOM % 20))
    fi
    kill -USR2 "$job"
    finish
    status=$?
    outcomes+=" $status"
    case $status in
    75) saved_as_told early || wrong=$((wrong + 1)) ;;
    140) [ ! -e "$scratch/early/run" ] || wrong=$((wrong + 1)) ;;
    0) ;;
    *) wrong=$((wrong + 1)) ;;
    esac
    [ $status = 75 ] || continue
    train early 2 && cmp "$(checkpoint short)" "$(checkpoint early)" || wrong=$((wrong + 1))
done
echo "# exit codes of SIGUSR2 after 0-200 ms:$outcomes (0: mpirun had no ranks to tell; 140: before main)"
[ $wrong = 0 ]
check early.saved_or_untouched $? "$scratch/early/log"
[[ $outcomes == *75* ]]
check early.some_saved $?

# A signal for a run that is complete finds nothing to save.
train short 2
check complete.exits_0 $? "$scratch/short/log"
