#!/usr/bin/env bash
# run.sh [NAME...]   Runs every test program, or those whose name contains one of the NAMEs, and counts.
#
# Programs are the cmocka binaries under $BUILD/tests and the scripts test_*.sh under tests/; both print TAP. One line per
# program, the output of failing ones, the reasons of skips, and at the end "excon: N passed, N failed, N skipped".
# Programs that know EXCON_TEST_BACKEND or EXCON_BACKEND run once more, as simt/NAME, on the CUDA backend compiled for the
# stand-in GPU of tests/simt; with GPU=1 instead as gpu/NAME, on the real backend and device.
# A program that ends early, crashes or exceeds TEST_TIMEOUT seconds counts its missing results as failed (at least one).
# On SIGTERM, SIGINT or SIGHUP the running program is ended too, what has been counted is printed, with the number of programs
# that did not finish, and the exit status is that of the signal.
# GOLDEN=FOLDER restricts golden and rank cases to the files of that folder (tests/golden).
# cmocka 1.1.5 writes a skip as "not ok N # SKIP name" after the test's own message, which is the reason.
set -uo pipefail
shopt -s globstar nullglob
cd "$(dirname "$0")/.." || exit 70

BUILD=${BUILD:-build}
limit=${TEST_TIMEOUT:-600}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/excon-test.XXXXXX") || exit 73
trap 'rm -rf "$scratch"' EXIT

export EXCON=${EXCON:-$BUILD/excon} MPIRUN=${MPIRUN:-mpirun} PYTHON=${PYTHON:-python3} TMPDIR=$scratch/tmp
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} CMOCKA_MESSAGE_OUTPUT=TAP
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe # the same to Open MPI 5
# intercept_tls_get_addr: gcc 12's search for leaks misreads this glibc's thread-local blocks of loaded libraries and crashes.
export LSAN_OPTIONS=suppressions=$PWD/tests/sanitize/leaks.supp:print_suppressions=0:intercept_tls_get_addr=0

# Lines of "variant path"; variant: cpu, simt or gpu.
programs() {
    local source cuda=simt
    [ "${GPU:-0}" = 1 ] && cuda=gpu
    for source in tests/**/test_*.c; do
        case $source in
        tests/simt/*) echo "$cuda $BUILD/${source%.c}" ;;
        *) echo "cpu $BUILD/${source%.c}" ;;
        esac
    done
    for source in tests/**/test_*.sh; do
        case $source in
        tests/simt/*) echo "$cuda $source" ;;
        *) echo "cpu $source" ;;
        esac
    done
    grep -lE 'device_fixture|programs/(probe|rank_device)|EXCON_TEST_BACKEND' tests/**/test_*.c | while IFS= read -r source; do
        case $source in
        tests/simt/*) ;;
        *) echo "$cuda $BUILD/${source%.c}" ;;
        esac
    done
}

# run_program VARIANT PATH   with the environment of the variant
run_program() {
    local library=$BUILD/simt/libexcon_cuda.so transport=auto
    if [ "$1" = cpu ]; then
        wait_for timeout -k 10 "$limit" "./$2"
        return
    fi
    if [ "$1" = gpu ]; then # ranks may have to share a device; test_collectives tries NCCL where there are enough
        library=$BUILD/libexcon_cuda.so transport=mpi
    fi
    wait_for env EXCON_CUDA_LIBRARY="$PWD/$library" EXCON_TEST_BACKEND=cuda EXCON_BACKEND=cuda \
        EXCON_SIMT_DEVICES="${EXCON_SIMT_DEVICES:-8}" EXCON_TEST_RANKS=2 EXCON_TRANSPORT="${EXCON_TRANSPORT:-$transport}" \
        timeout -k 10 "$limit" "./$2"
}

# Runs a command so that a signal to this script is not kept waiting. Job control, for a moment: without it the command
# would ignore SIGINT.
running='' signal=0
wait_for() {
    local code
    [ $signal = 0 ] || return
    set -m
    "$@" &
    running=$!
    set +m
    wait "$running"
    code=$?
    [ $signal = 0 ] || wait "$running" # a trap ends the first wait early
    running=
    return $code
}
stop() { # NUMBER
    signal=$1
    [ -z "$running" ] || kill -TERM "$running" 2>/dev/null # a timeout, which passes it on
}
trap 'stop 15' TERM
trap 'stop 2' INT
trap 'stop 1' HUP

# count_results LOG [1: missing results do not count]   Reads TAP; writes "passed failed skipped" and then one line "name: reason" per skip.
count_results() {
    awk -v stopped="${2:-0}" '
        function skipped(name, reason) { skips++; why = why name (reason == "" ? "" : ": " reason) "\n" }
        /^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; planned = 1; next }
        /^(not )?ok( |$)/ {
            seen++
            if (match($0, /# *[Ss][Kk][Ii][Pp]/)) {
                after = substr($0, RSTART + RLENGTH); gsub(/^[ :-]+/, "", after)
                before = substr($0, 1, RSTART - 1); sub(/^(not )?ok *[0-9]*[ -]*/, "", before); gsub(/ +$/, "", before)
                if (before == "") skipped(after, said); else skipped(before, after)
            } else if ($1 == "ok") passed++
            else failed++
            said = ""
            next
        }
        /^#/ { next }
        NF { said = $0; sub(/^ *skipped: */, "", said) }
        END {
            missing = planned ? plan - seen : (seen ? 0 : 1)
            if (missing > 0 && !stopped) failed += missing
            printf "%d %d %d\n%s", passed, failed, skips, why
        }' "$1"
}

# What failing results of a TAP log have to say (what stands before them since the last result, and the # lines after), and
# the end of the log, where a crash would show.
show_failures() {
    awk '
        /^ok|^not ok/ { bad = $1 == "not" && !/# *[Ss][Kk][Ii][Pp]/; if (bad) printf "%s%s\n", said, $0; said = ""; next }
        /^#/ { if (bad) print; next }
        { said = said $0 "\n" }
    ' "$1" | head -n 200
    echo "... and at its end:"
    tail -n 20 "$1"
}

# Lines of "variant path name" for the programs that are asked for.
chosen() {
    local variant program name part
    while read -r variant program; do
        name=${program#"$BUILD"/}
        name=${name#tests/}
        [ "$variant" = cpu ] || name=$variant/${name#simt/}
        [ $# -gt 0 ] || echo "$variant $program $name"
        for part in "$@"; do
            if [[ $name == *"$part"* ]]; then
                echo "$variant $program $name"
                break
            fi
        done
    done < <(programs)
}

passed=0 failed=0 skipped=0 finished=0
mapfile -t list < <(chosen "$@")
if [ ${#list[@]} = 0 ]; then
    echo "excon: no test program is named like: $*" >&2
    exit 64
fi
: >"$scratch/skips"
for line in "${list[@]}"; do
    [ $signal = 0 ] || break
    read -r variant program name <<<"$line"
    log=$scratch/log
    rm -rf "$TMPDIR"
    mkdir -p "$TMPDIR"
    start=$(date +%s.%N)
    run_program "$variant" "$program" >"$log" 2>&1 </dev/null
    code=$?
    seconds=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    count_results "$log" $((signal != 0)) >"$scratch/counts"
    read -r good bad skips <"$scratch/counts"
    note=
    if [ $signal != 0 ]; then
        note="  stopped"
    elif [ $code = 124 ] || { [ $code = 137 ] && [ "$bad" -gt 0 ]; }; then
        note="  ended after $limit s (TEST_TIMEOUT) or killed"
    elif [ $code -ge 128 ]; then
        note="  ended by signal $((code - 128))"
    elif [ $code != 0 ] && [ "$bad" = 0 ]; then
        note="  exit status $code though no test failed"
    fi
    if [ -n "$note" ] && [ "$bad" = 0 ] && [ $signal = 0 ]; then bad=1; fi
    printf '  %-36s %4d passed %3d failed %3d skipped %7s s%s\n' "$name" "$good" "$bad" "$skips" "$seconds" "$note"
    if [ "$bad" -gt 0 ]; then show_failures "$log" | sed 's/^/    | /'; fi
    tail -n +2 "$scratch/counts" | sed "s|^|$name: |" >>"$scratch/skips"
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skips))
    [ $signal != 0 ] || finished=$((finished + 1))
done

sed 's/^/  skipped  /' "$scratch/skips"
[ $signal = 0 ] || echo "  stopped by signal $signal: $((${#list[@]} - finished)) of ${#list[@]} programs did not finish"
echo "excon: $passed passed, $failed failed, $skipped skipped"
[ $signal = 0 ] || exit $((128 + signal))
[ $failed = 0 ]
