#!/usr/bin/env bash
# Commands that are refused or fail leave outputs as they were, and nothing new behind: probe, eval, import, bench.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
cd "$scratch" || exit 70
echo 1..9
refused() { # NAME, CODE, TEXT, COMMAND...: every file here is as before
    local name=$1 code=$2 text=$3 before after got
    shift 3
    before=$(find . -type f ! -name log -exec sha256sum {} + | sort; find . -type d | sort)
    "$@" >log 2>&1
    got=$?
    after=$(find . -type f ! -name log -exec sha256sum {} + | sort; find . -type d | sort)
    [ $got = "$code" ] && grep -q -- "$text" log && [ "$before" = "$after" ]
    check "$name" $?
}

"$excon" import synthetic data --classes 4 --size 16 --train-per-class 20 --val-per-class 4 >log 2>&1
printf 'method: ce\nrun: {dir: run}\ndata: {dir: data}\nmodel: {encoder: resnet10, width: 4}\ntrain: {epochs: 1, batch: 16}\n' >c.yaml
"$excon" train c.yaml >log 2>&1 && "$excon" eval run --suite accuracy >log 2>&1
check a_run_and_its_evaluation $?

# A shard has labels, which probe reads at its start, and no z.
echo kept >out.h5
refused probe 65 "no dataset 'z'" "$excon" probe supcon data/train-0000.h5 out.h5
refused probe_two_ranks 65 "no dataset 'z'" "$mpirun" --oversubscribe -n 2 "$excon" probe supcon data/train-0000.h5 out.h5
refused probe_new_name 65 "no dataset 'z'" "$excon" probe supcon data/train-0000.h5 new.h5
ln data/train-0000.h5 same.h5
refused probe_over_its_input 64 'must not be overwritten' "$excon" probe supcon data/train-0000.h5 same.h5
refused eval 66 'no such dataset' "$excon" eval run --data nowhere
refused eval_checkpoint 66 'nothing.h5' "$excon" eval run --checkpoint nothing.h5
refused import 73 'already holds another dataset' "$excon" import synthetic data --classes 5
refused train_into_the_dataset 78 'is a dataset folder' "$excon" train c.yaml --set run.dir=data
