"""Whole trainings followed in float64: from the initial checkpoint on, with the order of samples, the views, the steps, the
classifier's passes and the evaluation computed here; and the initial parameters themselves."""

import glob
import json
import math
import os
import shutil
from dataclasses import replace

import h5py
import numpy as np
import torch
import torch.nn.functional as F

from judge import FACTOR, Fault, Unclear, array, distance, judge
from probe_cases import mg, ref, vg
from program import draw_where, sets
from run_cases import datasets, digest, prepare, train

ORDER, SPLIT = 2, 3
OTHERS = 2


class Words:
    """The words of one Philox stream, in order."""

    def __init__(self, seed, stream, low):
        self.key, self.low, self.index, self.words = (seed + 0x9E3779B97F4A7C15 * stream) & vg.MASK64, low, 0, []

    def next(self):
        if not self.words:
            self.words = vg.philox4x32_10([self.low & vg.MASK32, self.low >> 32, 0, self.index],
                                          [self.key & vg.MASK32, self.key >> 32])
            self.index += 1
        return self.words.pop(0)

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = vg.below(self.next(), i + 1)
            items[i], items[j] = items[j], items[i]


def order(ids, chunk, window, seed, epoch):
    """Blocks of storage positions are shuffled, then the samples of every `window` blocks."""
    words, blocks = Words(seed, ORDER, epoch), {}
    for i in ids:
        blocks.setdefault(i // chunk, []).append(i)
    blocks = list(blocks.values())
    words.shuffle(blocks)
    out = []
    for first in range(0, len(blocks), window):
        part = [i for block in blocks[first:first + window] for i in block]
        words.shuffle(part)
        out += part
    return out


def hold_out(labels, share, seed):
    """(trained on, held out): of every class the samples with the lowest tickets."""
    held = set()
    for label in set(labels):
        own = [i for i in range(len(labels)) if labels[i] == label]
        def ticket(i):
            words = Words(seed, SPLIT, i)
            return words.next() << 32 | words.next(), i
        count = int(share * len(own) + 0.5)
        if share > 0:
            count = 0 if len(own) == 1 else max(count, 1)
        held.update(sorted(own, key=ticket)[:count])
    return [i for i in range(len(labels)) if i not in held], sorted(held)


class Data:
    def __init__(self, folder):
        with h5py.File(os.path.join(folder, "index.h5")) as index:
            self.mean, self.std = (tuple(float(v) for v in index.attrs[name]) for name in ("mean", "std"))
            self.chunk = int(index["train/chunk_rows"][0])
        self.images, self.labels = {}, {}
        for split in ("train", "val"):
            shards = [h5py.File(path) for path in sorted(glob.glob(os.path.join(folder, split + "-*.h5")))]
            self.images[split] = np.concatenate([shard["images"][()] for shard in shards])
            self.labels[split] = np.concatenate([shard["labels"][()] for shard in shards])

    def views(self, ids, kind, seed, epoch, view):
        spec = vg.spec_of(kind=kind, seed=seed, epoch=epoch, view=view, mean=self.mean, std=self.std)
        side = self.images["train"].shape[1]
        made = [vg.view_of(self.images["train"][i], spec, vg.draw(spec, i, side, side)) for i in ids]
        return torch.tensor(np.stack(made)).permute(0, 3, 1, 2)


def load_checkpoint(path, encoder, width, projection, classes):
    model = ref.Model(encoder, width, projection, classes)
    with h5py.File(path) as file:
        state = {name: torch.tensor(file[f"model/{name}"][()]) for name in mg.state_of(model)}
    model.load_state_dict(state, strict=False)
    return model


def draw_training(rng, program):
    folder, classes, side, each = rng.choice([made for made in datasets(program) if made[1] > 2])
    case = {"method": rng.choice(["ce", "simclr", "supcon", "excon", "exconb"]), "profile": rng.choice(["official", "recommended"]),
            "encoder": "resnet10", "width": rng.choice([4, 5, 6]), "classes": classes, "side": side, "seed": rng.randrange(10000),
            "epochs": rng.choice([1, 2]), "batch": rng.choice([8, 11, 16]), "holdout": rng.choice([0, 0.2]),
            "window": rng.choice([1, 2, 64]), "lr": rng.choice([0.003, 0.02]), "momentum": 0.9, "weight_decay": 1e-4,
            "temperature": rng.choice([0.1, 0.5]), "layer": rng.choice([0, 3, 4]), "start": rng.choice([0, 2]),
            "augment": rng.choice(["none", "crop-flip"]), "folder": folder}
    case["background"] = rng.choice(["denominator", "class"]) if case["method"] == "exconb" else "none"
    case["joint"] = case["profile"] == "recommended"
    return case


def lines_of(case):
    method = case["method"]
    lines = [f"data.dir={case['folder']}", f"profile={case['profile']}", f"method={method}", f"model.encoder={case['encoder']}",
             f"model.width={case['width']}", "model.projection=16", f"seed={case['seed']}", f"train.epochs={case['epochs']}",
             f"train.batch={case['batch']}", "train.log_every=1", f"data.holdout={case['holdout']}", "eval.selection=val" if
             not case["holdout"] else "eval.selection=holdout", f"data.shuffle_window={case['window']}", f"optim.lr={case['lr']}",
             f"loss.temperature={case['temperature']}", f"explain.layer={'layer%d' % case['layer'] if case['layer'] else 'auto'}",
             f"start_epoch={case['start']}", "checkpoint.keep=1", "eval.every_epochs=0"]
    if method == "exconb":
        lines.append(f"background.mode={case['background']}")
    if method != "ce" and not case["joint"]:
        lines.append(f"classifier.augment={case['augment']}")
    return lines


def learning_rate(case, epoch):
    low = case["lr"] * 0.001
    return low + (case["lr"] - low) * (1 + math.cos(math.pi * epoch / case["epochs"])) / 2


def follow(model, data, case, dtype):
    """The losses of all steps and what remains of the model."""
    model = mg.in_precision(model, dtype)
    settings = ref.Settings(**{k: v for k, v in case.items() if k in ref.Settings.__dataclass_fields__})
    labels = data.labels["train"]
    ids = hold_out(labels, case["holdout"], case["seed"])[0] if case["holdout"] else list(range(len(labels)))
    optimiser = ref.make_optimiser(model, settings)
    own = torch.optim.SGD(model.classifier.parameters(), lr=case["lr"], momentum=0.9, weight_decay=1e-4)
    losses, decisions = [], []
    for epoch in range(1, case["epochs"] + 1):
        masking = epoch >= case["start"]
        now = settings if masking or settings.method not in ("excon", "exconb") else replace(settings, method="supcon")
        for group in optimiser.param_groups + own.param_groups:
            group["lr"] = learning_rate(case, epoch)
        todo = order(ids, data.chunk, case["window"], case["seed"], epoch)
        for first in range(0, len(todo), case["batch"]):
            part = todo[first:first + case["batch"]]
            views = {"random": data.views(part, vg.RANDOM, case["seed"], epoch, 2)}
            if case["method"] != "ce":
                views["backup"] = data.views(part, vg.RANDOM, case["seed"], epoch, 1)
            if case["method"] in ("excon", "exconb"):
                views["standard"] = data.views(part, vg.STANDARD, case["seed"], epoch, 0)
            batch = {**{name: value.to(dtype) for name, value in views.items()}, "labels": torch.tensor(labels[part]).long()}
            loss, found, _gradients = ref.step(model, optimiser, batch, now)
            losses.append(float(loss))
            decisions += [] if found is None else [tuple(found.accept.tolist()), float(found.mask.sum())]
        if case["method"] == "ce" or case["joint"]:
            continue
        model.eval()
        todo = order(ids, data.chunk, case["window"], case["seed"], epoch + 0x40000000)
        for first in range(0, len(todo), case["batch"]):
            part = todo[first:first + case["batch"]]
            images = data.views(part, vg.CROP_FLIP if case["augment"] == "crop-flip" else vg.STANDARD, case["seed"], epoch, 3).to(dtype)
            own.zero_grad()
            with torch.no_grad():
                features = model.encoder(images)
            loss = F.cross_entropy(model.classifier(features), torch.tensor(labels[part]).long())
            loss.backward()
            own.step()
            losses.append(float(loss))
    return {"losses": torch.tensor(losses, dtype=torch.float64), "decisions": decisions,
            **{f"model/{name}": value for name, value in mg.state_of(model).items()}}


def training(rng, program, levels):
    prepare(program)
    where, case = draw_where(rng, levels, 3), draw_training(rng, program)
    lines = lines_of(case)
    folder = program.file("first")
    shutil.rmtree(folder, ignore_errors=True)
    program.run(["train", program.file("empty.yaml"), *sets(lines + [f"run.dir={folder}", "train.epochs=0"])], where)
    start = load_checkpoint(os.path.join(folder, "checkpoints/last.h5"), case["encoder"], case["width"], 16, case["classes"])
    records = train(program, "first", lines, where)
    got = {"losses": np.array([record["loss"] if "loss" in record else record["classifier_loss"]
                               for record in records if record["event"] == "step"])}
    with h5py.File(os.path.join(folder, "checkpoints/last.h5")) as file:
        got.update({f"model/{name}": file[f"model/{name}"][()] for name in mg.state_of(start)})
    data = Data(case["folder"])
    exact = follow(start, data, case, torch.float64)
    others = [follow(start, data, case, torch.float32)] + [follow(mg.perturbed(start, 2e-7), data, case, torch.float64) for _ in range(OTHERS)]
    shaky = any(other["decisions"] != exact["decisions"] for other in others)
    exact.pop("decisions")
    drift = max(distance(other["losses"], exact["losses"]) for other in others)
    try:
        # A training is a chain of steps: a ReLU that changes sides early is felt by all that follow.
        judge({"losses": got["losses"][:1]}, {"losses": exact["losses"][:1]}, [{"losses": other["losses"][:1]} for other in others])
        judge(got, exact, others, FACTOR, 2e-5)
    except Fault as fault:
        if shaky or drift > 1e-3:
            raise Unclear("a decision hangs on rounding") from fault
        raise
    return case, where


def evaluation(rng, program, levels):
    """`excon eval` of a trained model against the reference's numbers, any rank count and batch."""
    prepare(program)
    where, case = draw_where(rng, levels, 3), draw_training(rng, program)
    train(program, "first", lines_of(case), where)
    path = program.file("first/checkpoints/last.h5")
    model = load_checkpoint(path, case["encoder"], case["width"], 16, case["classes"])
    text = program.run(["eval", program.file("first"), "--json", "--checkpoint", "last", "--set", f"eval.batch={rng.randint(1, 20)}"], where)
    got = json.loads(text[text.index("{"):])
    data = Data(case["folder"])
    inputs = {"images": torch.tensor(data.images["val"]), "labels": torch.tensor(data.labels["val"]).long()}
    kept, settings = (ref.MEAN, ref.STD), ref.Settings(layer=case["layer"])
    ref.MEAN, ref.STD = data.mean, data.std
    try:
        run = lambda net, dtype: mg.run_eval(net, inputs, settings, dtype, False)[""]
        exact, others = run(model, torch.float64), [run(model, torch.float32)] + [run(mg.perturbed(model), torch.float64) for _ in range(3)]
    finally:
        ref.MEAN, ref.STD = kept
    close = closest_pixel(model, inputs, settings, data)
    for name, want in exact.items():
        want, spread = float(want), max(abs(float(other[name]) - float(want)) for other in others)
        ties = 1.01 / len(inputs["labels"]) if name.endswith(("increase", "decrease")) else 0.0  # by the last bit
        if not abs(got[name] - want) <= 10 * spread + 1e-5 * max(abs(want), 1e-2) + ties:
            if name in ("drop", "gain", "increase", "decrease") and close < 1:
                raise Unclear("a kept pixel hangs on rounding")
            if spread > 1e-3 * abs(want):
                raise Unclear("a predicted class hangs on rounding")
            raise Fault(f"{name} is {got[name]}, not {want} (others: {spread:.3g}; closest pixel: {close:.3g})")
    return case, where


def closest_pixel(model, inputs, settings, data):
    """How far the last pixel kept is above the first one dropped, in twenty times what rounding does to that image's map."""
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (data.mean, data.std))
    images = (inputs["images"].permute(0, 3, 1, 2).double() / 255 - mean) / std

    def maps(net, dtype):
        net = mg.in_precision(net, dtype).eval()
        classes = net.classifier(net.encoder(images.to(dtype))).argmax(dim=1)
        cam = ref.grad_cam(net, images.to(dtype), classes, settings.layer)
        return F.interpolate(cam[:, None], size=images.shape[-1], mode="bilinear", align_corners=False)[:, 0].flatten(1).double()

    exact = maps(model, torch.float64)
    spread = torch.stack([(maps(net, dtype) - exact).abs().amax(dim=1) for net, dtype in
                          [(model, torch.float32)] + [(mg.perturbed(model), torch.float64) for _ in range(3)]]).amax(dim=0)
    ordered, keep = exact.sort(dim=1, descending=True).values, int(ref.KEEP_SHARE * exact.shape[1])
    return float(((ordered[:, keep - 1] - ordered[:, keep]) / (20 * spread + 1e-300)).min())


def initial(rng, program, levels):
    """The published initialisation: by its moments, equal on every rank, another one from another seed."""
    prepare(program)
    where, case = draw_where(rng, levels, 3), draw_training(rng, program)
    case.update(width=rng.choice([4, 7, 16, 24]), encoder=rng.choice(["resnet10", "resnet18", "resnet50"]), epochs=0, start=0)
    train(program, "first", lines_of(case), where)
    train(program, "second", lines_of({**case, "seed": case["seed"] + 1}), where)
    if digest(program, "first") == digest(program, "second"):
        raise Fault("two seeds, one model")
    model = load_checkpoint(program.file("first/checkpoints/last.h5"), case["encoder"], case["width"], 16, case["classes"])
    for name, value in mg.state_of(model).items():
        value = array(value)
        if value.ndim == 4:
            bound, spread = math.inf, math.sqrt(2 / (value.shape[0] * value.shape[2] * value.shape[3]))
        elif value.ndim == 2 or name in ("head.0.bias", "head.2.bias", "classifier.fc.bias"):
            inputs = value.shape[1] if value.ndim == 2 else array(mg.state_of(model)[name.replace("bias", "weight")]).shape[1]
            bound, spread = 1 / math.sqrt(inputs), 1 / math.sqrt(3 * inputs)
        else:
            constant = 1.0 if name.endswith(("weight", "running_var")) else 0.0
            if not (value == constant).all():
                raise Fault(f"{name} is not {constant}")
            continue
        n = value.size
        fourth = 3 if value.ndim == 4 else 1.8
        if abs(value).max() > bound * (1 + 1e-6) or abs(value.mean()) > 6 * spread / math.sqrt(n) or \
                abs((value**2).mean() - spread**2) > 6 * spread**2 * math.sqrt((fourth - 1) / n):
            raise Fault(f"{name}: mean {value.mean():.3g}, deviation {value.std():.3g}, largest {abs(value).max():.3g}; drawn with {spread:.3g}")
    return case, where


FAMILIES = {"training": training, "eval": evaluation, "initial": initial}
