#!/usr/bin/env bash
# A short part of `make soak`'s random comparison (tests/soak/numbers/main.py): some cases of each family, always the same.
# Families that need PyTorch, torchvision and h5py are skipped without them; golden files hold what they would try.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/tap.sh
export TMPDIR=${TMPDIR:-/tmp}
cases=("twins 2" "schedule 2" "ranks 1" "supcon 4" "encode 3" "explain 3" "step 3" "augment 2" "training 1" "eval 1" "initial 1")
alone=3 # of these need nothing but the program
echo "1..${#cases[@]}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    skip "no Python 3.8 here ($python)" "${cases[@]% *}"
    exit 0
fi
missing=$("$python" -W ignore -c 'import torch, torchvision, h5py, numpy' 2>&1 | tail -n 1)
for case in "${cases[@]}"; do
    if [ "$number" -ge $alone ] && [ -n "$missing" ]; then
        skip "$python has not what the references need: $missing" "${case% *}"
        continue
    fi
    "$python" -W ignore tests/soak/numbers/main.py --family "${case% *}" --cases "${case#* }" >"$scratch/log" 2>&1
    check "${case% *}" $?
done
