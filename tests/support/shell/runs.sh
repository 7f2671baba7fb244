# shellcheck shell=bash
# Sourced by the shell tests of whole runs, from the top folder: beside tap.sh a small dataset, and runs that are started,
# watched and killed. Every run has its own folder $scratch/NAME and the relative run.dir "run" in it.
. tests/support/shell/tap.sh
export OMP_NUM_THREADS=1 # two ranks on a small machine; the thread count is part of what must not change
job=

end_job() { # kill -9 of mpirun and of the ranks, its children
    [ -n "$job" ] || return 0
    local ranks
    ranks=$(pgrep -P "$job")
    # shellcheck disable=SC2086 # one word for each rank
    kill -9 "$job" $ranks 2>/dev/null
    wait "$job" 2>/dev/null
    local rank
    for rank in $ranks; do # the lock of a run is theirs until they are gone
        while grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$rank/status"; do milliseconds 20; done
    done
    job=
}
trap 'end_job; rm -rf "$scratch"' EXIT

make_data() {
    "$excon" import synthetic "$scratch/data" --classes 4 --size 16 --train-per-class 40 --val-per-class 8 >"$scratch/import" 2>&1 ||
        { sed 's/^/# /' "$scratch/import"; exit 1; }
}

make_run() { # NAME, more lines of configuration from stdin
    mkdir -p "$scratch/$1"
    {
        printf 'run: {dir: run}\ndata: {dir: ../data, holdout: 0.1}\nmodel: {encoder: resnet10, width: 4, projection: 16}\n'
        cat
    } >"$scratch/$1/config.yaml"
}

train() { # NAME, RANKS, [ARGUMENT...]: to its end; output in NAME/log, returns the exit status
    local name=$1 ranks=$2
    shift 2
    (cd "$scratch/$name" && "$mpirun" -n "$ranks" "$excon" train config.yaml "$@") >"$scratch/$name/log" 2>&1 </dev/null
}

start() { # NAME, RANKS, [ARGUMENT...]: in the background; $job is mpirun
    local name=$1 ranks=$2
    shift 2
    (cd "$scratch/$name" && exec "$mpirun" -n "$ranks" "$excon" train config.yaml "$@") >"$scratch/$name/log" 2>&1 </dev/null &
    job=$!
}

running() { [ -n "$job" ] && kill -0 "$job" 2>/dev/null; }

finish() { # the exit status of the job
    local status
    wait "$job"
    status=$?
    job=
    return "$status"
}

last_step() { # NAME: of the last record of its metrics, 0 when there is none
    local step
    step=$(tail -n 1 "$scratch/$1/run/metrics.jsonl" 2>/dev/null | sed -nE 's/.*"step":([0-9]+).*/\1/p')
    echo "${step:-0}"
}

last_phase() { # NAME
    tail -n 1 "$scratch/$1/run/metrics.jsonl" 2>/dev/null | sed -nE 's/.*"phase":"([a-z]+)".*/\1/p'
}

await_step() { # NAME, STEP: 0 once the metrics have it, 1 when the job has ended before
    while [ "$(last_step "$1")" -lt "$2" ]; do
        running || return 1
        sleep 0.01
    done
}

milliseconds() { sleep "$(printf '0.%03d' "$1")"; } # of 0..999

losses() { # NAME: "step loss classifier_loss" of each step record
    sed -nE '/"event":"step"/s/.*"step":([0-9]+),"epoch":[0-9]+,"phase":"[a-z]+"(,"loss":([^,]*))?(,"classifier_loss":([^,]*))?,.*/\1 \3 \5/p' \
        "$scratch/$1/run/metrics.jsonl"
}

each_step_once() { # NAME, STEPS: the records' steps are 1..STEPS in order
    diff -q <(losses "$1" | cut -d' ' -f1) <(seq 1 "$2") >/dev/null
}

checkpoint() { # NAME, [STEP]: path of a checkpoint, of the last one without STEP
    if [ $# = 1 ]; then echo "$scratch/$1/run/checkpoints/last.h5"; else printf '%s/run/checkpoints/step-%08d.h5\n' "$scratch/$1" "$2"; fi
}
