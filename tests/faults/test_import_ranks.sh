#!/usr/bin/env bash
# Several importers of one folder: ranks of mpirun import once, and say once what is wrong; of two programs the second is
# refused, and says who holds the folder.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh

echo 1..7
cd "$scratch" || exit 70
small=(--classes 4 --size 16 --train-per-class 40 --val-per-class 8)
"$excon" import synthetic alone "${small[@]}" >out 2>&1
check alone $? out
"$mpirun" -n 2 "$excon" import synthetic both "${small[@]}" >out 2>error
check ranks $? error
[ "$(grep -c '160 train and 32 val images' out)" = 1 ]
check ranks.one_result $? out
for file in alone/*.h5; do cmp "$file" "both/${file#alone/}" || touch differs; done >out 2>&1
[ ! -e differs ] && [ "$(ls alone)" = "$(ls both)" ]
check ranks.same_files $? out
"$mpirun" -n 2 "$excon" import synthetic both --classes 3 >out 2>error
[ $? = 73 ] && [ "$(grep -c 'already holds another dataset' error)" = 1 ]
check ranks.one_refusal $? error

"$excon" import synthetic long --classes 20 --train-per-class 100000 >first 2>&1 &
job=$!
for _ in $(seq 300); do if [ -s long/import.lock ]; then break; fi; sleep 0.02; done
timeout 20 "$excon" import synthetic long --classes 20 --train-per-class 100000 >out 2>error
[ $? = 73 ] && grep -q "long/import.lock is held by process $job on " error
check second.names_the_holder $? error
running
check first.goes_on $? first
end_job
