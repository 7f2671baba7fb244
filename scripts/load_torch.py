#!/usr/bin/env python3
"""A checkpoint in PyTorch: its tensors under the published model's names, and the network that they belong to.

usage: load_torch.py CHECKPOINT OUT.pt    (PyTorch and h5py)

OUT.pt, for torch.load, holds `model`, a state_dict (encoder.*, head.*, classifier.fc.*), and `about`: epoch, step, classes and
the mean and std by which images [n,3,H,W] on 0..1 are normalised. In a program: state, about = load("runs/x/checkpoints/best.h5");
logits = classify(state, encode(state, images)).
"""

import re
import sys

import h5py
import torch
import torch.nn.functional as F


def load(path):
    with h5py.File(path) as file:
        state = {name: torch.from_numpy(file["model"][name][()]) for name in file["model"]}
        about = {key: value.decode() if isinstance(value, bytes) else value.tolist() for key, value in file.attrs.items()}
    about["epoch"] -= about["cursor"] == 0 and about["phase"] == 0  # of the last step; the file's is where training goes on
    for name in [name for name in state if name.endswith("running_mean")]:
        state[name.replace("running_mean", "num_batches_tracked")] = torch.tensor(0)  # BatchNorm2d wants it
    return state, about


def encode(state, x, eps=1e-5):
    """Features [n,F] of normalised images, with running statistics."""

    def conv(name, x, stride=1):
        weight = state[name + ".weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def bn(name, x):
        mean, var, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    if "encoder.block1.layer.0.conv1.weight" in state:
        return wide(state, x, conv, bn)
    x = F.relu(bn("encoder.bn1", conv("encoder.conv1", x)))
    places = (re.match(r"encoder\.layer(\d+)\.(\d+)", name) for name in state)
    for stage, block in sorted({(int(place[1]), int(place[2])) for place in places if place}):
        at, stride = f"encoder.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
        deep = at + ".conv3.weight" in state  # a bottleneck, whose stride is in the middle
        y = F.relu(bn(at + ".bn1", conv(at + ".conv1", x, 1 if deep else stride)))
        y = bn(at + ".bn2", conv(at + ".conv2", y, stride if deep else 1))
        y = bn(at + ".bn3", conv(at + ".conv3", F.relu(y))) if deep else y
        shortcut = at + ".shortcut.0.weight" in state
        x = F.relu(y + (bn(at + ".shortcut.1", conv(at + ".shortcut.0", x, stride)) if shortcut else x))
    return x.mean(dim=(2, 3))


def wide(state, x, conv, bn):
    """The same of a WideResNet, whose norms stand before the convolutions."""
    x = conv("encoder.conv1", x)
    places = (re.match(r"encoder\.block(\d+)\.layer\.(\d+)", name) for name in state)
    for stage, block in sorted({(int(place[1]), int(place[2])) for place in places if place}):
        at, stride = f"encoder.block{stage}.layer.{block}", 2 if stage > 1 and block == 0 else 1
        before = F.relu(bn(at + ".bn1", x))
        y = conv(at + ".conv2", F.relu(bn(at + ".bn2", conv(at + ".conv1", before, stride))))
        x = y + (conv(at + ".convShortcut", before, stride) if at + ".convShortcut.weight" in state else x)
    return F.relu(bn("encoder.bn1", x)).mean(dim=(2, 3))


def classify(state, features):
    return F.linear(features, state["classifier.fc.weight"], state["classifier.fc.bias"])


def embed(state, features):
    hidden = F.relu(F.linear(features, state["head.0.weight"], state["head.0.bias"]))
    return F.normalize(F.linear(hidden, state["head.2.weight"], state["head.2.bias"]), dim=1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    model, about = load(sys.argv[1])
    torch.save({"model": model, "about": about}, sys.argv[2])
    print(f"{sys.argv[2]}: {len(model)} tensors of epoch {about['epoch']}, step {about['step']}")
