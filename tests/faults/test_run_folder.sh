#!/usr/bin/env bash
# A run folder in strange hands: copied in part, through tools and file systems that know no links, moved, asked for
# another run. It is resumed from or refused, its best model is never lost, and what is refused changes nothing.
# shellcheck disable=SC2016,SC2088 # ~ and $ are to reach the program and eval
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh
preload=${BUILD:-build}/tests/faults/fail_io.so
[ -e "$preload" ] && preload=$(realpath "$preload")

echo 1..35
make_data
settings() { printf 'method: supcon\ntrain: {epochs: 3, batch: 16, log_every: 1}\noptim: {lr: 0.02}\n'; }
settings | make_run whole
train whole 1
cp -r "$scratch/whole" "$scratch/kept"
best=$("$excon" digest "$scratch/kept/run/checkpoints/best.h5") last=$("$excon" digest "$(checkpoint kept)")
digest() { "$excon" digest "$scratch/$1/run/checkpoints/$2.h5"; }

# ---- partial copies, as real files ----
part() { # NAME, TEST, COMMAND that changes checkpoints/: the run goes on from its end, and best.h5 is what it was
    rm -rf "${scratch:?}/$1"
    cp -r "$scratch/kept" "$scratch/$1"
    (cd "$scratch/$1/run/checkpoints" && eval "$3")
    train "$1" 1 --set train.epochs=4 && grep -q 'resumed from step 27' "$scratch/$1/log"
    check "$2.goes_on" $? "$scratch/$1/log"
    [ "$(digest "$1" best)" = "$best" ] || [ "$(sed -nE 's/.*"event":"epoch","epoch":4.*"top1":([^,]*),.*"best":([^,]*).*/\1 \2/p' \
        "$scratch/$1/run/metrics.jsonl" | awk '{ print $1 == $2 }')" = 1 ]
    check "$2.best_is_kept" $?
}
part part last_and_best_only 'cp -L last.h5 l; cp -L best.h5 b; rm -f *.h5 *.json; mv l last.h5; mv b best.h5'
part part copied_without_links 'for f in last best; do cp -L $f.h5 $f; rm $f.h5; mv $f $f.h5; done'
part part links_became_text 'for f in last best; do t=$(readlink $f.h5); rm $f.h5; printf %s "$t" >$f.h5; done'
part part names_lost 'rm last.h5 best.h5 manifest.json'
evaluate() { (cd "$scratch/$1" && "$excon" eval run --suite accuracy) >"$scratch/log" 2>&1; }
evaluate part
check names_lost.evaluates $? "$scratch/log"

unchanged() { (cd "$scratch/$1/run" && find . -type f ! -name '*.log' -exec sha256sum {} + && find . -type d -o -type l | sort); }
refused() { # NAME, TEST, CODE, TEXT, ARGUMENT...: nothing in the folder, its logs included, differs afterwards
    local name=$1 test=$2 code=$3 text=$4 before after
    shift 4
    before=$(unchanged "$name" && ls "$scratch/$name/run/logs" && cat "$scratch/$name"/run/logs/*.log)
    train "$name" "${RANKS:-1}" "$@"
    local got=$?
    after=$(unchanged "$name" && ls "$scratch/$name/run/logs" && cat "$scratch/$name"/run/logs/*.log)
    [ $got = "$code" ] && grep -q -- "$text" "$scratch/$name/log" && [ "$before" = "$after" ]
    check "$test" $? "$scratch/$name/log"
}

# Nothing to go on from, but traces of training: never silently from the seed.
cp -r "$scratch/kept" "$scratch/links"
rm "$scratch"/links/run/checkpoints/step-*.h5
refused links only_links_left 65 'held checkpoints'
cp -r "$scratch/kept" "$scratch/empty"
rm -r "$scratch/empty/run/checkpoints"
refused empty only_metrics_left 65 'holds records up to step 27'

# No symbolic links, and no hard links either: trains, resumes, evaluates.
if [ -e "$preload" ]; then
    settings | make_run nolinks
    (
        export LD_PRELOAD=$preload FAIL_IO_PATH=run/checkpoints FAIL_IO_CALLS=symlink,link FAIL_IO_AT=1 FAIL_IO_ERRNO=1 FAIL_IO_STICKY=1
        cd "$scratch/nolinks" && "$excon" train config.yaml --set train.max_steps=13 && "$excon" train config.yaml
    ) >"$scratch/nolinks/log" 2>&1
    check no_links.trains $? "$scratch/nolinks/log"
    [ ! -L "$(checkpoint nolinks)" ] && [ "$(digest nolinks best)" = "$best" ] && [ "$(digest nolinks last)" = "$last" ] &&
        evaluate nolinks
    check no_links.same_checkpoints $? "$scratch/log"
else
    skip "$preload is not built" no_links.trains
    skip "$preload is not built" no_links.same_checkpoints
fi

# ---- what does not belong together, and refusals that change nothing ----
"$excon" import synthetic "$scratch/other" --classes 4 --size 16 --train-per-class 40 --val-per-class 8 --seed 2 >/dev/null 2>&1
again() { refused whole "$@"; }
again second_seed 78 'run was trained with seed 1, you ask for 2: choose another run.dir' --set seed=2
RANKS=2 again second_seed_two_ranks 78 'seed 1, you ask for 2' --set seed=2
again other_method 78 'method supcon, you ask for ce' --set method=ce
again other_width 78 'model.width 4, you ask for 8' --set model.width=8
again other_temperature 78 'loss.temperature 0.1, you ask for 0.2' --set loss.temperature=0.2 --set train.epochs=5
again other_holdout 78 'data.holdout 0.1, you ask for 0.2' --set data.holdout=0.2
again other_profile 78 'profile recommended, you ask for official' --set profile=official --set data.holdout=0.1
again other_images 65 'another dataset' --set "data.dir=$scratch/other"
again no_data 66 'no such dataset' --set data.dir=/nonexistent
again finished_says_so 0 'nothing to do: run is finished (3 epochs, step 27, best top-1'
(cd "$scratch/whole" && "$excon" check config.yaml --set seed=2) >"$scratch/log" 2>&1
[ $? = 78 ] && grep -q 'seed 1, you ask for 2' "$scratch/log"
check check_tells_beforehand $? "$scratch/log"
settings | make_run fresh
(cd "$scratch/fresh" && "$excon" train config.yaml --set run.dir=a/b/c --set data.dir=/nonexistent) >"$scratch/log" 2>&1
[ $? = 66 ] && [ "$(ls "$scratch/fresh")" = config.yaml ]
check refused_makes_no_folder $? "$scratch/log"
train whole 1 --set optim.lr=0.01 --set train.epochs=4 && grep -q 'other settings: train.epochs 3 -> 4, optim.lr 0.02 -> 0.01' "$scratch/whole/log"
check other_keys_are_said $? "$scratch/whole/log"

# The cursor counts batches: within an epoch their size stays.
settings | make_run middle
train middle 1 --set train.max_steps=4
refused middle batch_within_epoch 78 'train.batch 16, you ask for 8; then images would be seen twice' --set train.batch=8
train whole 1 --set train.epochs=5 --set train.batch=8 && grep -q 'train.batch 16 -> 8' "$scratch/whole/log" &&
    [ "$(last_step whole)" = 54 ]
check batch_between_epochs $? "$scratch/whole/log"

# ---- a preflight leaves nothing behind, on several ranks too ----
touch "$scratch/before"
(cd "$scratch/fresh" && "$mpirun" -n 2 "$excon" check config.yaml) >"$scratch/log" 2>&1 &&
    [ "$(grep -c 'one step: good' "$scratch/log")" = 1 ] && [ "$(ls "$scratch/fresh")" = config.yaml ] &&
    ! find /tmp -maxdepth 1 -name 'excon-check-*' -newer "$scratch/before" | grep -q .
check check_on_two_ranks $? "$scratch/log"

# ---- paths ----
mkdir "$scratch/home"
(cd "$scratch/fresh" && HOME=$scratch/home "$excon" train config.yaml --set 'run.dir=~/runs/{method}-{seed}-{optim.lr}' --set train.epochs=0) >"$scratch/log" 2>&1 &&
    [ -e "$scratch/home/runs/supcon-1-0.02/checkpoints/last.h5" ] && [ "$(ls "$scratch/fresh")" = config.yaml ]
check home_and_keys_in_run_dir $? "$scratch/log"
(cd "$scratch/fresh" && HOME=$scratch/home "$excon" eval '~/runs/supcon-1-0.02' --suite accuracy) >"$scratch/log" 2>&1
check home_on_the_command_line $? "$scratch/log"
(cd "$scratch/fresh" && "$excon" train config.yaml --set 'run.dir=runs/{sead}') >"$scratch/log" 2>&1
[ $? = 78 ] && grep -q "did you mean '{seed}'" "$scratch/log"
check unknown_key_in_run_dir $? "$scratch/log"
(cd "$scratch/fresh" && "$excon" train '~nobody/config.yaml') >"$scratch/log" 2>&1
[ $? = 64 ]
check other_home $? "$scratch/log"
mv "$scratch/kept/run" "$scratch/kept/moved"
(cd "$scratch/kept" && "$excon" train moved/config.yaml) >"$scratch/log" 2>&1
[ $? = 78 ] && grep -q 'add --set run.dir=moved' "$scratch/log" && [ ! -e "$scratch/kept/run" ]
check moved_folder $? "$scratch/log"
(cd "$scratch/kept" && "$excon" train moved/config.yaml --set run.dir=moved --set train.epochs=4) >"$scratch/log" 2>&1 &&
    grep -q 'resumed from step 27' "$scratch/log"
check moved_folder_goes_on $? "$scratch/log"
