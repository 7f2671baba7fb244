# shellcheck shell=bash disable=SC2034,SC2154 # gpu_check.sh and its parts share their variables
# Sourced by gpu_check.sh: commands within their time, counted results, and what is kept of them: every result is in
# $out/gpu-check.json before the next begins, and after every stage all of it is in one tar.

TAR_MOST=${TAR_MOST:-15000000} # bytes

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }
left() { echo $((budget - SECONDS)); }
# As the inside of a JSON string.
json_text() { printf '%s' "$*" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }
# As a file name.
file_name() { printf '%s' "${*//[^A-Za-z0-9._-]/-}"; }

# ---- counting -------------------------------------------------------------------------------------------------------

stage='' passed=0 failed=0 skipped=0 reason='' begun=0
passed_all=0 failed_all=0 skipped_all=0
add_reason() { [[ $reason == *"$*"* ]] || reason="${reason:+$reason; }$*"; }
pass() { passed=$((passed + 1)) && echo "  ok       $*" && keep_stage; }
fail() { failed=$((failed + 1)) && add_reason "$*" && echo "  FAILED   $*" && keep_stage; }
skip() { skipped=$((skipped + 1)) && add_reason "$*" && echo "  skipped  $*" && keep_stage; }
later() { # NAME: for the next call
    skipped=$((skipped + 1)) && echo "  skipped  $*: no time left in this call: call again"
    add_reason "no time left in this call: call again"
    keep_stage
}

# keep_stage [STATUS]   the stage's counts so far; unfinished until it says another status
keep_stage() {
    [ "$dry" = 0 ] && [ -n "$stage" ] || return 0
    printf '{"stage":"%s","short":%s,"date":"%s","seconds":%d,"status":"%s","passed":%d,"failed":%d,"skipped":%d,"reason":"%s"}\n' \
        "$stage" "$([ -n "$short" ] && echo true || echo false)" "$(now)" $((SECONDS - begun)) "${1:-unfinished}" \
        "$passed" "$failed" "$skipped" "$(json_text "$reason")" >"$out/stages/$stage.json"
    write_json
}

run_stage() { # NAME
    local status
    stage=$1 passed=0 failed=0 skipped=0 reason='' begun=$SECONDS
    echo "== $stage"
    keep_stage
    "stage_$stage"
    status=passed
    [ "$skipped" = 0 ] || [ "$passed" != 0 ] || status=skipped
    [ "$failed" = 0 ] || status=failed
    end_stage $status
    pack
}

end_stage() { # STATUS
    keep_stage "$1"
    passed_all=$((passed_all + passed)) failed_all=$((failed_all + failed)) skipped_all=$((skipped_all + skipped))
    stage=
}

# ---- commands -------------------------------------------------------------------------------------------------------

# run NAME LIMIT COMMAND...   with its output in a log; 124 when LIMIT or the budget ended it, 125 when none was left
log='' child=''
run() {
    local name=$1 limit=$2 code
    shift 2
    log=$out/logs/$stage-$(file_name "$name").log
    if [ "$dry" = 1 ]; then
        printf '  [%4d s] %s\n' "$limit" "$(printf '%q ' "$@")"
        return 0
    fi
    [ "$limit" -le "$(left)" ] || limit=$(left)
    [ "$limit" -ge 3 ] || return 125
    echo "+ $*" >"$log"
    set -m # its own process group, and SIGINT not ignored
    timeout -k 5 "$limit" "$@" >>"$log" 2>&1 </dev/null &
    child=$!
    set +m
    wait "$child"
    code=$?
    child=
    [ "$code" != 137 ] || code=124
    return "$code"
}

# why CODE   what a run that ended with CODE has to say
why() {
    case $1 in
    124) echo "out of time" ;;
    *) echo "exit $1: $(grep -v '^+ ' "$log" | grep . | tail -n 1 | cut -c1-200)" ;;
    esac
}

# check NAME LIMIT COMMAND...   one counted result
check() {
    local code
    run "$@"
    code=$?
    case "$code" in
    0) [ "$dry" = 1 ] || pass "$1" ;;
    125) later "$1" ;;
    *) fail "$1: $(why "$code")" ;;
    esac
    return "$code"
}

# suite NAME LIMIT PART...   tests whose names contain a PART; their own counts, of those that ran when time ended it
suite_name=''
suite() {
    local name=$1 limit=$2 code
    shift 2
    suite_name=$name
    run "$name" "$limit" env GPU="$([ "$mode" = cuda ] && echo 1 || echo 0)" BUILD="$tests_build" TEST_TIMEOUT="$test_timeout" \
        "${in_bundle[@]}" tests/run.sh "$@"
    code=$?
    suite_name=
    [ "$dry" = 0 ] || return 0
    if [ "$code" = 125 ]; then later "$name"; else count_suite "$name" "$code"; fi
}

# count_suite NAME CODE   what the suite that wrote $log came to
count_suite() {
    local name=$1 code=$2 good='' bad left_out rest
    read -r good bad left_out < <(suite_counts "$log")
    [ -n "$good" ] || { fail "$name: $(why "$code")" && return; }
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left_out))
    echo "  $good passed, $bad failed, $left_out skipped  $name"
    if [ "$bad" != 0 ]; then
        grep -E '^  [a-z]+/.* [1-9][0-9]* failed' "$log"
        add_reason "failed: $(awk '/^  [a-z]+\/.* passed / && $4 > 0 { printf "%s%s (%d)", comma, $1, $4; comma = ", " }' "$log")"
    fi
    if [ "$code" = 124 ]; then
        rest=$(sed -n 's/^  stopped by signal [0-9]*: //p' "$log")
        skipped=$((skipped + 1))
        add_reason "$name: out of time, ${rest:-the rest did not finish}"
        echo "  skipped  $name: out of time, ${rest:-the rest did not finish}"
    fi
    keep_stage
}

# suite_counts LOG   "passed failed skipped" of a tests/run.sh: its last line, or, where that is missing, the sum of its
# programs' lines; nothing when there are none
suite_counts() {
    awk '
        /^  [a-z]+\/.* passed .* failed .* skipped / { passed += $2; failed += $4; skipped += $6; programs++ }
        /^excon: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { total = $2 " " $4 " " $6 }
        END { if (total != "") print total; else if (programs) print passed, failed, skipped }' "$1" 2>/dev/null
}

# measure KIND WHO NAME LIMIT COMMAND...   keeps the JSON object in the last line of the output
measure() {
    local kind=$1 who=$2 name=$3 limit=$4 code object file failure=null
    shift 4
    file=$out/runs/$(file_name "$name").json
    if [ "$again" = 0 ] && grep -q "\"revision\":\"$revision\"" "$file" 2>/dev/null && ! grep -q '"failed":"' "$file"; then
        [ "$dry" = 1 ] || pass "$name (measured before)"
        return 0
    fi
    run "$name" "$limit" "$@"
    code=$?
    [ "$dry" = 0 ] || return 0
    object=$(grep '^{.*}$' "$log" 2>/dev/null | tail -n 1)
    if [ "$code" = 125 ]; then
        later "$name"
        return 0
    fi
    if [ "$code" != 0 ] || [ -z "$object" ]; then
        failure="\"$(json_text "$(why "$code")")\"" object=null
    fi
    printf '{"name":"%s","kind":"%s","who":"%s","date":"%s","revision":"%s","gpu":"%s","failed":%s,"result":%s}\n' "$name" \
        "$kind" "$who" "$(now)" "$revision" "$(json_text "$gpu_name")" "$failure" "$object" >"$file"
    # a peer that does not run here (out of memory, say) is no failure of ours
    if [ "$failure" = null ]; then
        pass "$name"
    elif [ "$who" = excon ]; then
        fail "$name: $(why "$code")"
    else
        skip "$name: $(why "$code")"
    fi
}

# ---- what is kept ---------------------------------------------------------------------------------------------------

write_json() {
    local name stages=()
    for name in "${ALL_STAGES[@]}"; do
        [ ! -s "$out/stages/$name.json" ] || stages+=("$out/stages/$name.json")
    done
    {
        printf '{"schema":"excon-gpu-check/2","date":"%s","revision":"%s","mode":"%s","transport":"%s","host":%s,"stages":[' \
            "$(now)" "$revision" "$mode" "${transport:-auto}" "$(cat "$out/host.json")"
        [ ${#stages[@]} = 0 ] || cat "${stages[@]}" | paste -sd, | tr -d '\n'
        printf '],"runs":['
        find "$out/runs" -name '*.json' -size +0 | LC_ALL=C sort | xargs -r -d '\n' cat | paste -sd, | tr -d '\n'
        printf ']}\n'
    } >"$out/gpu-check.json.new" && mv "$out/gpu-check.json.new" "$out/gpu-check.json"
}

# One tar with the JSON, stages, runs and logs. Where it would be too large the largest logs stay behind, which
# left-out.txt names.
pack() {
    local tar=$tar_dir/gpu-check${short:+-$short}.tar.gz leave=0 logs parts
    [ "$dry" = 0 ] || return 0
    rm -f "$out/left-out.txt"
    mapfile -t logs < <(cd "$out" && find logs -type f -printf '%s %p\n' | sort -rn | cut -d' ' -f2-)
    while true; do
        parts=(gpu-check.json host.json stages runs "${logs[@]:leave}")
        [ "$leave" = 0 ] || parts+=(left-out.txt)
        (cd "$out" && tar -czf "$tar.new" "${parts[@]}")
        if [ "$(stat -c %s "$tar.new")" -le "$TAR_MOST" ] || [ $leave = ${#logs[@]} ]; then break; fi
        leave=$((leave + 1))
        printf '%s\n' "${logs[@]:0:leave}" >"$out/left-out.txt"
    done
    [ $leave = 0 ] || echo "  the tar is without the largest $leave logs: $(paste -sd' ' "$out/left-out.txt")"
    mv "$tar.new" "$tar" || echo "gpu_check: no tar in $tar_dir" >&2
}
