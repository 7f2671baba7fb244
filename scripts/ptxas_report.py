"""Registers, spills and shared memory of every CUDA kernel, from what `nvcc -Xptxas -v` wrote, as one table.

Usage: ptxas_report.py --hot scripts/hot_kernels.txt [--json FILE] SOURCE=LOG...

Kernels are grouped by the folder and file they live in, the one with the most registers first. HOT lists, one a line,
"FILE-PATTERN KERNEL-PATTERN" (shell patterns, # begins a comment): kernels that may not spill. Exit status 1 when one of
them does, 65 when a log holds no kernel or a pattern matches none (a renamed kernel would otherwise go unwatched)."""

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys

ENTRY = re.compile(r"Compiling entry function '([^']+)' for '(sm_\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def demangle(names):
    tool = shutil.which("c++filt") or shutil.which("cu++filt")
    if not tool or not names:
        return {name: name for name in names}
    done = subprocess.run([tool], input="\n".join(names) + "\n", stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(names, map(short_name, done.stdout.splitlines())))


def short_name(full):
    """kernel<arguments> without namespaces, return type and parameters."""
    depth, end = 0, len(full)
    for i, letter in enumerate(full):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0 and not full.startswith("(anonymous namespace)", i):
            end = i
            break
    head = full[:end].replace("(anonymous namespace)::", "")
    head = re.sub(r"^void ", "", head)
    return re.sub(r"\b\w+::", "", head)


def kernels_of(source, log):
    found, kernel = [], None
    with open(log) as lines:
        for line in lines:
            entry, frame, used = ENTRY.search(line), FRAME.search(line), USED.search(line)
            if entry:
                kernel = {"source": source, "mangled": entry[1], "arch": entry[2], "stack": 0, "spill_stores": 0,
                          "spill_loads": 0, "shared": 0}
            elif frame and kernel:
                kernel.update(stack=int(frame[1]), spill_stores=int(frame[2]), spill_loads=int(frame[3]))
            elif used and kernel:
                shared = SHARED.search(line)
                kernel.update(registers=int(used[1]), shared=int(shared[1]) if shared else 0)
                found.append(kernel)
                kernel = None
    return found


def read_patterns(path):
    with open(path) as lines:
        rows = [line.split("#")[0].split() for line in lines]
    bad = [row for row in rows if row and len(row) != 2]
    if bad:
        sys.exit(f"ptxas_report: {path}: not 'FILE-PATTERN KERNEL-PATTERN': {' '.join(bad[0])}")
    return [tuple(row) for row in rows if row]


def matches(kernel, pattern):
    plain = kernel["kernel"].split("<")[0]
    return fnmatch.fnmatch(os.path.basename(kernel["source"]), pattern[0]) and fnmatch.fnmatch(plain, pattern[1])


def print_table(kernels):
    print(f"  {'kernel':<58} {'arch':<7} {'regs':>4} {'stack':>6} {'spill st/ld':>12} {'smem':>6}  hot")
    place = None
    for k in kernels:
        if k["source"] != place:
            place = k["source"]
            print(place)
        spills = f"{k['spill_stores']}/{k['spill_loads']}"
        hot = "SPILLS" if k["hot"] and k["spilled"] else "hot" if k["hot"] else ""
        name = k["kernel"] if len(k["kernel"]) <= 58 else k["kernel"][:57] + "~"
        print(f"  {name:<58} {k['arch']:<7} {k['registers']:>4} {k['stack']:>6} {spills:>12} {k['shared']:>6}  {hot}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hot", required=True)
    parser.add_argument("--json", help="also write the table here")
    parser.add_argument("logs", nargs="+", metavar="SOURCE=LOG")
    options = parser.parse_args()
    kernels, empty = [], []
    for item in options.logs:
        source, log = item.split("=", 1)
        found = kernels_of(source, log)
        kernels += found
        if not found:
            empty.append(log)
    names = demangle(sorted({k["mangled"] for k in kernels}))
    patterns = read_patterns(options.hot)
    for k in kernels:
        k["kernel"] = names[k.pop("mangled")]
        k["hot"] = any(matches(k, pattern) for pattern in patterns)
        k["spilled"] = k["spill_stores"] + k["spill_loads"] > 0
    kernels.sort(key=lambda k: (k["source"], k["arch"], -k["registers"], k["kernel"]))
    print_table(kernels)
    spilling = [k for k in kernels if k["hot"] and k["spilled"]]
    unused = [" ".join(p) for p in patterns if not any(matches(k, p) for k in kernels)]
    for name in unused:
        print(f"ptxas_report: {options.hot}: no kernel matches '{name}'", file=sys.stderr)
    for log in empty:
        print(f"ptxas_report: {log} names no kernel", file=sys.stderr)
    hot = sum(k["hot"] for k in kernels)
    print(f"{len(kernels)} kernels, {hot} of them hot, {len(spilling)} hot ones spill, "
          f"{sum(k['spilled'] for k in kernels)} spill in all")
    if options.json:
        with open(options.json, "w") as out:
            json.dump(kernels, out, indent=1)
    sys.exit(1 if spilling else 65 if unused or empty else 0)


if __name__ == "__main__":
    main()
