#!/usr/bin/env bash
# The record of an epoch is of the whole epoch: its losses are the means of its steps' records, of the encoder's pass and of
# the classifier's each, and stopping within it, in either pass, changes nothing.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/runs.sh

echo 1..6
make_data
settings() { # METHOD, PROFILE
    printf 'method: %s\nprofile: %s\ntrain: {epochs: 2, batch: 16, log_every: 1}\n' "$1" "$2"
    printf 'optim: {lr: 0.05}\neval: {every_epochs: 0}\n'
}

# Each epoch record against the step records before it. Numbers have nine digits or more.
records_agree() { # NAME, STEPS of an epoch
    "${PYTHON:-python3}" - "$scratch/$1/run/metrics.jsonl" "$2" <<'END'
import json, sys
steps, epochs = [], 0
for line in open(sys.argv[1]):
    record = json.loads(line)
    if record["event"] == "step":
        steps.append(record)
    elif record["event"] == "epoch":
        for key in "loss", "classifier_loss":
            values = [step[key] for step in steps if key in step]
            if values:
                mean = sum(values) / len(values)
                assert abs(record[key] - mean) <= 1e-6 * abs(mean), (record["epoch"], key, record[key], mean)
        assert record["steps"] == len(steps) == int(sys.argv[2]), (record["steps"], len(steps))
        assert record["background"] == sum(step["background"] for step in steps), record
        steps, epochs = [], epochs + 1
assert epochs == 2, epochs
END
}

# What an epoch's record says, but for how fast it went.
epochs_of() { # NAME
    sed -n '/"event":"epoch"/s/"images_per_s":[^,]*,//p' "$scratch/$1/run/metrics.jsonl"
}

tried() { # NAME, METHOD, PROFILE, STEPS of an epoch, stops
    local name=$1 method=$2 profile=$3 steps=$4 stop status=0
    shift 4
    settings "$method" "$profile" | make_run "$name"
    settings "$method" "$profile" | make_run "$name-stopped"
    train "$name" 2
    check "$name.trains" $? "$scratch/$name/log"
    records_agree "$name" "$steps" >"$scratch/$name/why" 2>&1
    check "$name.epochs_are_means_of_steps" $? "$scratch/$name/why"
    for stop in "$@" 0; do
        train "$name-stopped" 2 --set "train.max_steps=$stop" || status=1
    done
    [ $status = 0 ] && diff <(epochs_of "$name") <(epochs_of "$name-stopped") >"$scratch/diff"
    check "$name.stops_change_no_record" $? "$scratch/diff"
}

tried alternate exconb official 20 4 13 27 # 10 steps for the encoder, 10 for the classifier
tried joint excon recommended 9 2 11       # a tenth is held out
