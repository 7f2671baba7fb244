#!/usr/bin/env python3
"""Writes tests/golden/corruptions.h5: corrupted images by formulas in NumPy, SciPy, scikit-image, OpenCV and Pillow.

Needs numpy, scipy, h5py, pillow, scikit-image and opencv-python-headless. The generator, the order of draws and the parameters are written
anew from their descriptions (Philox4x32-10 of Salmon et al. 2011; docs/evaluation.md), the pixels come from the libraries that
the published sets were made with, so nothing is shared with the C code.

    scripts/golden/corruptions_golden.py [OUT.h5]

Layout: images32 [n,32,32,3] and images64 [n,64,64,3] uint8, ids32 and ids64 [n] int32; sha256_32/NAME and sha256_64/NAME
[5,32] uint8, the digest of all n corrupted images of a severity; and some of their rows to see by how much they are off:
out32/NAME [5*n,16,32,3], the odd rows, and out64/NAME [5*n,8,64,3], rows 3, 11, ... 59, severity by severity.
"""
import hashlib
import io
import math
import sys

import cv2
import h5py
import numpy as np
import scipy.ndimage as ndi
import scipy.stats
import skimage.color
from PIL import Image

STREAM_CORRUPTION = 7
ROWS = {32: slice(1, 32, 2), 64: slice(3, 64, 8)}

# ---- severities; None at 32 pixels: as at 64, lengths in pixels (named by their index) halved ----

AT64 = {
    "gaussian_noise": [.04, .08, .12, .15, .18],
    "shot_noise": [250, 100, 50, 30, 15],
    "impulse_noise": [.01, .02, .05, .08, .14],
    "speckle_noise": [.15, .2, .25, .3, .35],
    "defocus_blur": [(.5, .6), (1, .1), (1.5, .1), (2.5, .01), (3, .1)],
    "glass_blur": [(.1, 1, 1), (.5, 1, 1), (.6, 1, 2), (.7, 2, 1), (.9, 2, 2)],
    "gaussian_blur": [.5, .75, 1, 1.25, 1.5],
    "motion_blur": [(10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)],
    "zoom_blur": [1.05, 1.10, 1.15, 1.20, 1.25],
    "snow": [(.1, .2, 1, .6, 8, 3, .8), (.1, .2, 1, .5, 10, 4, .8), (.15, .3, 1.75, .55, 10, 4, .7),
             (.25, .3, 2.25, .6, 12, 6, .65), (.3, .3, 1.25, .65, 14, 12, .6)],
    "fog": [(.4, 3), (.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)],
    "spatter": [(.62, .1, .7, .7, .6, 0), (.65, .1, .8, .7, .6, 0), (.65, .3, 1, .69, .6, 0), (.65, .1, .7, .68, .6, 1),
                (.65, .1, .5, .67, .6, 1)],
    "brightness": [.1, .2, .3, .4, .5],
    "saturate": [(.3, 0), (.1, 0), (2, 0), (5, .1), (30, .2)],
    "contrast": [.4, .3, .2, .1, .05],
    "elastic_transform": [(0, 0, .08), (.05, .3, .06), (.1, .08, .06), (.1, .03, .03), (.16, .03, .02)],
    "pixelate": [.9, .8, .7, .6, .5],
    "jpeg_compression": [65, 58, 50, 40, 25],
}
AT32 = {
    "gaussian_noise": [.04, .06, .08, .09, .10],
    "shot_noise": [500, 250, 100, 75, 50],
    "impulse_noise": [.01, .02, .03, .05, .07],
    "defocus_blur": [(.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)],
    "spatter": [(.62, .1, .7, .7, .5, 0), (.65, .1, .8, .7, .5, 0), (.65, .3, 1, .69, .5, 0), (.65, .1, .7, .69, .6, 1),
                (.65, .1, .5, .68, .6, 1)],
    "contrast": [.75, .5, .4, .3, .15],
    "brightness": [.05, .1, .15, .2, .3],
    "jpeg_compression": [80, 65, 58, 50, 40],
    "pixelate": [.95, .9, .85, .75, .65],
    "fog": [(.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)],
}
LENGTHS = {"glass_blur": (0, 1), "gaussian_blur": (0,), "motion_blur": (0, 1), "snow": (4, 5)}
NUMBERS = {name: k + 1 for k, name in enumerate(AT64)}


def parameters(name, side, severity):
    if side == 64:
        return AT64[name][severity - 1]
    if name in AT32:
        return AT32[name][severity - 1]
    whole = AT64[name][severity - 1]
    halved = [v / 2 if k in LENGTHS.get(name, ()) else v for k, v in enumerate(np.atleast_1d(whole).tolist())]
    if name == "glass_blur":
        halved[1] = max(1, int(halved[1]))  # a reach in whole pixels
    return tuple(halved) if isinstance(whole, tuple) else halved[0]


# ---- random numbers ----

class Draws:
    """The words of one (id, corruption, severity), in order."""

    def __init__(self, sample, name, severity):
        self.low, self.high, self.block, self.words = sample, NUMBERS[name] * 8 + severity, 0, np.zeros(0, np.uint64)

    def philox(self, blocks):
        m32 = np.uint64(0xFFFFFFFF)
        key = (0x9E3779B97F4A7C15 * STREAM_CORRUPTION) & (2**64 - 1)
        k0, k1 = key & 0xFFFFFFFF, key >> 32
        index = np.arange(self.block, self.block + blocks, dtype=np.uint64)
        self.block += blocks
        c = [np.full(blocks, self.low & 0xFFFFFFFF, np.uint64), np.full(blocks, self.low >> 32, np.uint64),
             np.full(blocks, self.high, np.uint64), index]
        for _ in range(10):
            a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
            c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), b & m32, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), a & m32]
            k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
        return np.stack(c, axis=1).ravel()

    def take(self, n):
        if len(self.words) < n:
            self.words = np.concatenate([self.words, self.philox((n - len(self.words) + 3) // 4)])
        taken, self.words = self.words[:n], self.words[n:]
        return taken

    def unit(self, *shape):
        return ((self.take(math.prod(shape)).astype(np.float64) + 0.5) / 2.0**32).reshape(shape)

    def between(self, low, high, *shape):
        return low + (high - low) * self.unit(*shape)

    def below(self, n):
        return int(self.take(1)[0]) * n >> 32

    def normal(self, *shape):
        u = self.unit(math.prod(shape) // 2, 2)
        radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(shape)


# ---- the corruptions: image in 0..1, its parameters, draws -> image ----

def gaussian_noise(x, c, draws):
    return x + c * draws.normal(*x.shape)


def speckle_noise(x, c, draws):
    return x + x * c * draws.normal(*x.shape)


def shot_noise(x, c, draws):
    return scipy.stats.poisson.ppf(draws.unit(*x.shape), x * c) / c


def impulse_noise(x, c, draws):
    u = draws.unit(*x.shape)
    return np.where(u < c / 2, 1.0, np.where(u < c, 0.0, x))


def blurred(x, sigma, **how):
    axes = (sigma, sigma, 0) if x.ndim == 3 else sigma
    return ndi.gaussian_filter(x, axes, **({"mode": "nearest", "truncate": 4.0} | how))


def gaussian_blur(x, c, draws):
    return blurred(x, c)


def defocus_blur(x, c, draws):
    grid = np.arange(-8, 9)
    disk = (grid[:, None]**2 + grid[None, :]**2 <= c[0]**2).astype(np.float64)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), c[1])
    return cv2.filter2D(x, -1, kernel)


def glass_blur(x, c, draws):
    x, side, reach = blurred(x, c[0]), len(x), c[1]
    for _ in range(int(c[2])):
        for h in range(side - reach, reach, -1):
            for w in range(side - reach, reach, -1):
                dx, dy = draws.below(2 * reach) - reach, draws.below(2 * reach) - reach
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx].copy(), x[h, w].copy()
    return blurred(x, c[0])


def streaks(x, radius, sigma, degrees):
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-np.arange(width)**2 / (2 * sigma**2))
    weights /= weights.sum()
    rows, columns = np.mgrid[0:len(x), 0:len(x)]
    out = np.zeros_like(x)
    for i, weight in enumerate(weights):
        dx = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        dy = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        out += weight * x[np.clip(rows + dy, 0, len(x) - 1), np.clip(columns + dx, 0, len(x) - 1)]
    return out


def motion_blur(x, c, draws):
    return streaks(x, *c, draws.between(-45, 45, 1)[0])


def clipped_zoom(x, factor):
    side = len(x)
    crop = math.ceil(side / factor - 1e-9)
    top = (side - crop) // 2
    large = ndi.zoom(x[top:top + crop, top:top + crop], (factor, factor, 1), order=1, mode="nearest")
    trim = (len(large) - side) // 2
    return large[trim:trim + side, trim:trim + side]


def zoom_blur(x, c, draws):
    factors = [1 + k / 100 for k in range(round(100 * (c - 1)) + 1)]
    return (x + sum(clipped_zoom(x, f) for f in factors)) / (len(factors) + 1)


def snow(x, c, draws):
    layer = c[0] + c[1] * draws.normal(*x.shape[:2])
    layer = clipped_zoom(layer[..., None], c[2])[..., 0]
    layer[layer < c[3]] = 0
    layer = streaks(np.clip(layer, 0, 1), c[4], c[5], draws.between(-135, -45, 1)[0])[..., None]
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    x = c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + 0.5)
    return x + layer + np.rot90(layer, k=2)


def heights(side, decay, draws):
    a = np.zeros((side, side))
    step, wibble = side, 100.0
    while step >= 2:
        half = step // 2

        def noisy(total):
            return total / 4 + wibble * draws.between(-wibble, wibble, *total.shape)

        corners = a[0::step, 0::step]
        square = corners + np.roll(corners, -1, 0)
        a[half::step, half::step] = noisy(square + np.roll(square, -1, 1))
        centres = a[half::step, half::step]
        a[0::step, half::step] = noisy(centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1))
        a[half::step, 0::step] = noisy(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0))
        step, wibble = half, wibble / decay
    a -= a.min()
    return a / a.max()


def fog(x, c, draws):
    return (x + c[0] * heights(len(x), c[1], draws)[..., None]) * x.max() / (x.max() + c[0])


def spatter(x, c, draws):
    liquid = blurred(c[0] + c[1] * draws.normal(*x.shape[:2]), c[2])
    liquid[liquid < c[3]] = 0
    if c[5] == 1:
        mud = blurred((liquid > c[3]).astype(np.float64), c[4])
        mud[mud < 0.8] = 0
        return x * (1 - mud[..., None]) + mud[..., None] * np.array([63, 42, 20]) / 255
    grey = (np.clip(liquid, 0, 1) * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(grey, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3))
    light = cv2.equalizeHist((distance + 1e-5).astype(np.uint8))  # a whole number may be a rounding error too small
    light = cv2.filter2D(light, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    light = cv2.blur(light, (3, 3)).astype(np.float64) * grey
    light *= c[4] / max(light.max(), 1)
    return x + light[..., None] * np.array([175, 238, 238]) / 255


def hsv_change(x, which, change):
    hsv = skimage.color.rgb2hsv(x)
    hsv[..., which] = np.clip(change(hsv[..., which]), 0, 1)
    return skimage.color.hsv2rgb(hsv)


def brightness(x, c, draws):
    return hsv_change(x, 2, lambda v: v + c)


def saturate(x, c, draws):
    return hsv_change(x, 1, lambda s: s * c[0] + c[1])


def contrast(x, c, draws):
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * c + mean


def elastic_transform(x, c, draws):
    side = len(x)
    strength, sigma, reach = side * c[0], side * c[1], side * c[2]
    centre, arm = side // 2, side // 3
    before = np.array([[centre + arm, centre + arm], [centre + arm, centre - arm], [centre - arm, centre - arm]], float)
    after = before + draws.between(-reach, reach, 3, 2)
    back = np.linalg.solve(np.column_stack([after, np.ones(3)]), before)  # (x, y, 1) after @ back = (x, y) before
    rows, columns = np.mgrid[0:side, 0:side].astype(float)
    source = np.stack([columns, rows, np.ones_like(rows)], -1) @ back
    planes = np.moveaxis(x, 2, 0)
    warped = [ndi.map_coordinates(plane, [source[..., 1], source[..., 0]], order=1, mode="mirror") for plane in planes]
    dx = draws.between(-1, 1, side, side)
    dy = draws.between(-1, 1, side, side)
    if strength > 0:
        dx, dy = (blurred(d, sigma, mode="reflect", truncate=3.0) for d in (dx, dy))
    at = [rows + strength * dy, columns + strength * dx]
    return np.stack([ndi.map_coordinates(plane, at, order=1, mode="reflect") for plane in warped], -1)


def as_picture(x):
    return Image.fromarray(np.round(x * 255).astype(np.uint8))


def pixelate(x, c, draws):
    side, cells = len(x), int(len(x) * c + 1e-9)
    small = as_picture(x).resize((cells, cells), Image.BOX)
    return np.asarray(small.resize((side, side), Image.BOX)) / 255


def jpeg_compression(x, c, draws):
    file = io.BytesIO()
    as_picture(x).save(file, "JPEG", quality=c)
    return np.asarray(Image.open(file)) / 255


# ---- ----

def corrupt(image, sample, name, severity):
    """uint8 [side,side,3] -> uint8 of that shape."""
    c = parameters(name, len(image), severity)
    x = globals()[name](image / 255.0, c, Draws(sample, name, severity))
    return np.floor(np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def pictures(side, rng):
    """Something like a photograph (blobs, an edge, fine texture), and one with pure, dark and blown-out colours."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    blobs = ndi.zoom(rng.random((5, 5, 3)), (side / 5, side / 5, 1), order=1)[:side, :side]
    edge = (columns + 0.4 * rows > 0.8)[..., None] * np.array([0.4, -0.1, -0.3])
    texture = 0.06 * np.sin(40 * columns + 25 * rows)[..., None] + 0.04 * rng.standard_normal((side, side, 1))
    flat = np.kron(rng.integers(0, 3, (8, 8, 3)) / 2, np.ones((side // 8, side // 8, 1)))
    return np.stack([np.clip(0.75 * blobs + edge + texture, 0, 1), flat * (1 - 0.5 * rows[..., None])])


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "tests/golden/corruptions.h5"
    rng = np.random.default_rng(7)
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        for side, ids in (32, [4, 2000000011]), (64, [0, 73]):
            images = np.round(pictures(side, rng) * 255).astype(np.uint8)
            file.create_dataset(f"images{side}", data=images, compression="gzip", compression_opts=9)
            file[f"ids{side}"] = np.array(ids, np.int32)
            for name in AT64:
                out = [[corrupt(image, i, name, severity) for image, i in zip(images, ids)] for severity in range(1, 6)]
                digests = [hashlib.sha256(b"".join(image.tobytes() for image in batch)).digest() for batch in out]
                file[f"sha256_{side}/{name}"] = np.array([list(digest) for digest in digests], np.uint8)
                rows = np.stack([image[ROWS[side]] for batch in out for image in batch])
                file.create_dataset(f"out{side}/{name}", data=rows, compression="gzip", compression_opts=9, shuffle=True)


if __name__ == "__main__":
    main()
