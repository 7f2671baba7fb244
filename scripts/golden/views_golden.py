#!/usr/bin/env python3
"""Writes tests/golden/views.h5: views as torchvision makes them, from parameters drawn here.

Needs torch, torchvision and h5py. The generator and the order of draws are written anew from their descriptions
(Philox4x32-10 of Salmon et al. 2011; kernels/contract/views_draw.h), the pixels come from
torchvision.transforms.functional on float64 tensors, so nothing is shared with the C code.

    scripts/golden/views_golden.py [OUT.h5]
"""
import math
import sys
from fractions import Fraction

import h5py
import numpy as np
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
STREAM_VIEW = 1
STANDARD, RANDOM, CROP_FLIP = 0, 1, 2


def philox4x32_10(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & MASK32, (a >> 32) ^ c[3] ^ k[1], a & MASK32]
        k = [(k[0] + 0x9E3779B9) & MASK32, (k[1] + 0xBB67AE85) & MASK32]
    return c


def words_of(spec, sample):
    """The 32 words of one view."""
    key = (spec["seed"] + 0x9E3779B97F4A7C15 * STREAM_VIEW) & MASK64
    high = spec["epoch"] * 8 + spec["view"]
    words = []
    for index in range(8):
        words += philox4x32_10([sample & MASK32, sample >> 32, high, index], [key & MASK32, key >> 32])
    return words


def uniform(word):
    return (word >> 8) / 2.0**24


def between(low, high, word):
    """low + (high - low) * u, rounded once; high - low is a rounded double."""
    return float(Fraction(low) + Fraction(high - low) * Fraction(uniform(word)))


def below(word, n):
    return word * n >> 32


def crop_of(spec, words, H, W):
    ratio_min, ratio_max = spec["ratio"]
    for k in range(10):
        area = H * W * between(*spec["scale"], words[12 + 2 * k])
        aspect = math.exp(between(math.log(ratio_min), math.log(ratio_max), words[13 + 2 * k]))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= W and 0 < h <= H:
            return [below(words[10], H - h + 1), below(words[11], W - w + 1), h, w]
    w, h = W, H
    if W / H < ratio_min:
        h = round(W / ratio_min)
    elif W / H > ratio_max:
        w = round(H * ratio_max)
    return [(H - h) // 2, (W - w) // 2, h, w]


def draw(spec, sample, H, W):
    out = dict(crop=[0, 0, H, W], flip=0, jittered=0, order=[0, 1, 2, 3], jitter=[1.0, 1.0, 1.0, 0.0], grey=0)
    if spec["kind"] == STANDARD:
        return out
    words = words_of(spec, sample)
    out["crop"] = crop_of(spec, words, H, W)
    out["flip"] = int(uniform(words[0]) < spec["probability"][0])
    if spec["kind"] == CROP_FLIP:
        return out
    out["jittered"] = int(uniform(words[1]) < spec["probability"][1])
    out["grey"] = int(uniform(words[9]) < spec["probability"][2])
    if out["jittered"]:
        order = [0, 1, 2, 3]
        for word, last in zip(words[2:5], (3, 2, 1)):
            pick = below(word, last + 1)
            order[last], order[pick] = order[pick], order[last]
        out["order"] = order
        strengths = spec["strength"]
        out["jitter"] = [between(max(0.0, 1.0 - s), 1.0 + s, word) for s, word in zip(strengths[:3], words[5:8])]
        out["jitter"].append(between(-strengths[3], strengths[3], words[8]))
        out["jitter"] = [float(np.float32(f)) for f in out["jitter"]]
    return out


def view_of(image, spec, drawn):
    """HWC uint8 -> HWC float64, normalised."""
    x = torch.from_numpy(image.astype(np.float64) / 255.0).permute(2, 0, 1)
    y, left, h, w = drawn["crop"]
    x = F.resized_crop(x, y, left, h, w, list(x.shape[1:]), InterpolationMode.BILINEAR)
    if drawn["flip"]:
        x = F.hflip(x)
    adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    for which in drawn["order"] if drawn["jittered"] else []:
        x = adjust[which](x, drawn["jitter"][which])
    if drawn["grey"]:
        x = F.rgb_to_grayscale(x, num_output_channels=3)
    x = F.normalize(x, spec["mean"], spec["std"])
    return x.permute(1, 2, 0).contiguous().numpy()


def spec_of(**changes):
    """The published recipe; every number is the float32 the C struct holds."""
    spec = dict(kind=RANDOM, seed=2024, epoch=1, view=1, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3),
                probability=(0.5, 0.8, 0.2), strength=(0.4, 0.4, 0.4, 0.1),
                mean=(0.4802, 0.4481, 0.3975), std=(0.2302, 0.2265, 0.2262))
    spec.update(changes)
    for key in ("scale", "ratio", "probability", "strength", "mean", "std"):
        spec[key] = tuple(float(np.float32(value)) for value in spec[key])
    return spec


def test_images(n, H, W, rng):
    """Noise, colour gradients, one flat colour, grey noise, saturated corners; in turn."""
    images = []
    for i in range(n):
        kind = i % 5
        if kind == 0:
            image = rng.integers(0, 256, (H, W, 3))
        elif kind == 1:
            y, x = np.mgrid[0:H, 0:W]
            image = np.stack([255 * y / (H - 1), 255 * x / (W - 1), 255 * (H - 1 - y) / (H - 1)], axis=-1)
        elif kind == 2:
            image = np.broadcast_to(rng.integers(0, 256, 3), (H, W, 3))
        elif kind == 3:
            image = np.repeat(rng.integers(0, 256, (H, W, 1)), 3, axis=2)
        else:
            image = 255 * rng.integers(0, 2, (H, W, 3))
        images.append(image.astype(np.uint8))
    return np.stack(images)


def store(group, spec, H, W, ids, images):
    group["spec"] = np.array([spec["kind"], spec["seed"], spec["epoch"], spec["view"], *spec["scale"], *spec["ratio"],
                              *spec["probability"], *spec["strength"], *spec["mean"], *spec["std"]], dtype=np.float64)
    group["size"] = np.array([H, W], dtype=np.int32)
    group["ids"] = np.array(ids, dtype=np.int64)
    drawn = [draw(spec, i, H, W) for i in ids]
    group["choices"] = np.array([[*d["crop"], d["flip"], d["jittered"], *d["order"], d["grey"]] for d in drawn],
                                dtype=np.int32)
    group["factors"] = np.array([d["jitter"] for d in drawn], dtype=np.float32)
    if images is not None:
        out = np.stack([view_of(image, spec, d) for image, d in zip(images, drawn)]).astype(np.float32)
        group.create_dataset("images", data=images, compression="gzip", compression_opts=9)
        group.create_dataset("out", data=out, compression="gzip", compression_opts=9, shuffle=True)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "tests/golden/views.h5"
    rng = np.random.default_rng(1)
    hard = dict(probability=(0.5, 1.0, 0.1), strength=(0.8, 0.8, 1.0, 0.5))
    pixel_cases = [
        (64, 64, 2, spec_of()),
        (32, 32, 6, spec_of(seed=(1 << 45) + 9, epoch=200, view=2)),
        (21, 37, 7, spec_of(epoch=3, view=3, **hard)),
        (24, 24, 10, spec_of(epoch=7, view=2, **hard)),
        (16, 20, 5, spec_of(kind=CROP_FLIP, view=4)),
        (16, 20, 5, spec_of(kind=STANDARD)),
        (12, 30, 3, spec_of(scale=(1.0, 1.0))),  # never fits: the central crop
        (1, 1, 2, spec_of()),
    ]
    draw_cases = [
        (64, 64, 300, spec_of(epoch=11)),
        (32, 32, 200, spec_of(kind=CROP_FLIP, epoch=12, view=4)),
        (224, 160, 200, spec_of(seed=5, scale=(0.08, 1.0))),
        (10, 40, 200, spec_of(scale=(0.5, 1.0))),
        (40, 10, 200, spec_of(scale=(0.5, 1.0))),
    ]
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        for k, (H, W, n, spec) in enumerate(pixel_cases):
            ids = [int(i) for i in rng.integers(0, 1 << 40, n)]
            store(file.create_group(f"pixels{k}"), spec, H, W, ids, test_images(n, max(H, 2), max(W, 2), rng)[:, :H, :W])
        for k, (H, W, n, spec) in enumerate(draw_cases):
            store(file.create_group(f"draws{k}"), spec, H, W, list(range(n)), None)
        file["pixel_cases"] = np.int32(len(pixel_cases))
        file["draw_cases"] = np.int32(len(draw_cases))


if __name__ == "__main__":
    main()
