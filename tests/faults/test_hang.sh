#!/usr/bin/env bash
# Ranks that stop, a job that is suspended, and killed processes: the job ends with the promised code and in time, names
# the absent rank, raises no false alarm and leaves nothing behind.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/tap.sh
limit=3
dir=$scratch
job=0
ranks=()
cleanup() {
    [ $job = 0 ] || kill -KILL $job "${ranks[@]}" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
export OMP_NUM_THREADS=1

echo 1..12
holds() { # NAME, then a command that must succeed
    local name=$1
    shift
    "$@" >/dev/null 2>&1
    check "$name" $? "$dir/err"
}

steps() { # lines of progress rank 0 has recorded
    if [ -e "$run/metrics.jsonl" ]; then grep -c step "$run/metrics.jsonl"; else echo 0; fi
}
wait_for_steps() { # COUNT more than there are now
    local target=$(($(steps) + $1)) tries=0
    while [ "$(steps)" -lt $target ]; do
        sleep 0.1
        tries=$((tries + 1))
        [ $tries -lt 150 ] && kill -0 $job 2>/dev/null || return 1
    done
}
start() { # NAME, RANKS: sets job, run and ranks (process ids in rank order)
    run=$dir/$1
    "$mpirun" -n "$2" "$excon" train configs/demo.yaml --set data.dir="$dir/data" --set run.dir="$run" \
        --set model.width=4 --set train.epochs=1000 --set train.batch=12 --set train.log_every=1 \
        --set checkpoint.every_steps=0 --set watchdog.step_seconds=$limit >"$dir/out" 2>"$dir/err" </dev/null &
    job=$!
    if ! wait_for_steps 3; then
        sed 's/^/# /' "$dir/err"
        echo "Bail out! $1 does not train"
        exit 1
    fi
    ranks=()
    local pid rank
    for pid in $(pgrep -P $job); do
        rank=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')
        [ -n "$rank" ] && ranks[rank]=$pid
    done
}
finish() { # waits for the job: sets status and seconds
    local begin
    begin=$(date +%s.%N)
    wait $job 2>/dev/null
    status=$?
    seconds=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    echo "# exit status $status after $seconds s"
}
within() { # SECONDS
    awk -v a="$seconds" -v b="$1" 'BEGIN { exit !(a <= b) }'
}
no_orphan() { # within 10 s no rank is left; zombies are gone processes
    local tries pid left
    for tries in $(seq 100); do
        left=0
        for pid in "${ranks[@]}"; do
            grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" && left=1
        done
        [ $left = 0 ] && echo "# none left after $tries looks" && return 0
        sleep 0.1
    done
    return 1
}
survivor_says() { # RANK: on stderr and in its log, with what it waits for and who is absent, and that alone
    local file
    for file in "$dir/err" "$run/logs/rank-000$1.log"; do
        grep -q "rank $1 on .*: no progress for .* waits in .*, collective [0-9]*, step [0-9]*, .*; absent: rank 1 (its process has stopped" \
            "$file" || return 1
        # (mpirun wakes rank 1 to end it, and then that one may find the others gone)
        ! grep "rank $1 on " "$file" | grep -qE 'absent:.* rank [02] \(' || return 1
    done
}

"$excon" import synthetic "$dir/data" --classes 3 --size 16 --train-per-class 20 --val-per-class 4 >"$dir/out" 2>"$dir/err" ||
    sed 's/^/# import failed: /' "$dir/err"

start stopped 3
kill -STOP "${ranks[1]}"
finish
holds stopped_rank_ends_job_with_81 [ $status = 81 ]
holds in_time within $((limit + 5))
holds rank_0_reports survivor_says 0
holds rank_2_reports survivor_says 2
holds nothing_left no_orphan

start suspended 2
kill -STOP $job "${ranks[@]}"
sleep $((limit + 2))
kill -CONT "${ranks[@]}" $job
holds continues_after_suspension wait_for_steps 20
kill -USR2 $job
finish
holds ends_as_asked [ $status = 75 ]
holds no_false_alarm [ "$(grep -c 'no progress' "$dir/err" "$run"/logs/*.log | grep -cv ':0$')" = 0 ]
holds heartbeats_removed [ "$(find "$run/logs" -name 'heartbeat-*' | wc -l)" = 0 ]

start killed 2
kill -KILL "${ranks[1]}"
finish
holds killed_rank_ends_job test $status != 0 -a "$(printf '%.0f' "$seconds")" -le 10
holds no_rank_outlives_it no_orphan

start headless 2
kill -KILL $job
finish
holds no_rank_outlives_mpirun no_orphan
job=0
