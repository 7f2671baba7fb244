#!/usr/bin/env bash
# A short part of `make soak`'s random comparison (tests/soak/numbers/main.py): some cases of each family, always the same.
# Families that need PyTorch, torchvision and h5py are skipped without them; golden files hold what they would try.
set -u
cd "$(dirname "$0")/../.." || exit 70
python=${PYTHON:-python3}
export TMPDIR=${TMPDIR:-/tmp}
cases=("twins 2" "schedule 2" "ranks 1" "supcon 4" "encode 3" "explain 3" "step 3" "augment 2" "training 1" "eval 1" "initial 1")
alone=3 # of these need nothing but the program
echo "1..${#cases[@]}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    for ((i = 1; i <= ${#cases[@]}; i++)); do echo "ok $i - ${cases[i - 1]% *} # SKIP no Python 3.8 here ($python)"; done
    exit 0
fi
missing=$("$python" -W ignore -c 'import torch, torchvision, h5py, numpy' 2>&1 | tail -n 1)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
number=0
for case in "${cases[@]}"; do
    number=$((number + 1))
    if [ $number -gt $alone ] && [ -n "$missing" ]; then
        echo "ok $number - ${case% *} # SKIP $python has not what the references need: $missing"
    elif "$python" -W ignore tests/soak/numbers/main.py --family "${case% *}" --cases "${case#* }" >"$log" 2>&1; then
        echo "ok $number - ${case% *}"
    else
        sed 's/^/# /' "$log"
        echo "not ok $number - ${case% *}"
    fi
done
