#!/usr/bin/env bash
# The test runner counts: passes, failures, skips with their reasons, and programs that end early, late or wrongly.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
tree=$scratch/tree
mkdir -p "$tree/tests/case"
cp tests/run.sh "$tree/tests/run.sh"

echo 1..11
counts() { # NAME, LINE the output must hold, EXIT STATUS, SCRIPT that is the only test program
    local status
    rm -f "$tree"/tests/case/*
    printf '#!/bin/sh\n%s\n' "$4" >"$tree/tests/case/test_one.sh"
    chmod +x "$tree/tests/case/test_one.sh"
    TEST_TIMEOUT=1 "$tree/tests/run.sh" >"$scratch/log" 2>&1
    status=$?
    echo "status $status" >>"$scratch/log"
    [ $status = "$3" ] && grep -qxF "$2" "$scratch/log" && [ "$(grep -c '^excon: ' "$scratch/log")" = 1 ]
    check "$1" $?
}

counts passes 'excon: 2 passed, 0 failed, 0 skipped' 0 'echo 1..2; echo "ok 1 - a"; echo "ok 2 - b"'
counts failure 'excon: 1 passed, 1 failed, 0 skipped' 1 'echo 1..2; echo "ok 1 - a"; echo "not ok 2 - b"; exit 1'
counts early_end 'excon: 1 passed, 2 failed, 0 skipped' 1 'echo 1..3; echo "ok 1 - a"'
counts no_output 'excon: 0 passed, 1 failed, 0 skipped' 1 'exit 0'
counts crash_after_last 'excon: 1 passed, 1 failed, 0 skipped' 1 'echo 1..1; echo "ok 1 - a"; kill -SEGV $$'
counts wrong_status 'excon: 1 passed, 1 failed, 0 skipped' 1 'echo 1..1; echo "ok 1 - a"; exit 3'
counts timeout 'excon: 0 passed, 1 failed, 0 skipped' 1 'echo 1..1; sleep 30'
counts script_skip '  skipped  case/test_one.sh: gpu: none here' 0 'echo 1..1; echo "ok 1 - gpu # SKIP none here"'
counts cmocka_skip '  skipped  case/test_one.sh: gpu: none here' 0 \
    'echo 1..1; echo "skipped: none here"; echo "not ok 1 # SKIP gpu"'
# shellcheck disable=SC2016 # the script expands it
counts early_failure_is_shown '    | why it failed' 1 \
    'echo 1..200; echo "why it failed"; echo "not ok 1 - a"; i=2; while [ $i -le 200 ]; do echo "ok $i - b"; i=$((i + 1)); done; exit 1'

# Stopped from outside: what has been counted so far, and nothing left running.
rm -f "$tree"/tests/case/*
printf '#!/bin/sh\necho 1..3; echo "ok 1 - a"; echo "not ok 2 - b"; echo $$ >"%s/pid"; exec sleep 30\n' "$tree" >"$tree/tests/case/test_one.sh"
printf '#!/bin/sh\necho 1..1; echo "ok 1 - a"\n' >"$tree/tests/case/test_two.sh"
chmod +x "$tree"/tests/case/*.sh
"$tree/tests/run.sh" >"$tree/output" 2>&1 &
runner=$!
while [ ! -s "$tree/pid" ]; do sleep 0.05; done
kill -TERM $runner
wait $runner
status=$?
[ $status = 143 ] && grep -qxF 'excon: 1 passed, 1 failed, 0 skipped' "$tree/output" &&
    grep -qxF '  stopped by signal 15: 2 of 2 programs did not finish' "$tree/output" && ! kill -0 "$(cat "$tree/pid")" 2>/dev/null
check stopped $? "$tree/output"
