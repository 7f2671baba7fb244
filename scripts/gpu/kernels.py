"""What ncu measured of every kernel, added up by name: one JSON object.

Usage: kernels.py FILE     written by ncu --csv --metrics gpu__time_duration.sum --log-file FILE

{"launches", "seconds" (of all kernels, one after the other), "kernels": [{"kernel", "launches", "seconds", "share"}]}, the
longest first. Exits with 65 when the file holds no kernel."""

import csv
import json
import re
import sys

SECONDS = {"s": 1.0, "second": 1.0, "ms": 1e-3, "msecond": 1e-3, "us": 1e-6, "usecond": 1e-6, "ns": 1e-9, "nsecond": 1e-9}


def read_times(path):
    """Yields (kernel, seconds). Lines before the table's head are ncu's messages."""
    with open(path, newline="") as source:
        lines = source.readlines()
    head = next((i for i, line in enumerate(lines) if '"Kernel Name"' in line), len(lines))
    for row in csv.DictReader(line for line in lines[head:] if line.startswith('"')):
        if row.get("Metric Name") == "gpu__time_duration.sum":
            yield row["Kernel Name"], float(row["Metric Value"].replace(",", "")) * SECONDS[row["Metric Unit"]]


def short_name(kernel):
    """Without return type, arguments of the call, and the inside of unnamed namespaces."""
    name = re.sub(r"^void ", "", kernel.replace("(anonymous namespace)::", "").replace("<unnamed>::", ""))
    return re.sub(r"\((?!.*>).*$", "", name)[:120]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    totals = {}
    for kernel, seconds in read_times(sys.argv[1]):
        kept = totals.setdefault(short_name(kernel), [0, 0.0])
        kept[0] += 1
        kept[1] += seconds
    if not totals:
        print(f"kernels: {sys.argv[1]} names no kernel", file=sys.stderr)
        sys.exit(65)
    whole = sum(seconds for _, seconds in totals.values())
    rows = [{"kernel": name, "launches": count, "seconds": round(seconds, 12), "share": round(seconds / whole, 6)}
            for name, (count, seconds) in sorted(totals.items(), key=lambda item: -item[1][1])]
    print(json.dumps({"launches": sum(row["launches"] for row in rows), "seconds": round(whole, 12), "kernels": rows}))


if __name__ == "__main__":
    main()
