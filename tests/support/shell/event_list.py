#!/usr/bin/env python3
"""Lists what TensorBoard event files of a folder hold, a line each: kind, tag, step, value.

usage: event_list.py DIR [tensorboard]

The value of a text is its first line, of an image height x width and the format that its first bytes tell. Parsed here, from
the format's description; with `tensorboard` by TensorBoard's own reader instead (exit code 77 where it is not installed).
Both list scalars, then images, then texts, each sorted.
"""

import glob
import os
import struct
import sys


def fields(data):
    """Field number and value of a protobuf message: int, or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        wire = key & 7
        if wire == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}[wire] if wire != 2 else varint()
        if at + size > len(data):
            raise ValueError("a field is longer than its message")
        yield key >> 3, data[at : at + size]
        at += size


def records(path):
    data = open(path, "rb").read()
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + size]
        at += size + 16


def picture(height, width, data):
    form = "JPEG" if data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9" else "PNG" if data[:4] == b"\x89PNG" else "?"
    return f"{height}x{width} {form}"


def first_line(text):
    return text.decode().splitlines()[0].strip()


def parsed(folder):
    for path in sorted(glob.glob(os.path.join(folder, "events.out.tfevents.*"))):
        for record in records(path):
            event = dict(fields(record))
            step = event.get(2, 0)
            for _, value in fields(event.get(5, b"")):
                value = dict(fields(value))
                tag = value[1].decode()
                if 2 in value:
                    yield "scalar", tag, step, "%.6g" % struct.unpack("<f", value[2])
                elif 4 in value:
                    image = dict(fields(value[4]))
                    yield "image", tag, step, picture(image[1], image[2], image[4])
                else:
                    plugin = dict(fields(dict(fields(value[9]))[1]))[1]
                    yield plugin.decode(), tag, step, first_line(dict(fields(value[8]))[8])


def by_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    reader.Reload()
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            yield "scalar", tag, event.step, "%.6g" % event.value
    for tag in reader.Tags()["images"]:
        for event in reader.Images(tag):
            yield "image", tag, event.step, picture(event.height, event.width, event.encoded_image_string)
    for tag in reader.Tags()["tensors"]:
        plugin = reader.SummaryMetadata(tag).plugin_data.plugin_name
        for event in reader.Tensors(tag):
            yield plugin, tag, event.step, first_line(event.tensor_proto.string_val[0])


def main(arguments):
    if len(arguments) not in (1, 2):
        print(__doc__.strip(), file=sys.stderr)
        return 64
    try:
        lines = list((by_tensorboard if len(arguments) == 2 else parsed)(arguments[0]))
    except ImportError as reason:
        print(f"no TensorBoard reader: {reason}")
        return 77
    order = {"scalar": 0, "image": 1, "text": 2}
    for kind, tag, step, value in sorted(lines, key=lambda line: (order[line[0]], *line[1:])):
        print(kind, tag, step, value)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
