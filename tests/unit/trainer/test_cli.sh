#!/usr/bin/env bash
# The command line: exit codes and messages of the front door, the same with and without mpirun.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh

echo 1..27
says no_command 64 'excon: no command given' "$excon"
says unknown_command 64 "unknown command 'porbe'; did you mean 'probe'?" "$excon" porbe
says unknown_option 64 'probe: unknown option --chekpoint; did you mean --checkpoint?' "$excon" probe --chekpoint=x
says missing_argument 64 'usage: excon probe' "$excon" probe
says version 0 ', revision ' "$excon" --version
version=$("$excon" --version | sed -nE 's/^excon ([0-9]+\.[0-9]+\.[0-9]+), .*/\1/p')
[ -n "$version" ] && grep -q "^## $version\b" CHANGELOG.md && grep -qx "version: $version" CITATION.cff
check one_version $?
says help 0 'Exit codes: 0 done' "$excon" help
says help_config 0 'optim.lr' "$excon" help config
says command_help 0 '--set key=value' "$excon" probe --help
says dash_h 0 'Exit codes: 0 done' "$excon" -h
says help_unknown 64 "unknown command 'trian'; did you mean 'train'?" "$excon" help trian
says help_surplus 64 'usage: excon help [config|COMMAND]' "$excon" help train eval
# shellcheck disable=SC2016 # the inner shell expands it
for command in train check eval import inspect digest probe bench; do
    says "help_$command" 0 "usage: excon $command " bash -c '"$0" help "$1" && "$0" "$1" -h && [ "$("$0" help "$1")" = "$("$0" "$1" --help)" ]' \
        "$excon" "$command"
done

# shellcheck disable=SC2016 # the inner shell expands it
says help_fits_80_columns 0 'usage: excon probe' bash -c 'output=$("$0" help; for command in train check eval import inspect digest probe bench; do
    "$0" help $command; done); echo "$output"; ! grep -E "^.{80}" <<<"$output"' "$excon"

# Of several ranks one speaks, also of what is found before MPI runs.
once() { # NAME, EXIT STATUS, PART that the output holds in one line only, COMMAND...
    local name=$1 want=$2 part=$3
    shift 3
    # shellcheck disable=SC2016 # the inner shell expands it
    says "$name" "$want" "$part" bash -c 'part=$1; shift; output=$("$@" 2>&1); code=$?; grep -F -- "$part" <<<"$output"
        [ "$(grep -cF -- "$part" <<<"$output")" = 1 ] || exit 1; exit $code' once "$part" "${MPIRUN:-mpirun}" -n 2 "$@"
}
once through_mpirun 64 "unknown command 'porbe'" "$excon" porbe
once wrong_key_once 78 "unknown key 'optim.learning_rate'" "$excon" train configs/demo.yaml --set optim.learning_rate=1
once wrong_option_once 64 'unknown option --batch' "$excon" bench step --batch_size=1
once help_once 0 'usage: excon train' "$excon" train --help
once missing_file_once 66 'absent.yaml' "$excon" eval absent.yaml
# shellcheck disable=SC2016 # the inner shell expands it
once one_rank_fails 78 "unknown key 'sed'" bash -c '"$0" train configs/demo.yaml --set data.dir=absent --set $([ "$OMPI_COMM_WORLD_RANK" = 0 ] && echo seed || echo sed)=1' "$excon"
