#!/usr/bin/env bash
# Evaluation: the same numbers on one rank and on three, recorded where a run keeps its results.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
echo 1..11

"$excon" import synthetic "$scratch/data" --classes 4 --size 16 --train-per-class 40 --val-per-class 25 >/dev/null
cat >"$scratch/run.yaml" <<END
method: excon
data: {dir: $scratch/data, holdout: 0.1}
run: {dir: $scratch/run}
model: {encoder: resnet10, width: 8}
train: {epochs: 2, batch: 32}
optim: {lr: 0.02}
END
"$excon" train "$scratch/run.yaml" >"$scratch/log" 2>&1
check 'a short run' $?

"$excon" eval "$scratch/run" --json >"$scratch/one.json" 2>"$scratch/log"
"$mpirun" -n 3 "$excon" eval "$scratch/run" --json >"$scratch/three.json" 2>>"$scratch/log"
worst=0
for key in count top1 top5 nll brier drop increase gain decrease soft_drop soft_increase soft_gain soft_decrease; do
    a=$(value "$scratch/one.json" $key)
    b=$(value "$scratch/three.json" $key)
    # f32 logits of another batch split differ in the last bits only; a count may not move at all
    awk -v a="$a" -v b="$b" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 1e-5) }' || {
        echo "# $key: $a on one rank, $b on three"
        worst=1
    }
done
check 'one rank and three agree' $worst

top1=$(value "$scratch/one.json" top1)
nll=$(value "$scratch/one.json" nll)
awk -v t="$top1" -v n="$nll" 'BEGIN { exit !(t >= 0 && t <= 1 && n > 0 && n < 20) }' &&
    [ "$(value "$scratch/one.json" count)" = 100 ] && [ -s "$scratch/run/eval.json" ] &&
    grep -q '"event":"eval"' "$scratch/run/metrics.jsonl"
check 'recorded in eval.json and metrics.jsonl' $? "$scratch/one.json"

# A suite measures what it names, and nothing else.
good=1
for suite in accuracy calibration faithfulness soft; do
    "$excon" eval "$scratch/run" --json --suite "$suite" >"$scratch/$suite.json" 2>"$scratch/log" || good=0
done
[ -z "$(value "$scratch/accuracy.json" drop)$(value "$scratch/accuracy.json" soft_drop)" ] || good=0
[ -n "$(value "$scratch/calibration.json" ece)" ] && [ -z "$(value "$scratch/accuracy.json" ece)$(value "$scratch/calibration.json" drop)" ] || good=0
[ -n "$(value "$scratch/faithfulness.json" drop)" ] && [ -z "$(value "$scratch/faithfulness.json" soft_drop)" ] || good=0
[ -z "$(value "$scratch/soft.json" drop)" ] && [ -n "$(value "$scratch/soft.json" soft_drop)" ] || good=0
"$excon" eval "$scratch/run" --suite shap >/dev/null 2>"$scratch/log"
[ $? = 64 ] && grep -q 'accuracy, calibration, faithfulness, soft, all' "$scratch/log" || good=0
[ $good = 1 ]
check suites $?

# eval.json holds what all suites measured of one checkpoint, and nothing of another one.
good=1
rm -f "$scratch/run/eval.json"
for suite in accuracy calibration faithfulness soft accuracy; do
    "$excon" eval "$scratch/run" --suite "$suite" >/dev/null 2>"$scratch/log" || good=0
done
for key in top1 ece smooth_ece drop soft_drop; do
    [ "$(value "$scratch/run/eval.json" $key)" = "$(value "$scratch/one.json" $key)" ] || good=0
done
[ $good = 1 ]
check 'suites add up' $? "$scratch/run/eval.json"
first=$(readlink "$scratch/run/checkpoints/best.h5")
other=$(cd "$scratch/run/checkpoints" && for file in step-*.h5; do [ "$file" = "$first" ] || echo "$file"; done | head -n 1)
"$excon" eval "$scratch/run/checkpoints/$other" --suite accuracy >"$scratch/log" 2>&1 &&
    [ -z "$(value "$scratch/run/eval.json" drop)" ] && grep -q "/$other\"" "$scratch/run/eval.json"
check 'a checkpoint of a run, by its path' $? "$scratch/run/eval.json"

# A checkpoint alone: the same numbers, recorded nowhere; its dataset must be named.
good=1
mkdir "$scratch/alone"
cp "$scratch/run/checkpoints/$first" "$scratch/alone/model.h5"
"$excon" eval "$scratch/alone/model.h5" --data "$scratch/data" --json >"$scratch/alone.json" 2>"$scratch/log" || good=0
for key in count top1 nll brier mce drop soft_drop; do
    [ "$(value "$scratch/alone.json" $key)" = "$(value "$scratch/one.json" $key)" ] || good=0
done
[ "$(ls "$scratch/alone")" = model.h5 ] || good=0
[ $good = 1 ]
check 'a bare checkpoint' $? "$scratch/log"
good=1
"$excon" eval "$scratch/alone/model.h5" >/dev/null 2>"$scratch/log"
[ $? = 64 ] && grep -q 'give --data DIR' "$scratch/log" || good=0
"$excon" eval "$scratch/absent" >/dev/null 2>"$scratch/log"
[ $? = 66 ] && grep -q 'neither a checkpoint nor a run folder' "$scratch/log" || good=0
[ $good = 1 ]
check 'what it cannot evaluate' $? "$scratch/log"

# A sheet of explained images: a picture of eight rows and four columns of 64 pixels with 4 between; what cannot be
# written is said, and the results are recorded all the same.
size_of() { od -An -tx1 -j16 -N8 "$1" 2>/dev/null | tr -d ' '; } # FILE: width and height of a PNG
"$excon" eval "$scratch/run" --suite accuracy --sheet "$scratch/sheet.png" >"$scratch/log" 2>&1 &&
    [ "$(head -c 8 "$scratch/sheet.png" | tail -c 7 | head -c 3)" = PNG ] &&
    [ "$(size_of "$scratch/sheet.png")" = "$(printf '%08x%08x' $((4 * 68 + 4)) $((8 * 68 + 4)))" ]
check 'a sheet of explained images' $?
"$mpirun" -n 3 "$excon" eval "$scratch/run" --suite accuracy --sheet "$scratch/ranks.png" >"$scratch/log" 2>&1 &&
    [ "$(size_of "$scratch/ranks.png")" = "$(size_of "$scratch/sheet.png")" ]
check 'a sheet of several ranks' $?
rm "$scratch/run/eval.json"
"$excon" eval "$scratch/run" --suite accuracy --sheet "$scratch/absent/sheet.png" >"$scratch/log" 2>&1
[ $? = 73 ] && grep -q "absent/sheet.png" "$scratch/log" && [ -s "$scratch/run/eval.json" ]
check 'a sheet that cannot be written' $?
