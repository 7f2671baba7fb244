"""Turns what scripts/gpu_check.sh measured into a page, docs/gpu-results.md by default.

Usage: gpu_table.py [--out FILE] [--try-out] gpu-check.json...

Several files are laid over each other, so that stages measured in different sessions come together: of two runs of one
name the newer counts. A page names one GPU; files of different GPUs are refused. Results of the stand-in GPU or of the CPU
are refused too (they say nothing about a GPU), unless --try-out is given, which writes to standard output and says so."""

import argparse
import json
import sys

# Computed floors for one H200 (790 TFLOP/s bf16 and 4.3 TB/s copy, both seen on one), bf16, 512 trained views: convolutions
# at that rate, everything else at copy speed, with BN+add+ReLU fused into one pair of passes each way. Milliseconds.
FLOOR_SOURCE = "computed floor, one H200"
STEP_FLOORS_MS = {("supcon", "resnet50", 64): 59.0, ("supcon", "resnet18", 64): 14.6,
                  ("supcon", "resnet50", 32): 1e3 * 512 / 34.7e3, ("supcon", "resnet18", 32): 1e3 * 512 / 141e3,
                  ("excon", "resnet50", 64): 69.7, ("excon", "resnet18", 64): 17.6}
FLOOR_BATCH = 256
PROFILE_ROWS = 25
LOSS_FLOORS_MS = {16384: 0.26, 65536: 4.2, 131072: 16.7}  # three products of rows, D = 128


def load(paths):
    host, stages, runs, modes, transports = {}, {}, {}, set(), set()
    for path in paths:
        with open(path) as source:
            data = json.load(source)
        if data.get("schema") != "excon-gpu-check/2":
            sys.exit(f"gpu_table: {path}: not written by this version of gpu_check.sh")
        modes.add(data["mode"])
        transports.add(data["transport"])
        host = data["host"] if data["date"] >= host.get("date", "") else host
        host["date"] = max(data["date"], host.get("date", ""))
        for kept, items, name in ((stages, data["stages"], "stage"), (runs, data["runs"], "name")):
            for item in items:
                if item["date"] >= kept.get(item[name], item)["date"]:
                    kept[item[name]] = item
    if len(modes) != 1:
        sys.exit(f"gpu_table: the files are of different kinds: {', '.join(sorted(modes))}")
    gpus = {run["gpu"] for run in runs.values()}
    if len(gpus) > 1:
        sys.exit(f"gpu_table: the files name different GPUs: {', '.join(sorted(gpus))}; one page holds one")
    host["transport"] = "NCCL did not start: messages by MPI" if "mpi" in transports else ""
    return host, stages, runs, modes.pop()


def table(head, rows):
    if not rows:
        return "(not measured)\n"
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value, digits=3):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percent(share):
    return "-" if share is None else f"{100 * share:.0f} %"


def stage_table(stages):
    return table(["stage", "result", "passed", "failed", "skipped", "seconds", "date", "remark"],
                 [[s["stage"] + (" (in part)" if s["short"] else ""), s["status"], s["passed"], s["failed"], s["skipped"],
                   s["seconds"], s["date"][:10], s["reason"].replace("|", "/")] for s in stages.values()])


def ops_section(runs):
    rows, text = [], ""
    for run in runs.values():
        result = run["result"]
        if run["kind"] != "ops" or not result:
            continue
        reference = result["references"]
        text = (f"References on the same device: copy {number(reference['copy'])} GB/s (bytes read and written), product of side "
                f"{reference['gemm_side']} {number(reference['gemm'] / 1e3)} TFLOP/s in bf16, "
                f"{number(reference['gemm f32'] / 1e3)} TFLOP/s in f32.\n\n")
        for op in result["ops"]:
            if "rate" in op:
                unit, rate = op["unit"], op["rate"]
                if unit == "GFLOP/s":
                    unit, rate = "TFLOP/s", rate / 1e3
                rows.append([op["op"], number(rate), unit, f"{percent(op['share'])} of {op['of']}"])
            for way in ("forward", "backward_data", "backward_weight"):
                if way in op:
                    rows.append([f"{op['op']}, {way.replace('_', ' ')}", number(op[way] / 1e3), "TFLOP/s",
                                 f"{percent(op[way + '_share'])} of {op['of']}"])
    return text + table(["operator", "rate", "", "share"], rows)


def peers_of(runs, name):
    found = {}
    for who in ("tuned", "published"):
        run = runs.get(f"{name} {who}")
        found[who] = run["result"]["seconds"] if run and run["result"] else None
    return found



def times(ours, theirs):
    return "-" if theirs is None else f"{1e3 * theirs:.4g} ms ({theirs / ours:.2f})"


def step_section(runs, is_h200):
    rows = []
    for name, run in sorted(runs.items()):
        if run["kind"] != "step" or run["who"] != "excon":
            continue
        label = name.replace("step ", "")
        if not run["result"]:
            rows.append([label, "failed: " + run["failed"].replace("|", "/")] + ["-"] * 6)
            continue
        r, peers = run["result"], peers_of(runs, name)
        floor = STEP_FLOORS_MS.get((r["method"], r["model"], r["size"])) if r["batch"] == FLOOR_BATCH else None
        share = percent(floor / (1e3 * r["seconds"])) if floor and is_h200 else "-"
        rows.append([label, f"{1e3 * r['seconds']:.4g} ms", number(r["images_per_s"]), f"{number(r['device_mb'])} MB",
                     f"{floor:.3g} ms" if floor else "-", share, times(r["seconds"], peers["tuned"]),
                     times(r["seconds"], peers["published"])])
    return table(["step", "time", "images/s", "device memory", FLOOR_SOURCE, "share of it", "PyTorch tuned (times ours)",
                  "published way (times ours)"], rows)


def loss_section(runs, is_h200):
    rows = []
    losses = [run for run in runs.values() if run["kind"] == "loss" and run["who"] == "excon"]
    for run in sorted(losses, key=lambda run: int(run["name"].split()[1])):
        if not run["result"]:
            rows.append([run["name"], "failed: " + run["failed"].replace("|", "/")] + ["-"] * 5)
            continue
        r, peer = run["result"], peers_of(runs, run["name"])["published"]
        floor = LOSS_FLOORS_MS.get(r["rows"]) if r["dim"] == 128 else None
        rows.append([run["name"].replace("loss ", ""), f"{1e3 * r['seconds']:.4g} ms", number(r["gflop_s"] / 1e3) + " TFLOP/s",
                     f"{number(r['extra_mb'])} MB", f"{floor:.3g} ms" if floor else "-",
                     percent(floor / (1e3 * r["seconds"])) if floor and is_h200 else "-", times(r["seconds"], peer)])
    return table(["rows", "time", "rate", "extra memory", FLOOR_SOURCE, "share of it", "published way (times ours)"], rows)


def profile_section(runs):
    text = ""
    for run in runs.values():
        result = run["result"]
        if run["kind"] != "profile" or not result:
            continue
        rows = [[f"`{k['kernel']}`".replace("|", "/"), k["launches"], f"{1e3 * k['seconds']:.4g} ms", percent(k["share"])]
                for k in result["kernels"][:PROFILE_ROWS]]
        text += (f"{run['name'].replace('profile ', '')}, one step: {result['launches']} kernels, "
                 f"{1e3 * result['seconds']:.4g} ms one after the other; the longest:\n\n"
                 + table(["kernel", "launches", "time", "share"], rows))
    return text or "(not measured)\n"


def train_section(runs):
    lines = []
    for run in runs.values():
        if run["kind"] == "train" and run["result"]:
            lines.append(f"A short ExCon run in bf16 on the synthetic dataset of four classes (chance 25 %) reached "
                         f"{100 * run['result']['top1']:.1f} % top-1 on {run['result'].get('count', '?')} validation images.\n")
    return "\n".join(lines) or "(not measured)\n"


def page(host, stages, runs, mode):
    is_h200 = "H200" in host["gpu"]
    revisions = sorted({run["revision"] for run in runs.values()})
    head = (f"Measured on {host['date'][:10]} on **{host['gpu']}** ({host['memory']}, driver {host['driver']}), host "
            f"{host['cpu']}, {host['system']}; revision {', '.join(revisions) or '-'}; PyTorch {host['torch'] or 'not here'}.{' ' + host['transport'] + '.' if host['transport'] else ''}\n")
    if mode != "cuda":
        head = f"**A try-out of the scripts ({mode}). Not a measurement of any GPU.**\n"
    return f"""# GPU results

{head}
Written by `scripts/gpu_table.py` from what `scripts/gpu_check.sh` measured; docs/gpu.md says how to repeat it. Times are medians.

## Checks

{stage_table(stages)}
{train_section(runs)}
## Training steps

bf16, {FLOOR_BATCH} images a step, synthetic views already on the device. Floors are computed, not measured, and a share of
one is shown for an H200 only.

{step_section(runs, is_h200)}
## Contrastive loss, forward and gradient

{loss_section(runs, is_h200)}
## Operators

{ops_section(runs)}
## Kernels of one step

By ncu, of a step whose kernels are launched one by one.

{profile_section(runs)}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="gpu-check.json")
    parser.add_argument("--out", default="docs/gpu-results.md")
    parser.add_argument("--try-out", action="store_true")
    options = parser.parse_args()
    host, stages, runs, mode = load(options.files)
    if mode != "cuda" and not options.try_out:
        sys.exit(f"gpu_table: these are results of --{mode}, not of a GPU; --try-out shows the page without keeping it")
    text = page(host, stages, runs, mode)
    if options.try_out:
        print(text, end="")
        return
    with open(options.out, "w") as out:
        out.write(text)
    print(f"gpu_table: wrote {options.out}")


if __name__ == "__main__":
    main()
