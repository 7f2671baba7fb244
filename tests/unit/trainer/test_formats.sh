#!/usr/bin/env bash
# docs/formats.md names every field that runs and evaluations write, and none that nothing writes.
cd "$(dirname "$0")/../../.." || exit 70
. tests/support/shell/tap.sh
export OMP_NUM_THREADS=1
echo 1..7
if ! "$python" -c 'import json' 2>/dev/null; then
    skip "no Python here ($python)" runs step epoch eval eval.json status.json schema_version
    exit 0
fi

"$excon" import synthetic "$scratch/data" --classes 3 --size 16 --train-per-class 20 --val-per-class 5 >/dev/null
cat >"$scratch/run.yaml" <<END
data: {dir: $scratch/data, holdout: 0.1}
model: {encoder: resnet10, width: 4, projection: 16}
train: {epochs: 1, batch: 20}
optim: {lr: 0.01}
END
# Plain and masking methods, a pass of the classifier's own, an epoch without validation, a run that is stopped.
run() { # NAME, [--set key=value]...
    local name=$1
    shift
    "$excon" train "$scratch/run.yaml" --set "run.dir=$scratch/$name" "$@" >"$scratch/log" 2>&1
}
run joint --set method=exconb && run plain --set method=supcon --set eval.every_epochs=0 &&
    run alternate --set method=excon --set profile=official --set data.holdout=0 &&
    "$excon" eval "$scratch/joint" >>"$scratch/log" 2>&1
check runs $?

"$python" - "$scratch" <<'END'
import glob, json, re, sys

folder = sys.argv[1]
# Section of the page -> its fields, and how many have no unit.
documented, section = {}, None
for line in open("docs/formats.md"):
    if line.startswith("#"):
        section = line.lstrip("#").strip()
    row = re.match(r"\| `([^`]+)` \|([^|]*)\|", line)
    if row:
        documented.setdefault(section, {})[row[1]] = row[2].strip()
documented["eval"] = documented["eval.json"]
schema = int(re.search(r"^Schema (\d+):", open("docs/formats.md").read(), re.M)[1])

written, schemas = {}, set()
def take(section, item):
    schemas.add(item.get("schema"))
    fields = written.setdefault(section, set())
    for key, value in item.items():
        fields.add(key)
        if isinstance(value, dict):
            fields.update(f"{key}.{inner}" for inner in value)

for path in glob.glob(folder + "/*/metrics.jsonl"):
    for line in open(path):
        item = json.loads(line)
        take(item["event"], item)
for name in ("eval.json", "status.json"):
    for path in glob.glob(f"{folder}/*/{name}"):
        take(name, json.load(open(path)))

number = 1
def check(name, wrong):
    global number
    number += 1
    if wrong:
        print("#", wrong)
    print("not ok" if wrong else "ok", number, "-", name)

for section in ("step", "epoch", "eval", "eval.json", "status.json"):
    there, said = written.get(section, set()), documented.get(section, {})
    wrong = []
    if there - set(said):
        wrong.append(f"not documented: {sorted(there - set(said))}")
    if set(said) - there:
        wrong.append(f"documented, but never written: {sorted(set(said) - there)}")
    if not all(said.values()):
        wrong.append("a field without a unit")
    check(section, "; ".join(wrong))
check("schema_version", "" if schemas == {schema} else f"the page says {schema}, the records {schemas}")
END
