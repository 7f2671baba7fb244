#!/usr/bin/env bash
# Output that could not be written is an error (74): on standard output, for every subcommand, and in the records of a run.
# A reader that leaves early ends a listing quietly and a training not at all.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh
shim=$(realpath "${BUILD:-build}/tests/faults/fail_io.so")

echo 1..28
make_data
printf 'method: ce\ntrain: {epochs: 1, batch: 64, log_every: 1}\n' | make_run plain
train plain 1
check trains $? "$scratch/plain/log"
cd "$scratch/plain" || exit 70
sed 's/{dir: run}/{dir: other}/' config.yaml >check.yaml

full() { # NAME, ARGUMENT...: into a full device; 74 and the reason
    local name=$1
    shift
    if [ ! -c /dev/full ]; then
        skip "this system has no /dev/full" "full.$name"
        return
    fi
    "$excon" "$@" >/dev/full 2>"$scratch/error" </dev/null
    [ $? = 74 ] && grep -q 'excon: standard output could not be written' "$scratch/error"
    check "full.$name" $? "$scratch/error"
}

full help help
full help_config help config
full dash_help --help
full version --version
full command_help train --help
full digest digest run/checkpoints/last.h5
full inspect inspect run/checkpoints/last.h5
full inspect_index inspect ../data/index.h5
full bench bench loss --rows 64 --steps 1
full bench_json bench loss --rows 64 --steps 1 --json
full eval eval run --suite accuracy
full eval_json eval run --suite accuracy --json
full check check check.yaml
full import import synthetic again --classes 2 --size 16 --train-per-class 4 --val-per-class 2
full train train check.yaml --set run.dir=full
[ -s full/checkpoints/last.h5 ]
check full.train_is_complete $?

"$excon" digest run/checkpoints/last.h5 >&- 2>"$scratch/error"
[ $? = 74 ]
check closed.digest $? "$scratch/error"
"$excon" digest run/checkpoints/last.h5 >"$scratch/out" 2>&- && [ -s "$scratch/out" ]
check closed.stderr $? "$scratch/out"
"$excon" train check.yaml --set run.dir=closed --set seed=2 >&- 2>&- <&-
[ $? = 74 ]
check closed.train $?
python3 -c 'import json; [json.loads(line) for line in open("closed/metrics.jsonl")]' 2>"$scratch/error" &&
    ! grep -qs 'epoch 1 step' closed/logs/* closed/events/* closed/config.yaml closed/status.json
check closed.nothing_in_other_files $? "$scratch/error"

# The reader has gone before the first line is written.
{ sleep 0.2; "$excon" help config; echo $? >"$scratch/status"; } 2>"$scratch/error" | true
[ "$(cat "$scratch/status")" = 141 ] && [ ! -s "$scratch/error" ]
check reader_left.listing_is_quiet $? "$scratch/error"
{ sleep 0.2; "$excon" train check.yaml --set run.dir=left; echo $? >"$scratch/status"; } 2>"$scratch/error" | true
[ "$(cat "$scratch/status")" = 74 ] && [ -s left/checkpoints/last.h5 ]
check reader_left.training_goes_on $? "$scratch/error"
grep -q '"state":"done"' left/status.json
check reader_left.training_is_done $? left/status.json

lost() { # NAME, PART of the path, CALL: the run ends, its checkpoints are there, and it says what is lost: 74
    ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 LD_PRELOAD=$shim FAIL_IO_PATH=$2 FAIL_IO_CALLS=$3 FAIL_IO_AT=2 FAIL_IO_STICKY=1 FAIL_IO_ERRNO=28 \
        "$excon" train check.yaml --set run.dir="lost-$1" >"$scratch/out" 2>"$scratch/error"
    [ $? = 74 ] && [ -s "lost-$1/checkpoints/last.h5" ] && [ "$(grep -c 'record is lost: .*No space left' "$scratch/error")" = 1 ] &&
        grep -q 'excon: trained to the end and saved, but records of it are lost: ' "$scratch/error"
    check "lost.$1" $? "$scratch/error"
}
lost metrics metrics.jsonl write
lost events tfevents write
lost status status.json.tmp create
"$excon" digest lost-metrics/checkpoints/last.h5 >one && "$excon" digest lost-events/checkpoints/last.h5 >two && cmp -s one two
check lost.same_result $?
