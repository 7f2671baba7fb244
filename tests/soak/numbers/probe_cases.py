"""Families that `excon probe` answers: the loss, the network, the explanation, a step, the random transform."""

import math
import os
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../scripts/golden"))
import make_golden as mg  # noqa: E402
import reference as ref  # noqa: E402
import views_golden as vg  # noqa: E402

from judge import Fault, Unclear, array, judge  # noqa: E402
from program import draw_where, sets  # noqa: E402

OTHERS = 3  # perturbed references, beside the one in float32


def write_inputs(path, inputs, model=None):
    with h5py.File(path, "w") as out:
        for name, value in inputs.items():
            out[name] = mg.stored(value)
        for name, value in (mg.state_of(model) if model else {}).items():
            out[f"model/{name}"] = mg.stored(value)


def read_outputs(path):
    found = {}
    with h5py.File(path) as got:
        got.visititems(lambda name, item: found.__setitem__(name, item[()]) if isinstance(item, h5py.Dataset) else None)
    return found


def probe(program, op, case, where, inputs, model, arguments=()):
    """Writes the case's files (they stay when it fails) and returns what the program answers."""
    source, out = program.file("in.h5"), program.file("out.h5")
    write_inputs(source, inputs, model)
    if os.path.exists(out):
        os.remove(out)
    weights = ["--weights", source] if model else []
    program.run(["probe", op, source, out, *weights, *sets(mg.config_lines(op, case) + case.get("sets", [])), *arguments], where)
    return read_outputs(out)


# ---- supcon ----------------------------------------------------------------------------------------------------------


def supcon(rng, program, levels):
    where = draw_where(rng, levels)
    method = rng.choice(["supcon", "simclr", "exconb", "excon"])
    n, dim = rng.randint(1, rng.choice([4, 20, 90, 300])), rng.choice([1, 2, 3, 7, 16, 33, 64, 128, 130])
    case = {"method": method, "temperature": round(10 ** rng.uniform(-2, 0.3), 4), "base_temperature": rng.choice([0.07, 0.5]),
            "background": rng.choice(["none", "denominator", "class"]) if method in ("exconb", "simclr") else "none",
            "real": rng.randint(1, n)}
    case["sets"] = [f"loss.base_temperature={case['base_temperature']}"]
    kind = rng.choice(["random", "near", "equal", "saturated"])
    labels = torch.randint(rng.choice([1, 2, 5, 200]), (n,))
    z = torch.randn(2 * n, dim)
    if kind == "near":
        z = torch.randn(1, dim) + 0.05 * z
    elif kind == "equal":
        z = torch.randn(1, dim).expand(2 * n, dim).clone()
    elif kind == "saturated":
        z = torch.randn(n, dim).repeat(2, 1)
    z, settings = F.normalize(z, dim=1), ref.Settings(**{k: v for k, v in case.items() if k not in ("real", "sets")})
    inputs = {"z": z, "labels": labels, "real": torch.tensor([case["real"]])}
    real = case["real"] if case["background"] != "none" else n
    if case["background"] == "none":
        inputs["real"] = torch.tensor([n])

    def answer(rows):
        rows = rows.requires_grad_()
        own = torch.arange(n) if method == "simclr" else labels
        if case["background"] == "class" and method == "simclr":
            groups = own.repeat(2)
        else:
            extra = 10**6 if case["background"] == "class" else -1
            groups = torch.where(torch.arange(n) < real, own, extra).repeat(2)
        anchors = 2 * (n if case["background"] == "class" else real)
        loss = ref.contrastive_loss(rows, groups, anchors, settings)
        (gradient,) = torch.autograd.grad(loss, rows)
        lse = ref.log_denominators(rows, settings.temperature)[1].detach()
        lse[ref.positives(groups).sum(dim=1) == 0] = torch.nan
        return {"loss": loss.detach()[None], "grad": gradient, "lse": lse}

    got = probe(program, "supcon", case, where, inputs, None)
    # The program is given float32 rows as they are; a loss is compared with what its terms, s / T, are rounded to.
    exact, single = answer(z.double()), answer(z.clone())
    others = [single] + [answer(z.double() * (1 + 3e-8 * torch.randn(2 * n, dim).double())) for _ in range(OTHERS)]
    resolution = 2.0**-23 / settings.base_temperature
    if got["loss"][0] < 0 and kind != "random" and case["background"] == "none":
        raise Fault(f"a loss of {got['loss'][0]}")
    for name in ("loss",):
        off = abs(float(got[name][0]) - float(exact[name][0]))
        spread = max(abs(float(other[name][0]) - float(exact[name][0])) for other in others)
        allowed = 10 * spread + 4 * resolution + 3e-6 * abs(float(exact[name][0]))
        if not off <= allowed:
            raise Fault(f"loss {got[name][0]!r} is off by {off:.3g}, allowed {allowed:.3g}")
    tops = {name: exact[name] for name in ("lse",)}
    judge(got, tops, others)
    # Gradients that cancel are measured by the terms they are made of: T/T0 / (A T) each.
    scale = math.sqrt(2 * n) / (settings.base_temperature * max(1, 2 * real))
    off = float(np.linalg.norm(array(got["grad"]) - array(exact["grad"])))
    spread = max(float(np.linalg.norm(array(other["grad"]) - array(exact["grad"]))) for other in others)
    if not off <= 10 * spread + 3e-6 * float(np.linalg.norm(array(exact["grad"]))) + 2e-6 * scale / settings.temperature:
        raise Fault(f"grad is off by {off:.3g}, others by {spread:.3g}, terms of {scale:.3g}")
    return case, where


# ---- encode, explain, step ---------------------------------------------------------------------------------------------


def network(rng, side_most=24, deep=True):
    """A random net, image side and number of images."""
    encoder = rng.choice(["resnet10", "resnet10", "resnet10", "resnet18", "resnet50"] if deep else ["resnet10", "resnet10", "resnet18"])
    return {"encoder": encoder, "width": rng.choice([4, 4, 5, 6, 7, 8, 11]), "side": rng.randint(8, side_most),
            "n": rng.randint(1, 9), "classes": mg.CLASSES}


def make_model(rng, case):
    seed = rng.randrange(1 << 31)
    model = mg.build_model(case["encoder"], case["width"], seed, case["classes"])
    torch.manual_seed(seed + 1)
    return model


def others_of(op, model, inputs, settings, run):
    """The reference in float32, and perturbed ones in float64."""
    single = run(mg.in_precision(model, torch.float32), mg.cast(inputs, torch.float32), settings)
    return [single] + [run(mg.perturbed(model), mg.cast(inputs, torch.float64), settings) for _ in range(OTHERS)]


def encode(rng, program, levels):
    where, case = draw_where(rng, levels), network(rng, 40)
    mode = rng.choice(["eval", "train"])
    model = make_model(rng, case)
    images = mg.make_images(case["n"], case["side"])
    kind = rng.choice(["random", "random", "flat", "large", "black"])
    if kind == "flat":
        images = images[:, :, :1, :1].expand(-1, -1, case["side"], case["side"]).clone()
    elif kind == "large":
        images = 20 * images
    elif kind == "black":
        images = ref.black(images).expand(case["n"], 3, case["side"], case["side"]).clone()
    inputs = {"images": images}
    case["kind"] = kind

    def run(net, batch, _settings):
        net.train(mode == "train")
        with torch.no_grad():
            features = net.encoder(batch["images"])
            return {"features": features, "z": net.embed(features), "logits": net.classifier(features)}

    if mode == "train" and case["n"] * (math.ceil(case["side"] / 8) ** 2) == 1:
        raise Unclear("one position has no variance")
    got = probe(program, "encode", case, where, inputs, model, ["--mode", mode])
    exact = run(mg.in_precision(model, torch.float64), mg.cast(inputs, torch.float64), None)
    judge(got, exact, others_of("encode", model, inputs, None, run))
    return {**case, "mode": mode}, where


def method_case(rng, op):
    case = network(rng, 20, deep=op == "explain")
    case["profile"] = rng.choice(["official", "recommended"])
    case["saliency"] = rng.choice(["gradcam", "gradcam", "gradient", "integrated"])
    if case["saliency"] == "integrated":
        case["steps"] = rng.choice([1, 2, 3, 5])
    case["threshold"] = rng.choice([0.5, 0.5, 0.3, 0.8])
    case["fill"], case["target"] = rng.choice(["mean", "black"]), rng.choice(["label", "label", "predicted"])
    case["rule"] = rng.choice(["correct", "correct", "always", "never"])
    if rng.random() < 0.8:
        case["layer"] = rng.choice([1, 2, 3, 4])
    case["relu"] = rng.random() < 0.2
    if rng.random() < 0.3:
        case["bn"] = rng.choice(["batch", "running"])
    case["update"] = ref.Settings(profile=case["profile"], bn=case.get("bn", "")).batch_statistics and rng.random() < 0.7
    return case


def settings_of(case):
    return ref.Settings(**{k: v for k, v in case.items() if k in ref.Settings.__dataclass_fields__})


def lines_of(case):
    """What config_lines leaves to the defaults."""
    lines = [f"explain.update_running_stats={str(case['update']).lower()}"]
    return lines + [f"optim.{key}={case[key]}" for key in ("lr", "momentum", "weight_decay") if key in case]


def unclear_pixels(exact, others, side, threshold):
    """Mask pixels within twenty times the others' spread of the threshold."""
    scaled = ref.scale_cam(exact["cam"], side)
    spread = torch.stack([(ref.scale_cam(other["cam"].double(), side) - scaled).abs() for other in others]).amax(dim=0)
    return (scaled - threshold).abs() <= 20 * spread.amax(dim=(1, 2), keepdim=True) + 1e-6


def explain(rng, program, levels):
    where, case = draw_where(rng, levels), method_case(rng, "explain")
    ranks = where["ranks"]
    if ranks > 1 and rng.random() < 0.5:
        case["ranks"] = ranks
    case["sets"] = lines_of(case)
    model, settings = make_model(rng, case), settings_of(case)
    if settings.batch_statistics and max(1, case["n"] // settings.ranks) * math.ceil(case["side"] / 8) ** 2 <= 1:
        raise Unclear("one position has no variance")
    inputs = {"images": mg.make_images(case["n"], case["side"]), "targets": torch.randint(mg.CLASSES, (case["n"],))}
    inputs["mean"], inputs["std"] = torch.tensor(ref.MEAN), torch.tensor(ref.STD)

    def run(net, batch, wanted):
        parts = {name: batch[name] for name in ("images", "targets")}
        found = ref.together(ref.on_ranks(net, parts, wanted.ranks,
                                          lambda part: ref.explain(net, part["images"], part["targets"], wanted)))
        return {"cam": found.cam, "mask": found.mask, "masked_logits": found.masked_logits, "accept": found.accept}

    got = probe(program, "explain", case, where, inputs, model)
    exact = run(mg.in_precision(model, torch.float64), mg.cast(inputs, torch.float64), settings)
    others = others_of("explain", model, inputs, settings, run)
    judge(got, {"cam": exact["cam"]}, others)
    unclear = unclear_pixels(exact, others, case["side"], settings.threshold)
    mask = torch.tensor(got["mask"])
    wrong = (mask != exact["mask"].int()) & ~unclear
    if wrong.any():
        raise Fault(f"mask: {int(wrong.sum())} clear pixels of {wrong.numel()} differ")

    # What follows from a mask, from the program's own: the masked image, its logits, the decision.
    def masked(net, batch, wanted):
        parts = {"images": batch["images"], "mask": mask.to(batch["images"].dtype)}

        def logits(part):
            net.train(wanted.batch_statistics)
            with torch.no_grad():
                images = ref.blank(part["images"], part["mask"], wanted)
                return images, net.classifier(net.encoder(images))

        results = ref.on_ranks(net, parts, wanted.ranks, logits)
        return {name: torch.cat([result[i] for result in results]) for i, name in enumerate(("masked", "masked_logits"))}

    exact = masked(mg.in_precision(model, torch.float64), mg.cast(inputs, torch.float64), settings)
    others = others_of("explain", model, inputs, settings, masked)
    judge(got, exact, others)
    logits = torch.tensor(got["masked_logits"])
    accept = logits.argmax(dim=1) == inputs["targets"] if settings.rule == "correct" else torch.full((case["n"],), settings.rule == "always")
    if not torch.equal(accept.int(), torch.tensor(got["accept"])):
        raise Fault("accept does not follow from the masked logits")
    return case, where


def step(rng, program, levels):
    where, case = draw_where(rng, levels), method_case(rng, "step")
    case["method"] = rng.choice(["ce", "simclr", "supcon", "excon", "exconb", "exconb"])
    case["temperature"] = rng.choice([0.05, 0.1, 0.5])
    case["lr"], case["momentum"] = rng.choice([0.003, 0.05]), rng.choice([0.0, 0.9])
    case["weight_decay"] = rng.choice([0.0, 1e-4, 0.01])
    if case["method"] == "exconb":
        case["background"] = rng.choice(["none", "denominator", "class"])
        case["source"] = rng.choice(["rejected", "complement"])
        case["most"] = rng.choice([0, 0, 1, 3])
    if case["method"] in ("excon", "exconb"):
        case["view"] = rng.choice(["standard", "standard", "random"])
    if where["ranks"] > 1 and rng.random() < 0.5:
        case["ranks"] = where["ranks"]
        case.pop("most", None)  # over all ranks together, which the reference's parts do not know of
    if case["method"] != "ce" and case["n"] == 1:
        case["n"] = 2  # two rows alone have a loss of nothing
    case["sets"], steps = lines_of(case), rng.choice([1, 1, 2])
    model, settings = make_model(rng, case), settings_of(case)
    inputs = mg.make_inputs("step", case, model)
    whole = {**inputs, "mean": torch.tensor(ref.MEAN), "std": torch.tensor(ref.STD)}
    if min(len(part["labels"]) for part in ref.split(inputs, settings.ranks)) * math.ceil(case["side"] / 8) ** 2 < 4:
        raise Unclear("batch norm over so few positions is all rounding")

    def run(net, batch, wanted):
        optimiser = ref.make_optimiser(net, wanted)
        found, losses = {}, []
        for i in range(steps):
            loss, explanation, gradients = ref.step(net, optimiser, batch, wanted)
            losses.append(loss.detach())
            if i == 0:
                found = {"loss": loss.detach()[None], **{f"grad/{name}": value for name, value in gradients.items()}}
                if explanation is not None:
                    found["accept"] = explanation.accept.int()
                    found["decided"] = explanation.mask
        found.update({f"param/{name}": value for name, value in mg.state_of(net).items()})
        if steps > 1:
            found["losses"] = torch.stack(losses)
        return found

    got = probe(program, "step", case, where, whole, model, ["--steps", str(steps)])
    exact = run(mg.in_precision(model, torch.float64), mg.cast(inputs, torch.float64), settings)
    others = others_of("step", model, inputs, settings, run)
    decisions = [name for name in ("accept", "decided") if name in exact]
    shaky = any(not torch.equal(other[name].double(), exact[name].double()) for other in others for name in decisions)
    accept = exact.pop("accept", None)
    exact.pop("decided", None)
    try:
        if accept is not None and not np.array_equal(accept.numpy(), got["accept"]):
            raise Fault(f"accept is {got['accept'].tolist()}, not {accept.tolist()}")
        judge(got, exact, others)
    except Fault as fault:
        if shaky:
            raise Unclear("a decision hangs on rounding") from fault
        raise
    return {**case, "times": steps}, where


# ---- augment -----------------------------------------------------------------------------------------------------------


def augment(rng, program, levels):
    where = draw_where(rng, levels, 2)
    n, side, epoch, view, seed = rng.randint(1, 12), rng.randint(8, 40), rng.randint(1, 300), rng.choice([1, 2]), rng.randrange(1 << 40)
    low = round(rng.uniform(0.05, 1), 3)
    numbers = {"scale": (low, round(rng.uniform(low, 1), 3)), "probability": tuple(rng.choice([0.0, 0.3, 0.8, 1.0]) for _ in range(3)),
               "strength": tuple(round(rng.uniform(0, 1), 3) for _ in range(3)) + (round(rng.uniform(0, 0.5), 3),)}
    spec = vg.spec_of(seed=seed, epoch=epoch, view=view, mean=ref.MEAN, std=ref.STD, **numbers)
    generator = np.random.default_rng(rng.randrange(1 << 31))
    images = vg.test_images(n, side, side, generator)
    ids = [int(i) for i in generator.integers(0, 1 << 31, n)]
    source, out = program.file("in.h5"), program.file("out.h5")
    with h5py.File(source, "w") as file:
        file["images"], file["ids"] = images, np.array(ids, dtype=np.int32)
        file["mean"], file["std"] = np.float32(ref.MEAN), np.float32(ref.STD)
    names = ["scale_min", "scale_max", "flip_probability", "jitter_probability", "grey_probability", "brightness", "contrast",
             "saturation", "hue"]
    values = [*numbers["scale"], *numbers["probability"], *numbers["strength"]]
    lines = [f"augment.{name}={value}" for name, value in zip(names, values)] + [f"seed={seed}"]
    if os.path.exists(out):
        os.remove(out)
    program.run(["probe", "augment", source, out, "--epoch", epoch, "--view", view, *sets(lines)], where)
    got = read_outputs(out)
    drawn = [vg.draw(spec, i, side, side) for i in ids]
    for name, key in (("crop", "crop"), ("flip", "flip"), ("jittered", "jittered"), ("grey", "grey"), ("jitter_order", "order")):
        if not np.array_equal(got[name], np.array([d[key] for d in drawn])):
            raise Fault(f"{name} is {got[name].tolist()}")
    if not np.allclose(got["jitter"], np.array([d["jitter"] for d in drawn]), rtol=2e-7, atol=0):
        raise Fault("jitter factors differ")
    want = np.stack([vg.view_of(image, spec, d) for image, d in zip(images, drawn)]).transpose(0, 3, 1, 2)
    # Hue has corners where two channels tie: a pixel may go either way there.
    off = np.abs(got["out"] - want)
    if (off > 2e-4).sum() > (0 if spec["strength"][3] == 0 else 0.002 * off.size + 3):
        raise Fault(f"pixels: {(off > 2e-4).sum()} of {off.size} are off, by up to {off.max():.3g}")
    return {"side": side, "n": n, **numbers}, where


FAMILIES = {"supcon": supcon, "encode": encode, "explain": explain, "step": step, "augment": augment}
