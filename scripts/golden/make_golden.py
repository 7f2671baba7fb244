"""Writes tests/golden/*.h5: inputs, initial model and expected outputs of `excon probe`, computed by reference.py in float64.

Layout of a file:
  attributes  probe (the operation), set (one --set value per line)
  /NAME       the operation's inputs, float32 or int32
  /model/NAME initial parameters and BN statistics, for --weights
  /expect/RUN one group per run of the program, attribute args (further arguments, separated by spaces), and below it the
              expected outputs under the names the program writes. A NaN among expected values says "not specified".
              Attribute ranks (integer): what is expected holds for so many ranks; without it, for any number.
              Attribute tolerance of a dataset: the relative L2 distance allowed, in place of the test's own. encode-black
              has one of a few times what float32 in the same code is off: batch norm of images without any contrast.

Files eval-*.h5 are for `excon eval`: attributes encoder and set; /images uint8 NHWC, /labels, /mean, /std, /model/NAME, and
one number under /expect for each that it prints.

Seeds are searched until no decision is close: no mask pixel within MASK_MARGIN of the threshold, no masked logit gap below
LOGIT_MARGIN, no ReLU input within KINK_MARGIN of zero, some images accepted and some rejected, and float32 arithmetic in the
same code agrees with float64 to DRIFT, the ten losses move by less than PERTURBED_DRIFT when the parameters start off by
PERTURBATION, about what another order of float32 additions amounts to.

With precision=bf16 float64 is still what is expected. How far the program may be off is measured: the same code in float64,
but rounding to bf16 what the program stores as bf16 (images, convolution weights, activations, and their gradients), starting
off by BF16_PERTURBATION to round differently each time. A tensor's tolerance is BF16_MARGIN times the worst of BF16_RUNS such
runs. Most of it is ReLU inputs near zero that change sides: 2^-9 of them per layer, each with its whole gradient, make ten to
thirty percent of a gradient's length in ten layers; sums over few positions fare worse. Seeds are searched until the decisions
are the same in every such run. A tensor whose tolerance reaches BF16_WORST, where a gradient left out would not be seen, is not
specified; nor are mask pixels that some run decides otherwise. Of the tensors at most the share BF16_LOST goes that way.

Usage: make_golden.py [FOLDER [NAME...]]"""

import copy
import itertools
import os
import sys
from dataclasses import replace

import h5py
import numpy as np
import torch
import torch.nn.functional as F

import reference as ref

MASK_MARGIN, LATER_MASK_MARGIN = 1e-4, 1e-5
LOGIT_MARGIN = 1e-3
CHANGE_MARGIN = 1e-4
KINK_MARGIN, EXPLAIN_KINK_MARGIN = 1e-6, 5e-6
DRIFT = 3e-5
PERTURBATION, PERTURBED_RUNS, PERTURBED_DRIFT = 5e-7, 4, 1e-5
BF16_PERTURBATION, BF16_RUNS, BF16_MARGIN, BF16_LEAST, BF16_WORST, BF16_LOST = 1e-3, 24, 2, 1e-4, 0.9, 0.15
LIMIT = 1 << 20
CLASSES, PROJECTION, BATCH, SIDE = 5, 16, 7, 16


class TooClose(Exception):
    """A decision hangs on rounding; another seed is needed."""


def build_model(encoder, width, seed, classes=CLASSES):
    """Random parameters that make every term count: BN weights and biases off 1 and 0, running statistics of real passes."""
    torch.manual_seed(seed)
    model = ref.Model(encoder, width, PROJECTION, classes)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(0.6 + 0.8 * torch.rand_like(module.weight))
                module.bias.copy_(0.2 * torch.randn_like(module.bias))
        model.classifier.fc.weight.mul_(3)
        model.train()
        for _ in range(20):
            model.encoder(make_images(16, SIDE))
    return model


def make_images(n, side):
    """Blobs with some noise, about normalised."""
    return F.interpolate(torch.randn(n, 3, 4, 4), size=side, mode="bicubic") + 0.2 * torch.randn(n, 3, side, side)


def make_batch(n, side):
    standard = make_images(n, side)
    near = lambda x: x.roll((int(torch.randint(side, (1,))), 2), dims=(2, 3)).flip(3) + 0.3 * torch.randn_like(x)
    labels = torch.randint(CLASSES, (n,))
    labels[1:2] = labels[0]
    return {"standard": standard, "random": near(standard), "backup": near(standard), "labels": labels}


def cast(batch, dtype):
    if dtype == torch.bfloat16:
        return {name: x.bfloat16().double() if x.is_floating_point() else x for name, x in batch.items()}
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}


class RoundBoth(torch.autograd.Function):
    """To bf16 and back; the gradient as well."""

    @staticmethod
    def forward(_ctx, x):
        return x.bfloat16().to(x.dtype)

    @staticmethod
    def backward(_ctx, gradient):
        return gradient.bfloat16().to(gradient.dtype)


class RoundValue(RoundBoth):
    """The value alone: weight gradients are float32 in the program."""

    @staticmethod
    def backward(_ctx, gradient):
        return gradient


def rounding_conv(module):
    def forward(x):
        weight = RoundValue.apply(module.weight)
        return RoundBoth.apply(F.conv2d(x, weight, None, module.stride, module.padding))

    return forward


def in_precision(model, dtype):
    """A copy that computes in dtype; for bfloat16 in float64 with rounding wherever the program stores bf16."""
    if dtype != torch.bfloat16:
        return copy.deepcopy(model).to(dtype)
    net = copy.deepcopy(model).double()
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.forward = rounding_conv(module)
        if isinstance(module, torch.nn.ReLU) and name.startswith("encoder.") or name.endswith("shortcut.1"):
            module.register_forward_hook(lambda _module, _inputs, output: RoundBoth.apply(output))
    return net


def watch_kinks(model):
    """Smallest |input| any ReLU sees, in a list of one; and the hooks to remove."""
    least = [float("inf")]

    def look(_module, inputs):
        least[0] = min(least[0], float(inputs[0].abs().min()))

    return least, [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, torch.nn.ReLU)]


def require_clear(found, settings, mask_margin):
    if float((found.scaled - settings.threshold).abs().min()) < mask_margin:
        raise TooClose("mask")
    top = found.masked_logits.topk(2, dim=1).values
    if float((top[:, 0] - top[:, 1]).min()) < LOGIT_MARGIN:
        raise TooClose("logits")


def state_of(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items() if "num_batches" not in name}


def run_step(model, batch, settings, dtype, check):
    """Expected outputs of the run `once`, and ten losses of the run `ten`. With local batch norm those hold for
    settings.ranks ranks, and the run `alone` for one."""
    runs = take_steps(model, batch, settings, dtype, check)
    if settings.ranks > 1:
        runs["alone"] = take_steps(model, batch, replace(settings, ranks=1), dtype, check)["once"]
    return runs


def take_steps(model, batch, settings, dtype, check):
    model, batch = in_precision(model, dtype), cast(batch, dtype)
    least, hooks = watch_kinks(model)
    optimiser = ref.make_optimiser(model, settings)
    losses, once = [], {}
    for i in range(10):
        loss, found, gradients = ref.step(model, optimiser, batch, settings)
        losses.append(loss)
        if found is not None and check:
            require_clear(found, settings, LATER_MASK_MARGIN if i else MASK_MARGIN)
            least_of_each = 2 if len(found.accept) > 3 else 1
            if i == 0 and settings.rule == "correct" and not least_of_each <= int(found.accept.sum()) <= len(found.accept) - least_of_each:
                raise TooClose("accept")
        if i > 0:
            continue
        if check and least[0] < KINK_MARGIN:
            raise TooClose("kink")
        for hook in hooks:
            hook.remove()
        once["loss"] = loss[None]
        if found is not None:
            once["accept"] = found.accept.int()
        once.update({f"grad/{name}": g for name, g in gradients.items()})
        once.update({f"param/{name}": value for name, value in state_of(model).items()})
    return {"once": once, "ten": {"losses": torch.stack(losses)}}


def require_other_classes(model, images, settings):
    """Some image's class is clear, and another one on the way to it, so that explaining both would show."""
    with torch.no_grad():
        best = (lambda x: model.classifier(model.encoder(x)).topk(2, dim=1))
        points = [best(images * ((i + 0.5) / settings.steps)).indices[:, 0] for i in range(settings.steps)]
        whole = best(images)
    if float((whole.values[:, 0] - whole.values[:, 1]).min()) < LOGIT_MARGIN:
        raise TooClose("class")
    if not any((point != whole.indices[:, 0]).any() for point in points):
        raise TooClose("same class")


def run_explain(model, inputs, settings, dtype, check):
    model, inputs = in_precision(model, dtype), cast(inputs, dtype)
    least, hooks = watch_kinks(model)
    found = ref.together(ref.on_ranks(model, inputs, settings.ranks,
                                      lambda part: ref.explain(model, part["images"], part["targets"], settings)))
    if check:
        require_clear(found, settings, MASK_MARGIN)
        if least[0] < EXPLAIN_KINK_MARGIN:
            raise TooClose("kink")
        if settings.rule == "correct" and not 0 < int(found.accept.sum()) < len(found.accept):
            raise TooClose("accept")
        if settings.saliency == "integrated" and settings.target == "predicted":
            require_other_classes(model, inputs["images"], settings)
    return {"once": {"cam": found.cam, "mask": found.mask, "masked": found.masked, "masked_logits": found.masked_logits,
                     "accept": found.accept.int()}}


def run_encode(model, inputs, _settings, dtype, check):
    runs = {}
    for mode in ("eval", "train"):
        net = in_precision(model, dtype)
        net.train(mode == "train")
        with torch.no_grad():
            features = net.encoder(cast(inputs, dtype)["images"])
            runs[mode] = {"features": features, "z": net.embed(features), "logits": net.classifier(features)}
    return runs


def run_supcon(_model, inputs, settings, dtype, _check):
    samples, real = len(inputs["labels"]), int(inputs["real"])
    z = F.normalize(inputs["z"].double(), dim=1).to(dtype).requires_grad_()
    own = torch.arange(samples) if settings.method == "simclr" else inputs["labels"].long()
    groups = torch.where(torch.arange(samples) < real, own, CLASSES if settings.background == "class" else -1).repeat(2)
    anchors = 2 * (samples if settings.background == "class" else real)
    loss = ref.contrastive_loss(z, groups, anchors, settings)
    (gradient,) = torch.autograd.grad(loss, z)
    lse = ref.log_denominators(z, settings.temperature)[1].detach()
    lse[ref.positives(groups).sum(dim=1) == 0] = torch.nan
    return {"once": {"loss": loss.detach()[None], "grad": gradient, "lse": lse}}


def run_eval(model, inputs, settings, dtype, check):
    """What `excon eval` prints: the predicted class is explained, with running statistics, over the whole split."""
    model = in_precision(model, dtype).eval()
    mean, std = (torch.tensor(values, dtype=dtype)[:, None, None] for values in (ref.MEAN, ref.STD))
    images, labels = (inputs["images"].permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std, inputs["labels"]
    answer = lambda x: model.classifier(model.encoder(x)).detach()
    logits = answer(images)
    predicted = logits.argmax(dim=1, keepdim=True)
    place = (logits > logits.gather(1, labels[:, None])).sum(dim=1)
    confidence = lambda x: answer(x).softmax(dim=1).gather(1, predicted)[:, 0]
    cam = ref.grad_cam(model, images, predicted[:, 0], settings.layer)
    up = F.interpolate(cam[:, None], size=images.shape[-1], mode="bilinear", align_corners=False)[:, 0]
    top, gap = ref.keep_top(images, up)
    before, kept, softened = confidence(images), confidence(top), confidence(images * ref.scale_cam(cam, images.shape[-1])[:, None])
    if check:
        others = (logits - logits.gather(1, labels[:, None])).abs().scatter(1, labels[:, None], torch.inf)
        best = logits.topk(2, dim=1).values
        if min(float(others.min()), float((best[:, 0] - best[:, 1]).min())) < LOGIT_MARGIN or gap < MASK_MARGIN:
            raise TooClose("rank")
        if min(float((before / after - 1).abs().min()) for after in (kept, softened)) < CHANGE_MARGIN:
            raise TooClose("change")
    numbers = {"count": torch.tensor(float(len(labels))), "top1": (place < 1).to(dtype).mean(), "top5": (place < 5).to(dtype).mean(),
               "nll": F.cross_entropy(logits, labels), **ref.change(before, kept),
               **{f"soft_{name}": value for name, value in ref.change(before, softened).items()}}
    return {"": {name: value[None] for name, value in numbers.items()}}


RUNNERS = {"eval": run_eval, "step": run_step, "explain": run_explain, "encode": run_encode, "supcon": run_supcon}
ARGS = {"once": "", "alone": "", "ten": "--steps 10", "eval": "--mode eval", "train": "--mode train"}


def drift(got, want):
    """Relative L2 distance; infinite when decisions differ."""
    if not want.is_floating_point():
        return 0.0 if torch.equal(got, want) else float("inf")
    got, want = got.double()[~want.isnan()], want[~want.isnan()]
    norm = float(want.norm())
    return float((got - want).norm()) / norm if norm > 0 else float(got.norm())


def perturbed(model, by=PERTURBATION):
    other = copy.deepcopy(model).double()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1 + by * torch.randn_like(p))
    return other


def steady(model, inputs, settings, losses):
    """Whether ten losses stay what they are when the parameters start a little off."""
    runs = (run_step(perturbed(model), inputs, settings, torch.float64, False) for _ in range(PERTURBED_RUNS))
    return all(drift(run["ten"]["losses"], losses) < PERTURBED_DRIFT for run in runs)


def bf16_tolerances(op, model, inputs, settings, runs):
    """{(run, output): tolerance}; takes what is not clear out of what is expected."""
    tolerances = {}
    for _ in range(BF16_RUNS):
        tried = RUNNERS[op](perturbed(model, BF16_PERTURBATION), inputs, settings, torch.bfloat16, False)
        for run, outputs in runs.items():
            if "mask" in outputs:
                unclear = tried[run]["mask"] != outputs["mask"]
                outputs["mask"] = outputs["mask"].masked_fill(unclear, torch.nan)
                outputs["masked"] = outputs["masked"].masked_fill(unclear[:, None], torch.nan)
            for name, want in outputs.items():
                off = BF16_MARGIN * drift(tried[run][name], want)
                if off == float("inf"):
                    raise TooClose("decision")
                if want.is_floating_point():
                    tolerances[run, name] = max(off, tolerances.get((run, name), 0 if name == "mask" else BF16_LEAST))
    lost = [place for place, tolerance in tolerances.items() if tolerance >= BF16_WORST]
    if len(lost) > BF16_LOST * len(tolerances):
        raise TooClose("gradients")
    for run, name in lost:
        runs[run][name] = torch.full_like(runs[run][name], torch.nan)
    return tolerances


def make_photographs(model, n, side, classes):
    """uint8 images [n,S,S,3] with labels, 2 in 5 of which the model will find right."""
    images = ((make_images(n, side) * 0.25 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous()
    mean, std = torch.tensor(ref.MEAN), torch.tensor(ref.STD)
    with torch.no_grad():
        found = model.eval().classifier(model.encoder(((images / 255 - mean) / std).permute(0, 3, 1, 2))).argmax(dim=1)
    return {"images": images, "labels": torch.where(torch.rand(n) < 0.4, found, torch.randint(classes, (n,)))}


def make_inputs(op, case, model):
    n, side = case.get("n", BATCH), case.get("side", SIDE)
    if op == "step":
        names = {"ce": ["random"], "simclr": ["random", "backup"], "supcon": ["random", "backup"]}
        batch = make_batch(n, side)
        return {name: batch[name] for name in names.get(case["method"], ["standard", "random", "backup"]) + ["labels"]}
    if op == "eval":
        return make_photographs(model, n, side, case["classes"])
    if op in ("encode", "explain"):
        inputs = {"images": make_images(n, side) if not case.get("black") else ref.black(torch.zeros(1)).expand(n, 3, side, side).clone()}
        return inputs if op == "encode" else {**inputs, "targets": torch.randint(CLASSES, (n,))}
    labels = torch.randint(CLASSES - 1, (n,))
    labels[1] = CLASSES - 1  # the only one of its class
    return {"z": F.normalize(torch.randn(2 * n, PROJECTION), dim=1), "labels": labels,
            "real": torch.tensor([case.get("real", n)])}


def solve(op, case):
    """(seed, worst drift, model, inputs, runs, tolerances) of the first seed without close decisions."""
    settings = ref.Settings(**{k: v for k, v in case.items() if k in ref.Settings.__dataclass_fields__})
    for seed in itertools.count(1):
        model = None if op == "supcon" else build_model(case.get("encoder", "resnet10"), case.get("width", 4), seed,
                                                           case.get("classes", CLASSES))
        torch.manual_seed(1000 + seed)
        inputs = make_inputs(op, case, model)
        try:
            runs = RUNNERS[op](model, inputs, settings, torch.float64, True)
            if case.get("precision") == "bf16":
                tolerances = bf16_tolerances(op, model, inputs, settings, runs)
                return seed, float(np.median(list(tolerances.values()))), model, inputs, runs, tolerances
        except TooClose:
            continue
        single = RUNNERS[op](model, inputs, settings, torch.float32, False)
        worst = max(drift(single[run][name], want) for run in runs for name, want in runs[run].items())
        if worst < DRIFT and (op != "step" or steady(model, inputs, settings, runs["ten"]["losses"])):
            return seed, worst, model, inputs, runs, {}


def config_lines(op, case):
    method = case.get("method", "excon")
    lines = [f"profile={case.get('profile', 'recommended')}", f"method={method}", f"precision={case.get('precision', 'f32')}"]
    if op != "supcon":
        lines += [f"model.encoder={case.get('encoder', 'resnet10')}", f"model.width={case.get('width', 4)}",
                  f"model.projection={PROJECTION}"]
    if op in ("step", "supcon"):
        settings = ref.Settings(temperature=case.get("temperature", 0.1))
        lines += [f"loss.temperature={settings.temperature}", f"loss.base_temperature={settings.base_temperature}",
                  f"background.mode={case.get('background', 'none')}"]
    if op == "eval":
        lines.append(f"eval.batch={case['batch']}")
    if op == "step":
        settings = replace(settings, **{key: case[key] for key in ("lr", "weight_decay") if key in case})
        lines += [f"background.source={case.get('source', 'rejected')}", f"optim.lr={settings.lr}",
                  f"optim.momentum={settings.momentum}", f"optim.weight_decay={settings.weight_decay}",
                  "optim.schedule=constant", "optim.warmup=off", "start_epoch=0"]
    keys = {"saliency": "explain.method", "steps": "explain.steps", "threshold": "explain.threshold", "target": "explain.target",
            "rule": "select.rule", "view": "explain.source_view", "most": "background.max", "fill": "explain.fill",
            "bn": "explain.bn", "optimiser": "optim.name", "trust": "optim.trust"}
    lines += [f"{key}={case[name]}" for name, key in keys.items() if name in case]
    if case.get("relu"):
        lines.append("explain.relu=true")
    if not case.get("update", True):
        lines.append("explain.update_running_stats=false")
    if "ranks" in case:
        lines.append("bn.scope=local")
    if "layer" in case:
        lines.append(f"explain.layer=layer{case['layer']}")
    return lines


def stored(tensor):
    array = tensor.detach().numpy()
    if array.dtype == np.uint8:
        return array
    return array.astype(np.float32 if tensor.is_floating_point() else np.int32)


def write(folder, name, op, case):
    seed, worst, model, inputs, runs, tolerances = solve(op, case)
    path = os.path.join(folder, f"{name}.h5")
    with h5py.File(path, "w") as out:
        out.attrs["encoder" if op == "eval" else "probe"] = np.bytes_(case.get("encoder", "resnet10") if op == "eval" else op)
        out.attrs["set"] = np.bytes_("\n".join(config_lines(op, case)))
        for key, value in inputs.items():
            out[key] = stored(value)
        if "fill" in case or op == "eval":
            out["mean"], out["std"] = np.float32(ref.MEAN), np.float32(ref.STD)
        for key, value in (state_of(model) if model else {}).items():
            out[f"model/{key}"] = stored(value)
        for run, outputs in runs.items():
            group = out.require_group(f"expect/{run}")
            group.attrs["args"] = np.bytes_(ARGS.get(run) or " ")
            if "ranks" in case:
                group.attrs["ranks"] = np.int32(1 if run == "alone" else case["ranks"])
            for key, value in outputs.items():
                group[key] = stored(value)
                if (run, key) in tolerances or "tolerance" in case:
                    group[key].attrs["tolerance"] = tolerances.get((run, key), case.get("tolerance"))
    size = os.path.getsize(path)
    assert size < LIMIT, (path, size)
    accept = runs.get("once", {}).get("accept")
    print(f"{name}: seed {seed}, {'median tolerance' if tolerances else 'float32 drift'} {worst:.1e}, {size >> 10} KiB"
          + ("" if accept is None else f", accept {accept.tolist()}"), flush=True)


CASES = {
    "eval-faithfulness": ("eval", {"n": 33, "classes": 8, "batch": 10}),
    "encode-resnet10": ("encode", {}),
    "encode-resnet50": ("encode", {"encoder": "resnet50", "n": 6}),
    "encode-black": ("encode", {"black": True, "side": 64, "n": 3, "tolerance": 3e-6}),
    "explain-official": ("explain", {"profile": "official"}),
    "explain-recommended": ("explain", {}),
    "explain-layer3": ("explain", {"layer": 3}),
    "explain-side64": ("explain", {"profile": "official", "side": 64, "n": 3}),
    "explain-resnet50-official": ("explain", {"profile": "official", "encoder": "resnet50", "n": 6}),
    "explain-resnet50-recommended": ("explain", {"encoder": "resnet50", "n": 6}),
    "encode-wrn": ("encode", {"encoder": "wrn-40-2", "n": 6}),
    "explain-wrn-official": ("explain", {"profile": "official", "encoder": "wrn-40-2", "n": 6}),
    "explain-wrn-layer3": ("explain", {"encoder": "wrn-40-2", "layer": 3, "n": 6}),
    "explain-relu": ("explain", {"relu": True}),
    "explain-predicted": ("explain", {"target": "predicted"}),
    "explain-threshold": ("explain", {"threshold": 0.3}),
    "explain-black": ("explain", {"fill": "black"}),
    "explain-local": ("explain", {"profile": "official", "ranks": 2, "n": 8}),
    "explain-gradcam-plus": ("explain", {"saliency": "gradcam++"}),
    "explain-gradcam-plus-official": ("explain", {"profile": "official", "saliency": "gradcam++", "relu": True}),
    "explain-gradient": ("explain", {"saliency": "gradient"}),
    "explain-integrated": ("explain", {"saliency": "integrated", "steps": 8}),
    "explain-integrated-predicted": ("explain", {"saliency": "integrated", "steps": 8, "target": "predicted"}),
    "encode-bf16": ("encode", {"precision": "bf16"}),
    "explain-bf16": ("explain", {"precision": "bf16"}),
    "supcon-none": ("supcon", {"method": "supcon", "n": 11}),
    "supcon-simclr": ("supcon", {"method": "simclr", "n": 11}),
    "supcon-denominator": ("supcon", {"method": "exconb", "background": "denominator", "n": 11, "real": 8}),
    "supcon-class": ("supcon", {"method": "exconb", "background": "class", "n": 11, "real": 8}),
    "supcon-cold": ("supcon", {"method": "supcon", "temperature": 0.01, "n": 11}),
    "step-ce": ("step", {"method": "ce"}),
    "step-simclr": ("step", {"method": "simclr"}),
    "step-supcon-official": ("step", {"method": "supcon", "profile": "official"}),
    "step-supcon-recommended": ("step", {"method": "supcon"}),
    "step-excon-official": ("step", {"method": "excon", "profile": "official"}),
    "step-excon-recommended": ("step", {"method": "excon"}),
    "step-exconb-official": ("step", {"method": "exconb", "profile": "official", "background": "denominator"}),
    "step-exconb-recommended": ("step", {"method": "exconb", "background": "denominator"}),
    "step-exconb-class": ("step", {"method": "exconb", "background": "class"}),
    "step-exconb-few": ("step", {"method": "exconb", "background": "denominator", "n": 3}),
    "step-excon-always": ("step", {"method": "excon", "rule": "always"}),
    "step-excon-never": ("step", {"method": "excon", "rule": "never"}),
    "step-excon-random-source": ("step", {"method": "excon", "view": "random"}),
    "step-excon-black": ("step", {"method": "excon", "fill": "black"}),
    "step-excon-still": ("step", {"method": "excon", "bn": "batch", "update": False}),
    "step-exconb-black": ("step", {"method": "exconb", "background": "class", "source": "complement", "fill": "black"}),
    "step-excon-integrated": ("step", {"method": "excon", "profile": "official", "saliency": "integrated", "steps": 4}),
    "step-supcon-lars": ("step", {"method": "supcon", "optimiser": "lars", "lr": 0.05, "trust": 0.02, "weight_decay": 0.01}),
    "step-excon-lars": ("step", {"method": "excon", "profile": "official", "optimiser": "lars", "lr": 0.02, "trust": 0.05, "weight_decay": 0.01}),
    "step-excon-wrn": ("step", {"method": "excon", "encoder": "wrn-40-2", "n": 3}),
    "step-ce-idle-rank": ("step", {"method": "ce", "ranks": 2, "n": 1}),
    "step-supcon-idle-rank": ("step", {"method": "supcon", "ranks": 3, "n": 2}),
    "step-supcon-local": ("step", {"method": "supcon", "ranks": 2}),
    "step-exconb-local": ("step", {"method": "exconb", "profile": "official", "background": "denominator", "ranks": 2}),
    "step-supcon-bf16": ("step", {"method": "supcon", "temperature": 0.5, "precision": "bf16"}),
    "step-excon-bf16": ("step", {"method": "excon", "temperature": 0.5, "side": 32, "layer": 4, "precision": "bf16"}),
    "step-exconb-most": ("step", {"method": "exconb", "background": "denominator", "most": 2}),
    "step-exconb-complement": ("step", {"method": "exconb", "background": "denominator", "source": "complement"}),
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../../tests/golden")
    os.makedirs(target, exist_ok=True)
    for label, (operation, options) in CASES.items():
        if sys.argv[2:] and label not in sys.argv[2:]:
            continue
        write(target, label, operation, options)
