"""An independent PyTorch implementation of the method, for numbers to compare with.

Everything is written the plain way: autograd for every gradient, the N x N form of the contrastive loss, one optimiser step
by torch.optim.SGD, or LARS. It runs in float64 as well as float32 and is meant for tiny nets. Tensors are NCHW. Parameter names are
those of the published model: encoder.*, head.0, head.2, classifier.fc.

Run it as a program to check it against other formulations (torchvision's networks, the published form of the loss, the
closed form of the loss gradient)."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import nn

ENCODERS = {
    "resnet10": ("basic", (1, 1, 1, 1)),
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
}


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.shortcut = shortcut(inputs, planes, stride)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + self.shortcut(x)
        return self.relu(y)

    def last_conv(self):
        return self.conv2


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, planes, stride):
        super().__init__()
        outputs = planes * self.expansion
        self.conv1, self.bn1 = conv(inputs, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y)) + self.shortcut(x)
        return self.relu(y)

    def last_conv(self):
        return self.conv3


def shortcut(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class Encoder(nn.Module):
    """ResNet with a 3x3 stride-1 stem and no max-pool; stages of width, 2, 4 and 8 times width."""

    def __init__(self, name, width):
        super().__init__()
        kind, depths = ENCODERS[name]
        block = {"basic": BasicBlock, "bottleneck": Bottleneck}[kind]
        self.conv1, self.bn1, self.relu = conv(3, width, 3), nn.BatchNorm2d(width), nn.ReLU()
        inputs = width
        for stage, depth in enumerate(depths):
            planes = width << stage
            blocks = []
            for i in range(depth):
                blocks.append(block(inputs, planes, 2 if stage > 0 and i == 0 else 1))
                inputs = planes * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.features = inputs

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))

    def cam_conv(self, layer, side):
        """The convolution explained: layer 1..4, or 0 for layer4 at images of 64 and more, else layer2."""
        stage = layer or (4 if side >= 64 else 2)
        return getattr(self, f"layer{stage}")[-1].last_conv()


class PreActivationBlock(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, planes, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), conv(planes, planes, 3)
        self.convShortcut = None if inputs == planes else conv(inputs, planes, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x):
        before = self.relu(self.bn1(x))
        y = self.conv2(self.relu(self.bn2(self.conv1(before))))
        return y + (self.convShortcut(before) if self.convShortcut else x)


class PreActivationStage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class WideEncoder(nn.Module):
    """WideResNet wrn-DEPTH-FACTOR without dropout; width 64 is the published one, of a stem with 16 channels."""

    def __init__(self, name, width):
        super().__init__()
        depth, factor = (int(number) for number in name.split("-")[1:])
        inputs = width // 4
        self.conv1 = conv(3, inputs, 3)
        for stage in range(3):
            planes = (width // 4) * factor << stage
            blocks = []
            for i in range((depth - 4) // 6):
                blocks.append(PreActivationBlock(inputs, planes, 2 if stage > 0 and i == 0 else 1))
                inputs = planes
            setattr(self, f"block{stage + 1}", PreActivationStage(blocks))
        self.bn1, self.relu, self.features = nn.BatchNorm2d(inputs), nn.ReLU(), inputs

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.relu(self.bn1(x)).mean(dim=(2, 3))

    def cam_conv(self, layer, side):
        """The convolution explained: layer 1..3, or 0 for layer3 at images of 64 and more, else layer2."""
        return getattr(self, f"block{layer or (3 if side >= 64 else 2)}").layer[-1].conv2


MEAN, STD = (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)  # of Tiny ImageNet, as published


def black(like):
    """[3,1,1]: a black pixel after normalisation."""
    return -(torch.tensor(MEAN, dtype=like.dtype) / torch.tensor(STD, dtype=like.dtype))[:, None, None]


class Classifier(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.fc = nn.Linear(features, classes)

    def forward(self, x):
        return self.fc(x)


class Model(nn.Module):
    def __init__(self, encoder, width, projection, classes):
        super().__init__()
        self.encoder = (WideEncoder if encoder.startswith("wrn") else Encoder)(encoder, width)
        features = self.encoder.features
        self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection))
        self.classifier = Classifier(features, classes)

    def embed(self, features):
        return F.normalize(self.head(features), dim=1)


@dataclass
class Settings:
    method: str = "excon"  # ce, simclr, supcon, excon, exconb
    profile: str = "recommended"  # official: explain with batch statistics and update them; classifier left alone
    ranks: int = 1  # batch norm sees the batch in so many contiguous parts; running statistics are the parts' mean
    bn: str = ""  # statistics of the explanation: batch, running; empty: the profile's
    update: bool = True  # batch statistics of the explanation move the running ones
    layer: int = 0
    threshold: float = 0.5
    fill: str = "mean"  # mean, black
    saliency: str = "gradcam"  # gradcam, gradcam++, gradient, integrated
    steps: int = 8  # of integrated
    relu: bool = False
    target: str = "label"  # label, predicted
    rule: str = "correct"  # correct, always, never
    view: str = "standard"  # standard, random: what is explained and masked (random: the backup crop)
    most: int = 0  # background rows kept; 0: all
    background: str = "none"  # none, denominator, class
    source: str = "rejected"  # rejected, complement
    temperature: float = 0.1
    base_temperature: float = 0.07
    lr: float = 0.003
    momentum: float = 0.9
    weight_decay: float = 1e-4
    optimiser: str = "sgd"  # sgd, lars
    trust: float = 0.001  # of lars

    @property
    def batch_statistics(self):
        return (self.bn or {"official": "batch"}.get(self.profile)) == "batch"

    @property
    def joint(self):
        return self.profile == "recommended"


@dataclass
class Explanation:
    cam: torch.Tensor  # [n,h,w], raw
    scaled: torch.Tensor  # [n,H,W], 0..1: what the threshold is compared with
    mask: torch.Tensor  # [n,H,W], 0 or 1
    masked: torch.Tensor  # [n,3,H,W]
    masked_logits: torch.Tensor  # [n,C]
    accept: torch.Tensor  # [n], bool


def at_layer(model, images, targets, layer):
    """The output [n,K,h,w] of a convolution, before its BN, and the gradient by it of the sum of the targets' logits, which
    with batch statistics sees the other images of the batch."""
    kept = []
    hook = model.encoder.cam_conv(layer, images.shape[-1]).register_forward_hook(lambda _m, _i, output: kept.append(output))
    logits = model.classifier(model.encoder(images))
    hook.remove()
    (activation,) = kept
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), activation)
    return activation.detach(), gradient


def grad_cam(model, images, targets, layer):
    """Raw Grad-CAM [n,h,w]: alpha is the spatial mean of the gradient. No ReLU."""
    activation, gradient = at_layer(model, images, targets, layer)
    return (gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1)


def grad_cam_plus(model, images, targets, layer):
    """Raw Grad-CAM++ [n,h,w] in the closed form of Chattopadhyay et al. 2018 for the score exp(logit), whose derivatives of
    second and third order are squares and cubes of the first times exp(logit), as pytorch-grad-cam computes it: without that
    factor, and with its 1e-6. No ReLU but the weights' own."""
    activation, gradient = at_layer(model, images, targets, layer)
    square, cube = gradient**2, gradient**3
    share = square / (2 * square + activation.sum(dim=(2, 3), keepdim=True) * cube + 1e-6)
    alpha = (gradient.clamp(min=0) * torch.where(gradient != 0, share, 0)).sum(dim=(2, 3), keepdim=True)
    return (alpha * activation).sum(dim=1)


def input_saliency(model, images, targets, settings):
    """Signed sum over channels of the input gradient; or of image times the mean gradient at the midpoints of `steps` pieces
    of the straight path from zero."""
    integrated = settings.saliency == "integrated"
    steps = settings.steps if integrated else 1
    total = torch.zeros_like(images)
    for i in range(steps):
        x = (images * ((i + 0.5) / steps) if integrated else images).clone().requires_grad_()
        logits = model.classifier(model.encoder(x))
        total += torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), x)[0] / steps
    return (total * images if integrated else total).sum(dim=1)


def saliency(model, images, targets, settings):
    if settings.saliency == "gradcam":
        cam = grad_cam(model, images, targets, settings.layer)
    elif settings.saliency == "gradcam++":
        cam = grad_cam_plus(model, images, targets, settings.layer)
    else:
        cam = input_saliency(model, images, targets, settings)
    return cam.clamp(min=0) if settings.relu else cam


def scale_cam(cam, side):
    """Bilinear to side x side, then per image minus min, over (max + 1e-8) of the shifted map."""
    up = F.interpolate(cam[:, None], size=side, mode="bilinear", align_corners=False)[:, 0]
    shifted = up - up.amin(dim=(1, 2), keepdim=True)
    return shifted / (shifted.amax(dim=(1, 2), keepdim=True) + 1e-8)


def running_statistics(model):
    return [buffer for name, buffer in model.named_buffers() if "num_batches" not in name]


def set_running_statistics(model, values):
    for buffer, value in zip(running_statistics(model), values):
        buffer.data.copy_(value)  # behind autograd's back: a pass in training mode never reads them


def split(batch, ranks):
    """Contiguous parts whose sizes differ by one at most, larger ones first; none for ranks without samples."""
    pieces = {name: torch.tensor_split(value, ranks) for name, value in batch.items()}
    parts = [{name: pieces[name][r] for name in batch} for r in range(ranks)]
    return [part for part in parts if all(len(value) for value in part.values())]


def on_ranks(model, batch, ranks, run):
    """[run(part)] over the parts of the batch, each from the running statistics found here; they end as the parts' mean."""
    before = [buffer.clone() for buffer in running_statistics(model)]
    after, results = [], []
    for part in split(batch, ranks):
        set_running_statistics(model, before)
        results.append(run(part))
        after.append([buffer.clone() for buffer in running_statistics(model)])
    set_running_statistics(model, [torch.stack(values).mean(dim=0) for values in zip(*after)])
    return results


def blank(images, kept, settings):
    """What `kept` [n,H,W] leaves of the images; the rest becomes the mean colour, or black."""
    rest = (1 - kept[:, None]) * black(images) if settings.fill == "black" else 0
    return images * kept[:, None] + rest


def together(parts):
    """One explanation of the parts'."""
    return Explanation(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Explanation)))


def explain(model, images, targets, settings):
    """CAM pass (integrated: one a point), masked pass, and with batch statistics the original pass, which only moves the
    running statistics. All of them move those, if any does."""
    model.train(settings.batch_statistics)
    before = [buffer.clone() for buffer in running_statistics(model)]
    wanted = targets
    if settings.target == "predicted":
        with torch.no_grad():
            wanted = model.classifier(model.encoder(images)).argmax(dim=1)
        set_running_statistics(model, before)  # asking for the class is no pass of the method
    cam = saliency(model, images, wanted, settings)
    scaled = scale_cam(cam, images.shape[-1])
    mask = (scaled > settings.threshold).to(images.dtype)
    masked = blank(images, mask, settings)
    with torch.no_grad():
        masked_logits = model.classifier(model.encoder(masked))
        if settings.batch_statistics:
            model.encoder(images)
    if not settings.update:
        set_running_statistics(model, before)
    accept = masked_logits.argmax(dim=1) == targets
    if settings.rule != "correct":
        accept = torch.full_like(accept, settings.rule == "always")
    return Explanation(cam, scaled, mask, masked, masked_logits, accept)


KEEP_SHARE = 0.15


def keep_top(images, up):
    """The int(0.15 H W) most salient pixels of each image, the rest the mean colour; and how far the last pixel kept is above
    the first one dropped, as a share of the map's range."""
    maps = up.flatten(1)
    keep = int(KEEP_SHARE * maps.shape[1])
    ordered, order = maps.sort(dim=1, descending=True)
    kept = torch.zeros_like(maps).scatter_(1, order[:, :keep], 1)
    gap = (ordered[:, keep - 1] - ordered[:, keep]) / (ordered[:, 0] - ordered[:, -1])
    return images * kept.reshape(up.shape)[:, None], float(gap.min())


def change(before, after):
    """Drop, increase, gain and decrease of confidences before and after."""
    lost, won = (before - after) / before, (after - before) / before
    return {"drop": lost.clamp(min=0).mean(), "increase": (after > before).to(before.dtype).mean(),
            "gain": won.clamp(min=0).mean(), "decrease": (before > after).to(before.dtype).mean()}


def positives(groups):
    """[n,n] bool: j is another row of i's group; group -1 is none."""
    same = (groups[:, None] == groups[None, :]) & (groups[:, None] >= 0)
    return same & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)


def log_denominators(z, temperature):
    """(s, lse): similarities [n,n] and the log-sum-exp over all other rows [n]."""
    s = z @ z.T / temperature
    others = s.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return s, torch.logsumexp(others, dim=1)


def contrastive_loss(z, groups, anchors, settings):
    """Mean over `anchors` rows of lse_i - mean over i's positives of s_ip, times T/T0; rows without positives give 0."""
    s, lse = log_denominators(z, settings.temperature)
    positive = positives(groups).to(z.dtype)
    count = positive.sum(dim=1)
    per_row = lse - (positive * s).sum(dim=1) / count.clamp(min=1)
    per_row = torch.where(count > 0, per_row, torch.zeros_like(per_row))
    return settings.temperature / settings.base_temperature * per_row.sum() / anchors


def contrastive_gradient(z, groups, anchors, settings):
    """The same loss's gradient in closed form, for checking autograd's."""
    s, lse = log_denominators(z, settings.temperature)
    positive = positives(groups).to(z.dtype)
    count = positive.sum(dim=1)
    a = (count > 0).to(z.dtype)
    p = torch.exp(s - lse[:, None])
    p.fill_diagonal_(0)
    pull = positive * (a / count.clamp(min=1))[:, None]
    weights = a[:, None] * p + (a[:, None] * p).T - pull - pull.T
    return settings.temperature / settings.base_temperature / (anchors * settings.temperature) * (weights @ z)


def row_groups(labels, background, method, mode):
    """(groups, anchors) of the rows [view 1 | view 2 | background | background]; `labels` [N], `background` rows per copy.
    simclr groups by sample."""
    n = len(labels)
    own = torch.arange(n, device=labels.device) if method == "simclr" else labels
    extra = int(labels.max()) + 1 if mode == "class" else -1
    groups = torch.cat([own, own, torch.full((2 * background,), extra, device=labels.device)])
    return groups, len(groups) if mode == "class" else 2 * n


def views_of(model, batch, settings):
    """(view 1, view 2, background rows, explanation or None) of one step."""
    if settings.method in ("simclr", "supcon"):
        return batch["backup"], batch["random"], batch["random"][:0], None
    explained = batch["standard" if settings.view == "standard" else "backup"]
    found = explain(model, explained, batch["labels"], settings)
    first = torch.where(found.accept[:, None, None, None], found.masked, batch["backup"])
    background = batch["standard"][:0]
    if settings.method == "exconb" and settings.background != "none":
        source = found.masked if settings.source == "rejected" else blank(explained, 1 - found.mask, settings)
        background = source[~found.accept]
        background = background[: settings.most] if settings.most else background
    return first, batch["random"], background, found


class Lars(torch.optim.Optimizer):
    """You et al. 2017, algorithm 1; parameters of one dimension take plain steps without weight decay."""

    def __init__(self, parameters, lr, momentum, weight_decay, trust):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                adapted, rate = p.ndim > 1, group["lr"]
                decay = group["weight_decay"] if adapted else 0.0
                if adapted and p.norm() > 0 and p.grad.norm() > 0:
                    rate = rate * group["trust"] * p.norm() / (p.grad.norm() + decay * p.norm())
                velocity = group["momentum"] * self.state[p].get("velocity", torch.zeros_like(p)) + rate * (p.grad + decay * p)
                self.state[p]["velocity"] = velocity
                p -= velocity


def make_optimiser(model, settings):
    trained = [p for name, p in model.named_parameters()
               if settings.joint or settings.method == "ce" or not name.startswith("classifier.")]
    if settings.optimiser == "lars":
        return Lars(trained, settings.lr, settings.momentum, settings.weight_decay, settings.trust)
    return torch.optim.SGD(trained, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)


def encode_views(model, batch, settings):
    """(features of [view 1 | view 2 | background | background], background rows, explanation or None) of one rank."""
    first, second, background, found = views_of(model, batch, settings)
    model.train()
    return model.encoder(torch.cat([first, second, background, background])), len(background), found


def regroup(parts, batch, ranks):
    """The parts' features as one: view 1 of all ranks, view 2, background, its copy."""
    blocks = []
    for (features, background, _found), part in zip(parts, split(batch, ranks)):
        rows = len(part["labels"])
        blocks.append(features.split([rows, rows, background, background]))
    return torch.cat([torch.cat(block) for block in zip(*blocks)])


def step(model, optimiser, batch, settings):
    """One training step in place. Returns (loss, explanation or None, {name: gradient})."""
    labels = batch["labels"]
    optimiser.zero_grad(set_to_none=True)
    if settings.method == "ce":
        model.train()
        found = None
        features = on_ranks(model, batch, settings.ranks, lambda part: model.encoder(part["random"]))
        loss = F.cross_entropy(model.classifier(torch.cat(features)), labels)
        loss.backward()
    else:
        parts = on_ranks(model, batch, settings.ranks, lambda part: encode_views(model, part, settings))
        features, rows = regroup(parts, batch, settings.ranks), sum(background for _features, background, _found in parts)
        found = None if parts[0][2] is None else together([part[2] for part in parts])
        groups, anchors = row_groups(labels, rows, settings.method, settings.background)
        loss = contrastive_loss(model.embed(features), groups, anchors, settings)
        loss.backward()
        if settings.joint:
            real = features[: 2 * len(labels)].detach()
            F.cross_entropy(model.classifier(real), labels.repeat(2)).backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    optimiser.step()
    return loss.detach(), found, gradients


def check_loss():
    """Against the published form (max subtracted, masks over views stacked row-wise) and the closed-form gradient."""
    torch.manual_seed(1)
    settings = Settings()
    n, dim = 9, 6
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 3, 1])
    z = F.normalize(torch.randn(2 * n, dim, dtype=torch.float64), dim=1).requires_grad_()
    groups, anchors = row_groups(labels, 0, "supcon", "none")
    loss = contrastive_loss(z, groups, anchors, settings)

    same = torch.eq(labels[:, None], labels[None, :]).double().repeat(2, 2)
    others = torch.ones_like(same) - torch.eye(2 * n, dtype=torch.float64)
    logits = z @ z.T / settings.temperature
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    log_prob = logits - torch.log((torch.exp(logits) * others).sum(dim=1, keepdim=True))
    mean = (same * others * log_prob).sum(dim=1) / (same * others).sum(dim=1)
    published = -(settings.temperature / settings.base_temperature * mean).mean()
    assert abs(loss - published) < 1e-12, (loss, published)

    for mode, groups in (("denominator", [0, 1, 2, 0, 1, -1] * 3), ("class", [0, 1, 2, 0, 1, 3] * 3)):
        groups = torch.tensor(groups)
        anchors = 15 if mode == "denominator" else 18
        (gradient,) = torch.autograd.grad(contrastive_loss(z, groups, anchors, settings), z)
        closed = contrastive_gradient(z, groups, anchors, settings).detach()
        assert (gradient - closed).abs().max() < 1e-12, mode


def check_networks():
    """Against torchvision's networks with the stem replaced and the pool removed, same parameters."""
    import torchvision

    for name in ("resnet18", "resnet34", "resnet50", "resnet101"):
        torch.manual_seed(2)
        model = Model(name, 64, 128, 10)
        other = getattr(torchvision.models, name)(weights=None, num_classes=10)
        other.conv1, other.maxpool = conv(3, 64, 3), nn.Identity()
        state = {key.replace("encoder.", "").replace("classifier.", "").replace("shortcut", "downsample"): value
                 for key, value in model.state_dict().items() if not key.startswith("head.")}
        other.load_state_dict(state)
        images = torch.randn(2, 3, 32, 32)
        for training in (True, False):
            model.train(training), other.train(training)
            with torch.no_grad():
                ours, theirs = model.classifier(model.encoder(images)), other(images)
            assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-4), (name, training)
    for name, published in (("wrn-40-2", 2243546), ("wrn-28-10", 36479194)):  # parameters for CIFAR-10
        model = Model(name, 64, 128, 10)
        assert sum(p.numel() for part in (model.encoder, model.classifier) for p in part.parameters()) == published, name


if __name__ == "__main__":
    torch.set_num_threads(2)
    check_loss()
    check_networks()
    print("reference: agrees with torchvision's networks, the published loss and its closed-form gradient")
