#!/usr/bin/env bash
# numbers.sh   Random configurations of what the program computes against float64, for NUMBERS seconds (600); see
# tests/soak/numbers/main.py. SEED (a number) starts elsewhere. Without PyTorch, h5py and torchvision only the families that
# compare the program with itself are tried.
cd "$(dirname "$0")/../.." || exit 70
exec "${PYTHON:-python3}" tests/soak/numbers/main.py --seconds "${NUMBERS:-600}" --seed "${SEED:-1}"
