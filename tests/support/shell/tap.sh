# shellcheck shell=bash disable=SC2034 # those who source it use them
# Sourced by the shell tests, from the top folder: the programs, a temporary folder, and results as TAP.
set -uo pipefail
build=${BUILD:-build} python=${PYTHON:-python3} mpirun=${MPIRUN:-mpirun}
excon=$(realpath "${EXCON:-$build/excon}")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe # the same to Open MPI 5
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
number=0

check() { # NAME, STATUS of the condition, [FILE to show when it failed; $scratch/log without one]
    local file=${3:-$scratch/log}
    number=$((number + 1))
    if [ "$2" = 0 ]; then
        echo "ok $number - $1"
        return
    fi
    echo "not ok $number - $1"
    if [ -f "$file" ]; then tail -n 25 "$file" | cut -c1-300 | sed 's/^/# /'; fi
}

says() { # NAME, EXIT STATUS, PART of the output, COMMAND...
    local name=$1 want=$2 part=$3 status
    shift 3
    "$@" >"$scratch/output" 2>&1
    status=$?
    [ "$status" = "$want" ] && grep -qF -- "$part" "$scratch/output"
    local held=$?
    echo "wanted status $want and '$part'; got status $status" >>"$scratch/output"
    check "$name" $held "$scratch/output"
}

skip() { # REASON, NAME...
    local reason=$1 name
    shift
    for name in "$@"; do
        number=$((number + 1))
        echo "ok $number - $name # SKIP $reason"
    done
}

value() { sed -nE "s/.*\"$2\":\"?([^\",}]*).*/\1/p" "$1"; } # FILE, KEY: in each line
