"""What is allowed to differ, and by how much.

Three things compute the same case: the program, the reference in float64, and others: the reference in float32, and in
float64 from parameters or inputs that are off by a few roundings. How far the others are from float64 says what rounding may
do here: a ReLU whose input is near zero, or a mask pixel near its threshold, changes sides in some of them, and the gradient
behind it jumps in all. The program may be FACTOR times as far off, or FLOOR if that is more."""

import numpy as np

from judge_names import Fault, Unclear  # noqa: F401

FACTOR, FLOOR = 10.0, 3e-6
LEAST = 1e-3  # a tensor far smaller than its likes is measured by them


def array(value):
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value, dtype=np.float64)


def scales(exact):
    """The largest norm among the tensors of each folder of names, "grad/..." and the like."""
    largest = {}
    for name, value in exact.items():
        folder = name.rsplit("/", 1)[0] if "/" in name else name
        largest[folder] = max(largest.get(folder, 0.0), float(np.linalg.norm(np.nan_to_num(array(value)))))
    return largest


def distance(got, want, least=0.0):
    got, want = array(got), array(want)
    if got.shape != want.shape:
        return float("inf")
    known = ~np.isnan(want)
    norm = max(float(np.linalg.norm(want[known])), least)
    off = float(np.linalg.norm((got - want)[known]))
    return off / norm if norm > 0 else off


def judge(got, exact, others, factor=FACTOR, floor=FLOOR):
    """Raises Fault, naming the worst tensor. Returns the largest share of what was allowed."""
    largest, worst = scales(exact), (0.0, "")
    for name, want in exact.items():
        if name not in got:
            raise Fault(f"{name} is missing")
        least = LEAST * largest[name.rsplit("/", 1)[0] if "/" in name else name]
        spread = max((distance(other[name], want, least) for other in others), default=0.0)
        off, allowed = distance(got[name], want, least), factor * spread + floor
        share = off / allowed
        if not share <= worst[0]:
            worst = (share, f"{name} is off by {off:.3g}, allowed {allowed:.3g} (others: {spread:.3g})")
        if not off <= allowed:
            raise Fault(worst[1])
    return worst[0]
