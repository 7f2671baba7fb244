#!/usr/bin/env bash
# demo.sh   From a fresh checkout to a trained, evaluated model: packages, build, a synthetic dataset, two ranks.
#
# Everything lands in demo/. A second call continues from the run's newest checkpoint, so it only evaluates again.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/deps.sh
make -j"$(nproc)" --no-print-directory

export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
excon=build/excon
say() { printf '\n== %s\n' "$*"; }

say "a dataset: shapes on textures (in val the texture misleads)"
"$excon" import synthetic demo/data --classes 4 --train-per-class 500 --val-per-class 100
say "train: two ranks, configs/demo.yaml"
mpirun -n 2 "$excon" train configs/demo.yaml
say "evaluate: accuracy, calibration, and faithfulness of the explanations"
mpirun -n 2 "$excon" eval demo/run --sheet demo/saliency.png
cat <<'END'

Where to look next:
  demo/saliency.png         explained images: image, saliency map, mask, masked image
  demo/run/eval.json        the table above, for programs
  demo/run/metrics.jsonl    one line per logged step and per epoch
  demo/run/config.yaml      every key as used; configs/demo.yaml explains them
  demo/run/checkpoints/     HDF5, PyTorch names and layouts
  tensorboard --logdir demo/run/events
  README.md                 a real dataset, more ranks, a tour of the sources
END
