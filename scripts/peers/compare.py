"""Runs two benchmark commands in turn (A B A B ...), each printing a JSON object as its last line of output, and compares a
number of theirs: medians, and the median of the ratios of neighbouring runs, which a drifting machine disturbs least.

Usage: compare.py --title T --rounds N --keys seconds,peak_mb --peer NAME=COMMAND [--peer ...] --ours COMMAND [--json FILE]"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys


def run(command):
    done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        sys.exit(f"compare: exit {done.returncode} from: {command}")
    try:
        return json.loads(lines[-1])
    except ValueError:
        sys.exit(f"compare: no JSON object in the last line of: {command}\n{lines[-1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--title", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", default="seconds", help="numbers to show, the first is compared")
    parser.add_argument("--peer", action="append", required=True, help="NAME=COMMAND")
    parser.add_argument("--ours", required=True)
    parser.add_argument("--json", help="also write the result here")
    options = parser.parse_args()
    commands = dict(peer.split("=", 1) for peer in options.peer)
    commands["excon"] = options.ours
    keys = options.keys.split(",")
    results = {name: [] for name in commands}
    for i in range(options.rounds):
        for name, command in commands.items():
            results[name].append(run(command))
            print(f"round {i + 1} of {options.rounds}, {name}: {results[name][-1][keys[0]]:.4g} {keys[0]}", file=sys.stderr)

    print(options.title)
    print("".join(f"{title:>16}" for title in ["", *keys, f"{keys[0]} / ours"]))
    summary = {"title": options.title, "rounds": options.rounds}
    for name, runs in results.items():
        medians = {key: statistics.median(r[key] for r in runs) if all(key in r for r in runs) else None for key in keys}
        ratio = statistics.median(a[keys[0]] / b[keys[0]] for a, b in zip(runs, results["excon"]))
        summary[name] = {**medians, "ratio_to_excon": ratio}
        cells = ["-" if medians[key] is None else f"{medians[key]:.4g}" for key in keys]
        print("".join(f"{cell:>16}" for cell in [name, *cells, f"{ratio:.3g}"]))
    print(json.dumps(summary))
    if options.json:
        with open(options.json, "w") as out:
            json.dump(summary, out, indent=2)


if __name__ == "__main__":
    main()
