#!/usr/bin/env bash
# The guard against NaN and Inf. lr 100 with weight decay 1 multiplies every weight by -99 in each step, so numbers leave
# float within ten steps: the steps are skipped, then the run returns to the last checkpoint from before, then it ends
# with 80 on all ranks.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh

echo 1..13
make_data
settings() {
    printf 'method: excon\ntrain: {epochs: 20, batch: 16, log_every: 1}\neval: {every_epochs: 0}\n'
    printf 'optim: {lr: 100, weight_decay: 1, schedule: constant}\ncheckpoint: {every_steps: 2}\nguard: {skip_max: 4, rollback_max: 2}\n'
}
settings | make_run diverging
train diverging 2
[ $? = 80 ]
check exits_80 $? "$scratch/diverging/log"
log=$scratch/diverging/run/logs/rank-0000.log
decisions() { sed -nE 's/^[^ ]+ ((step [0-9]+ skipped|rolled back|saved step|failed).*)/\1/p' "$scratch/diverging/run/logs/rank-000$1.log"; }
diff <(decisions 0) <(decisions 1) >"$scratch/diff"
check ranks_decide_alike $? "$scratch/diff"
tail -n 1 "$scratch/diverging/run/logs/rank-0001.log" | grep -q 'failed: training diverged: 5 steps in a row'
check every_rank_says_why $? "$log"
first=$(sed -nE 's/.* step ([0-9]+) skipped.*/\1/p' "$log" | head -n 1)
good=$(((first - 1) / 2 * 2))
[ "$(grep -c 'rolled back' "$log")" = 2 ] && [ "$(grep -c "rolled back from step $((first + 4)) to step $good\$" "$log")" = 2 ]
check rolls_back_to_before $? "$log"
[ "$(grep -c skipped "$log")" = 15 ]
check skips_then_rolls_back $? "$log"
each_step_once diverging $((first + 4))
check each_step_once $? "$scratch/diverging/run/metrics.jsonl"
[ "$(basename "$(readlink "$(checkpoint diverging)")")" = "$(printf 'step-%08d.h5' "$good")" ]
check no_checkpoint_while_skipping $? "$log"
grep -q "\"loss\":null.*\"skipped\":1" "$scratch/diverging/run/metrics.jsonl"
check skips_are_recorded $? "$scratch/diverging/run/metrics.jsonl"

# The same whichever way the images take: a rollback drops what was on its way.
for path in stream memory device; do
    settings | make_run "by-$path"
    train "by-$path" 2 --set "data.loader=$path"
    [ $? = 80 ] && diff <(sed -nE 's/.*(step [0-9]+ skipped|rolled back.*)/\1/p' "$log") \
        <(sed -nE 's/.*(step [0-9]+ skipped|rolled back.*)/\1/p' "$scratch/by-$path/run/logs/rank-0000.log") >"$scratch/diff"
    check "rolls_back_alike_$path" $? "$scratch/diff"
done

# Without a rollback to spare, and without an end to skipping.
settings | make_run stops
train stops 2 --set guard.rollback_max=0 --set guard.skip_max=0
[ $? = 80 ] && [ "$(last_step stops)" = "$first" ]
check no_rollback.exits_80 $? "$scratch/stops/log"
settings | make_run skips
train skips 2 --set guard.skip_max=1000 --set train.max_steps=$((first + 2)) --set checkpoint.every_steps=1
[ "$(last_step skips)" = $((first + 2)) ] && [ -e "$(checkpoint skips $((first + 2)))" ]
check skipping_goes_on $? "$scratch/skips/log"
