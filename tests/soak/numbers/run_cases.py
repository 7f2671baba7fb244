"""Families of whole runs that need nothing but the program: equal runs give equal digests, whatever way the images take and
wherever they stop; other rank counts continue the same run; the learning rate and the numbering of steps."""

import json
import math
import os
import shutil

from judge_names import Fault
from program import draw_where, sets


def datasets(program):
    """Small ones of odd sizes, made once."""
    made = []
    for i, (classes, side, train, val) in enumerate([(3, 16, 11, 5), (4, 18, 9, 7), (2, 17, 13, 4), (7, 16, 5, 3)]):
        folder = program.file(f"data{i}")
        if not os.path.isdir(folder):
            program.run(["import", "synthetic", folder, "--classes", classes, "--size", side, "--train-per-class", train,
                         "--val-per-class", val], {"ranks": 1, "threads": 1})
        made.append((folder, classes, side, train))
    return made


def draw_run(rng, program):
    """(lines of configuration, facts about the run)."""
    folder, classes, side, each = rng.choice(datasets(program))
    method, profile = rng.choice(["ce", "simclr", "supcon", "excon", "exconb"]), rng.choice(["official", "recommended"])
    epochs, batch = rng.choice([1, 2, 3]), rng.randint(5, 13)
    holdout = rng.choice([0, 0.1, 0.25])
    lines = [f"profile={profile}", f"method={method}", f"data.dir={folder}", f"data.holdout={holdout}", f"seed={rng.randrange(1000)}",
             f"model.encoder={rng.choice(['resnet10', 'resnet10', 'resnet18'])}", f"model.width={rng.choice([4, 5, 8])}",
             f"model.projection={rng.choice([3, 16])}", f"train.epochs={epochs}", f"train.batch={batch}", "train.log_every=1",
             f"optim.lr={rng.choice([0.01, 0.05])}", f"optim.schedule={rng.choice(['cosine', 'constant'])}",
             f"data.shuffle_window={rng.choice([1, 2, 64])}", f"eval.every_epochs={rng.choice([0, 1])}"]
    if rng.random() < 0.4:
        warm = rng.randint(1, epochs)  # one as long as the run is refused on a cosine
        lines += ["optim.warmup=on", f"optim.warmup_epochs={warm}"] if warm < epochs else ["optim.warmup=off"]
    if method in ("excon", "exconb"):
        lines += [f"explain.method={rng.choice(['gradcam', 'gradcam', 'gradient'])}", f"start_epoch={rng.choice([0, 1, 2]) if epochs > 1 else 0}"]
    if method == "exconb":
        lines += [f"background.mode={rng.choice(['denominator', 'class'])}", f"background.max={rng.choice([0, 2])}"]
    if method != "ce" and profile == "official":
        lines.append(f"classifier.augment={rng.choice(['none', 'crop-flip'])}")
    facts = {"epochs": epochs, "batch": batch, "passes": 2 if profile == "official" and method != "ce" else 1}
    return lines, facts


def value_of(lines, key, default=None):
    found = [line.split("=", 1)[1] for line in lines if line.startswith(key + "=")]
    return found[-1] if found else default


def train(program, name, lines, where, stops=(), loaders=("auto",)):
    """Trains in the folder `name`, anew, stopping after each of `stops` steps; its step records."""
    folder = program.file(name)
    shutil.rmtree(folder, ignore_errors=True)
    for i, stop in enumerate([*stops, 0]):
        more = [f"run.dir={folder}", f"train.max_steps={stop}", f"data.loader={loaders[i % len(loaders)]}"]
        program.run(["train", program.file("empty.yaml"), *sets(lines + more)], where)
    with open(os.path.join(folder, "metrics.jsonl")) as file:
        return [json.loads(line) for line in file]


def digest(program, name):
    return program.run(["digest", program.file(f"{name}/checkpoints/last.h5")], {"ranks": 1, "threads": 1}).strip()


def prepare(program):
    with open(program.file("empty.yaml"), "w") as file:
        file.write("train: {log_every: 1}\n")


def twins(rng, program, levels):
    """The same run again: by another way of the images, and stopped at random steps."""
    prepare(program)
    where, (lines, facts) = draw_where(rng, levels, 3), draw_run(rng, program)
    loaders = ["stream", "memory", "device", "auto"]
    first = train(program, "first", lines, where, loaders=[rng.choice(loaders)])
    steps = sum(record["event"] == "step" for record in first)
    stops = sorted(rng.sample(range(1, steps), min(rng.choice([0, 1, 1, 2]), steps - 1)))
    second = train(program, "second", lines, where, stops, rng.sample(loaders, 4))
    if digest(program, "first") != digest(program, "second"):
        raise Fault(f"digests differ after stops at {stops} of {steps}")
    keep = ("event", "step", "epoch", "phase", "loss", "classifier_loss", "lr", "accept_rate", "background", "top1", "steps")
    if [[r.get(k) for k in keep] for r in first] != [[r.get(k) for k in keep] for r in second]:
        raise Fault(f"records differ after stops at {stops} of {steps}")
    return {"lines": lines, "stops": stops}, where


def schedule(rng, program, levels):
    """Learning rates, steps and epochs against their formulas, and the epochs' means against their steps."""
    prepare(program)
    where, (lines, facts) = draw_where(rng, levels, 2), draw_run(rng, program)
    records = train(program, "first", lines, where)
    steps = [record for record in records if record["event"] == "step"]
    epochs, passes, lr = facts["epochs"], facts["passes"], float(value_of(lines, "optim.lr"))
    batches = len(steps) // (epochs * passes)
    if len(steps) != epochs * passes * batches:
        raise Fault(f"{len(steps)} steps in {epochs} epochs")
    low = lr * 0.001
    cosine = lambda e: lr if value_of(lines, "optim.schedule") == "constant" else low + (lr - low) * (1 + math.cos(math.pi * e / epochs)) / 2
    warm = int(value_of(lines, "optim.warmup_epochs", 0))
    for i, record in enumerate(steps):
        epoch, within = i // (passes * batches) + 1, i % batches
        want = cosine(epoch)
        if epoch <= warm:
            want = 0.01 + ((epoch - 1) + within / batches) / warm * (cosine(warm) - 0.01)
        phase = "classifier" if i % (passes * batches) >= batches else "encoder"
        if (record["step"], record["epoch"], record["phase"]) != (i + 1, epoch, phase) or not math.isclose(record["lr"], want, rel_tol=1e-9):
            raise Fault(f"step {i + 1}: {record}, lr should be {want}")
    for epoch in range(1, epochs + 1):
        own = [record for record in steps if record["epoch"] == epoch]
        (done,) = [record for record in records if record["event"] == "epoch" and record["epoch"] == epoch]
        for key in ("loss", "classifier_loss"):
            values = [record[key] for record in own if key in record]
            if values and not math.isclose(done[key], sum(values) / len(values), rel_tol=1e-6, abs_tol=1e-9):
                raise Fault(f"epoch {epoch}: {key} {done[key]} is not the mean of {values}")
    return {"lines": lines}, where


def ranks(rng, program, levels):
    """A run that goes on with another rank count sees the same samples: its losses agree but for rounding."""
    prepare(program)
    where, (lines, facts) = draw_where(rng, levels, 1), draw_run(rng, program)
    lines = [line for line in lines if not line.startswith(("method=", "background.", "explain.", "start_epoch"))] + ["method=" + rng.choice(["ce", "supcon", "simclr"])]
    lines = [line for line in lines if not line.startswith("optim.lr=")] + ["optim.lr=0.01"]
    first = train(program, "first", lines, where)
    losses = [record.get("loss", record.get("classifier_loss")) for record in first if record["event"] == "step"]
    stop, other = rng.randint(1, max(1, len(losses) - 1)), rng.choice([2, 3, 4])
    folder = program.file("second")
    shutil.rmtree(folder, ignore_errors=True)
    for stop_at, count in ((stop, where["ranks"]), (stop + 3, other)):
        more = [f"run.dir={folder}", f"train.max_steps={stop_at}"]
        program.run(["train", program.file("empty.yaml"), *sets(lines + more)], {**where, "ranks": count})
    with open(os.path.join(folder, "metrics.jsonl")) as file:
        second = [json.loads(line) for line in file]
    again = [record.get("loss", record.get("classifier_loss")) for record in second if record["event"] == "step"]
    for i, (a, b) in enumerate(zip(losses, again)):
        if not math.isclose(a, b, rel_tol=2e-4 if i >= stop else 0, abs_tol=1e-6 if i >= stop else 0):
            raise Fault(f"step {i + 1}: loss {b} on {other} ranks after {stop}, {a} without a stop")
    return {"lines": lines, "stop": stop, "other": other}, where


FAMILIES = {"twins": twins, "schedule": schedule, "ranks": ranks}
