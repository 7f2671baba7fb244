#!/usr/bin/env python3
"""Reads TensorBoard event files with TensorBoard's own reader and compares them with what they should hold.

usage: check_events.py DIR TAG STEP=VALUE...

Exit code 0: the scalars of TAG are exactly the given ones, in order. 1: they are not. 77: TensorBoard is not installed.
Values are compared as float32. Install the reader with `pip install tensorboard`.
"""

import struct
import sys


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", float(value)))[0]


def main(arguments):
    if len(arguments) < 3:
        print(__doc__.strip(), file=sys.stderr)
        return 64
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as reason:
        print(f"no TensorBoard reader: {reason}")
        return 77
    folder, tag = arguments[:2]
    want = [(int(step), as_float32(value)) for step, value in (item.split("=") for item in arguments[2:])]
    reader = EventAccumulator(folder, size_guidance={"scalars": 0})
    reader.Reload()
    if tag not in reader.Tags()["scalars"]:
        print(f"{folder}: no scalar {tag}; found {reader.Tags()['scalars']}")
        return 1
    got = [(event.step, event.value) for event in reader.Scalars(tag)]
    if got != want:
        print(f"{folder}: {tag} is {got}, should be {want}")
        return 1
    print(f"{folder}: {len(got)} values of {tag} as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
