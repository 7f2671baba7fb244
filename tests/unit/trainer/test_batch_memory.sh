#!/usr/bin/env bash
# A batch larger than the data set is one batch of all its images: the same training, in the same memory.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/runs.sh

echo 1..9
make_data
limit=4000000 # kilobytes of address space, which millions of rows would pass; a build for sanitizers needs more from the start
(ulimit -v $limit && "$excon" --version) >"$scratch/out" 2>&1 || limit=unlimited
memory() { sed -nE 's/^(host|device) memory (.*) \| run folder.*/\2/p' "$scratch/$1/log"; }
limited() { (ulimit -v $limit && "$@"); }

for method in supcon exconb; do
    for batch in 144 1048576; do
        printf 'method: %s\ntrain: {epochs: 2, batch: %s}\noptim: {warmup: off}\n' $method $batch | make_run $method$batch
        limited train $method$batch 1 --set eval.batch=1048576
        check $method.$batch $? "$scratch/$method$batch/log"
    done
    [ -n "$(memory ${method}144)" ] && [ "$(memory ${method}144)" = "$(memory ${method}1048576)" ]
    check $method.same_memory $? "$scratch/${method}1048576/log"
    digest=$("$excon" digest "$(checkpoint ${method}144)") && [ "$digest" = "$("$excon" digest "$(checkpoint ${method}1048576)")" ]
    check $method.same_training $?
done
(cd "$scratch/supcon144" && limited "$excon" eval run --set eval.batch=1048576) >"$scratch/out" 2>&1
check eval $? "$scratch/out"
