#!/usr/bin/env bash
# scripts/load_torch.py: a checkpoint in PyTorch gives the features, embeddings and logits of `excon probe encode`, and its
# tensors are exactly those of the published model's modules.
cd "$(dirname "$0")/../.." || exit 70
. tests/support/shell/tap.sh
export OMP_NUM_THREADS=1
encoders=(resnet10 resnet50 resnet101 wrn-40-2)
echo "1..$((2 * ${#encoders[@]}))"
if ! "$python" -c 'import torch, h5py' 2>/dev/null; then
    skip 'Python packages torch and h5py are not installed' "${encoders[@]/%/.same_numbers}" "${encoders[@]/%/.published_names}"
    exit 0
fi

"$excon" import synthetic "$scratch/data" --classes 3 --size 16 --train-per-class 16 --val-per-class 2 >/dev/null
cat >"$scratch/run.yaml" <<END
method: ce
data: {dir: $scratch/data, holdout: 0}
train: {epochs: 1, batch: 24}
optim: {lr: 0.05}
END
for encoder in "${encoders[@]}"; do
    run=$scratch/$encoder
    "$excon" train "$scratch/run.yaml" --set "run.dir=$run" --set "model.encoder=$encoder" --set model.width=8 >"$scratch/log" 2>&1 &&
        "$python" -c '
import sys, h5py, numpy
images = numpy.random.default_rng(3).standard_normal((5, 3, 16, 16)).astype("float32")
h5py.File(sys.argv[1], "w")["images"] = images' "$scratch/in.h5" >>"$scratch/log" 2>&1 &&
        "$excon" probe encode "$scratch/in.h5" "$scratch/out.h5" --checkpoint "$run/checkpoints/last.h5" >>"$scratch/log" 2>&1 &&
        "$python" scripts/load_torch.py "$run/checkpoints/last.h5" "$scratch/model.pt" >>"$scratch/log" 2>&1 &&
        "$python" - "$scratch" >>"$scratch/log" 2>&1 <<'END'
import sys
sys.dont_write_bytecode = True
sys.path[:0] = ["scripts"]
import h5py, torch, load_torch

folder = sys.argv[1]
saved = torch.load(folder + "/model.pt", weights_only=True)
state = {name: tensor.double() for name, tensor in saved["model"].items()}
images = torch.from_numpy(h5py.File(folder + "/in.h5")["images"][()]).double()
features = load_torch.encode(state, images)
got = {"features": features, "z": load_torch.embed(state, features), "logits": load_torch.classify(state, features)}
with h5py.File(folder + "/out.h5") as out:
    worst = 0
    for name, value in got.items():
        expected = torch.from_numpy(out[name][()]).double()
        error = ((value - expected).norm() / expected.norm()).item()
        print(f"{name}: {error:.1e} of its norm")
        worst = max(worst, error) if error == error else float("inf")
about = saved["about"]
sys.exit(not (worst < 1e-4 and about["epoch"] == 1 and about["step"] == 2 and about["method"] == "ce" and len(about["mean"]) == 3))
END
    check "$encoder.same_numbers" $?
    "$python" - "$scratch" "$encoder" >"$scratch/log" 2>&1 <<'END'
import sys
sys.dont_write_bytecode = True
sys.path[:0] = ["scripts/golden"]
import torch, reference

saved = torch.load(sys.argv[1] + "/model.pt", weights_only=True)
model = reference.Model(sys.argv[2], 8, 128, 3)
model.load_state_dict(saved["model"], strict=True)
END
    check "$encoder.published_names" $?
done
