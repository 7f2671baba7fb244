#!/usr/bin/env bash
# The command line: exit codes and messages of the front door, the same with and without mpirun.
set -uo pipefail
excon=${EXCON:-build/excon}

echo 1..9
number=0
check() { # NAME, EXIT STATUS, PART of the output, COMMAND...
    local name=$1 want=$2 part=$3 output status
    shift 3
    number=$((number + 1))
    output=$("$@" 2>&1)
    status=$?
    if [ "$status" = "$want" ] && grep -qF -- "$part" <<<"$output"; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
        printf '# wanted status %s and "%s"; got status %s and:\n%s\n' "$want" "$part" "$status" "$output" | sed 's/^/# /'
    fi
}

check no_command 64 'excon: no command given' "$excon"
check unknown_command 64 "unknown command 'porbe'; did you mean 'probe'?" "$excon" porbe
check unknown_option 64 'probe: unknown option --chekpoint; did you mean --checkpoint?' "$excon" probe --chekpoint=x
check missing_argument 64 'usage: excon probe' "$excon" probe
check version 0 'excon ' "$excon" --version
check help 0 'Exit codes: 0 done' "$excon" help
check help_config 0 'optim.lr' "$excon" help config
check command_help 0 '--set key=value' "$excon" probe --help
check through_mpirun 64 "unknown command 'porbe'" "${MPIRUN:-mpirun}" -n 2 "$excon" porbe
