"""Times one training step in PyTorch on the CPU or a GPU, on synthetic views: the published code's way, or tuned.

published: float32, NCHW; the explanation is three passes with batch statistics that record gradients although only the
  first needs any, maps and masks go through NumPy, selection is a loop over images; plain SGD.
tuned: what a careful PyTorch user would write for the same method with running statistics in the explanation:
  channels_last, bf16 autocast, in-place ReLU, no host copies; the explanation runs on a copy of the net with batch norm
  folded into bf16 weights, records gradients only behind the explained layer, and skips the pass on the original. On a
  GPU also cudnn.benchmark, TF32 for what stays float32, and torch.compile of the networks (--compile auto: where it works
  and the row count does not change from step to step, as it does with exconb).

Prints one JSON object: way, method, model, size, batch, threads, device, torch, compiled, seconds (median of steps),
images_per_s, peak_mb (of the process), device_mb (PyTorch's largest allocation on the GPU), loss."""

import argparse
import copy
import json
import os
import resource
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import reference as ref  # noqa: E402  (the networks)
from published_loss import published_loss  # noqa: E402

CLASSES, TEMPERATURE, BASE_TEMPERATURE = 200, 0.1, 0.07


def optimiser_of(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)


class Published:
    def __init__(self, model, method):
        self.model, self.method = model.train(), method
        self.trained = list(model.encoder.parameters()) + list(model.head.parameters())
        self.optimiser = optimiser_of(self.trained)

    def logits(self, images):
        return self.model.classifier(self.model.encoder(images))

    def masked(self, images, labels):
        size = images.shape[-1]
        cam = ref.grad_cam(self.model, images, labels, 0)
        up = F.interpolate(cam[:, None], size=size, mode="bilinear", align_corners=False).squeeze(1).cpu().numpy()
        up = up - up.min(axis=(1, 2), keepdims=True)
        up = up / (up.max(axis=(1, 2), keepdims=True) + 1e-8)
        hidden = np.repeat((up <= 0.5)[:, None], 3, axis=1)
        source = images.cpu().numpy()
        return torch.from_numpy(np.where(hidden, np.zeros_like(source), source)).to(images.device)

    def select(self, images, second, backup, labels):
        masked = self.masked(images, labels)
        predicted = self.logits(masked).argmax(dim=1)
        self.logits(images).argmax(dim=1)  # the published code predicts on the original too
        first, group = torch.zeros_like(images), labels.clone()
        for i in range(len(labels)):
            if predicted[i].item() == labels[i].item():
                first[i] = masked[i]
                continue
            first[i] = backup[i]
            if self.method == "exconb":
                first = torch.cat([first, masked[i : i + 1]])
                second = torch.cat([second, masked[i : i + 1]])
                group = torch.cat([group, torch.tensor([CLASSES], device=group.device)])
        return first, second, group

    def step(self, batch):
        standard, second, backup, labels = batch
        first, group = backup, labels
        if self.method != "supcon":
            first, second, group = self.select(standard, second, backup, labels)
        z = self.model.embed(self.model.encoder(torch.cat([first, second])))
        views = torch.stack(torch.split(z, len(group)), dim=1)
        loss = published_loss(views, group, TEMPERATURE, BASE_TEMPERATURE)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


class Folded:
    """A bf16 copy of encoder and classifier for explanations: running statistics folded into the convolutions, except
    behind the explained one, whose raw output is wanted."""

    def __init__(self, model, side):
        self.source, self.side = model, side
        with torch.no_grad():
            self.model = copy.deepcopy(model).eval().requires_grad_(False).bfloat16().to(memory_format=torch.channels_last)
        self.explained = self.model.encoder.cam_conv(0, side)
        self.pairs = []
        self.find(model.encoder, self.model.encoder)

    def find(self, source, copied):
        """Pairs every convolution with the norm after it, by the order both stand in their block."""
        layers = list(zip(source.named_children(), copied.children()))
        for ((_, conv), conv_copy), ((norm_name, norm), _) in zip(layers, layers[1:]):
            if isinstance(conv, torch.nn.Conv2d) and conv_copy is not self.explained:
                zeros = torch.zeros(len(conv.weight), dtype=torch.bfloat16, device=conv.weight.device)
                conv_copy.bias = torch.nn.Parameter(zeros, requires_grad=False)
                self.pairs.append((conv, norm, conv_copy))
                setattr(copied, norm_name, torch.nn.Identity())
            elif isinstance(conv, torch.nn.Conv2d):
                self.kept = (norm, getattr(copied, norm_name))
                self.kept_conv = (conv, conv_copy)
        for (_, child), child_copy in layers:
            if not isinstance(child, (torch.nn.Conv2d, torch.nn.BatchNorm2d)):
                self.find(child, child_copy)

    @torch.no_grad()
    def refresh(self):
        for conv, norm, folded in self.pairs:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            folded.weight.copy_(conv.weight * scale[:, None, None, None])
            folded.bias.copy_(norm.bias - norm.running_mean * scale)
        self.kept_conv[1].weight.copy_(self.kept_conv[0].weight)
        for (_, value), (_, kept) in zip(self.kept[0].state_dict().items(), self.kept[1].state_dict().items()):
            kept.copy_(value)
        self.model.classifier.load_state_dict(self.source.classifier.state_dict())

    def logits(self, images):
        return self.model.classifier(self.model.encoder(images))

    def cam(self, images, labels):
        kept = []

        def cut(_module, _inputs, output):
            kept.append(output.requires_grad_())
            return output

        hook = self.explained.register_forward_hook(cut)
        score = self.logits(images).gather(1, labels[:, None]).sum()
        hook.remove()
        (gradient,) = torch.autograd.grad(score, kept[0])
        with torch.no_grad():
            return (gradient.float().mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1)


class Tuned:
    def __init__(self, model, method, side):
        for module in model.modules():
            if isinstance(module, torch.nn.ReLU):
                module.inplace = True
        self.model, self.method = model.train().to(memory_format=torch.channels_last), method
        self.optimiser = optimiser_of(model.parameters())
        self.folded = Folded(model, side) if method != "supcon" else None
        self.encode = model.encoder

    def compile(self):
        """The training passes through torch.compile; the explanation stays eager, as its hook needs."""
        self.encode = torch.compile(self.model.encoder, dynamic=False)

    def select(self, images, second, backup, labels):
        self.folded.refresh()
        low = images.bfloat16()
        cam = self.folded.cam(low, labels)
        with torch.inference_mode():
            keep = (ref.scale_cam(cam.float(), images.shape[-1]) > 0.5)[:, None]
            accept = self.folded.logits(low * keep).argmax(dim=1) == labels
        masked = images * keep
        first = torch.where(accept[:, None, None, None], masked, backup)
        background = masked[~accept] if self.method == "exconb" else masked[:0]
        return torch.cat([first, second, background, background]), len(background)

    def step(self, batch):
        standard, second, backup, labels = batch
        background = 0
        if self.method == "supcon":
            rows = torch.cat([backup, second])
        else:
            rows, background = self.select(standard, second, backup, labels)
        with torch.autocast(rows.device.type, dtype=torch.bfloat16):
            features = self.encode(rows.to(memory_format=torch.channels_last))
        features = features.float()
        groups, anchors = ref.row_groups(labels, background, self.method, "denominator")
        settings = ref.Settings(temperature=TEMPERATURE, base_temperature=BASE_TEMPERATURE)
        loss = ref.contrastive_loss(self.model.embed(features), groups, anchors, settings)
        classifier_loss = F.cross_entropy(self.model.classifier(features[: 2 * len(labels)].detach()), labels.repeat(2))
        self.optimiser.zero_grad(set_to_none=True)
        (loss + classifier_loss).backward()
        self.optimiser.step()
        return loss.detach()


def timed_steps(trainer, batch, steps, finish):
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = trainer.step(batch)
        finish()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), float(loss)


def warm_up(trainer, batch, options):
    """Compiles if that is wanted and works; says whether."""
    wanted = options.compile == "on" or (options.compile == "auto" and options.device == "cuda" and options.method != "exconb")
    if wanted and options.way == "tuned" and hasattr(torch, "compile"):
        try:
            trainer.compile()
            trainer.step(batch)
            return True
        except Exception as error:  # any failure of a compiler that may lack its own tools: eager is the fallback
            if options.compile == "on":
                raise
            print(f"torch_step: not compiled: {error}", file=sys.stderr)
            trainer.encode = trainer.model.encoder
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=("published", "tuned"), default="tuned")
    parser.add_argument("--method", choices=("supcon", "excon", "exconb"), default="excon")
    parser.add_argument("--model", choices=sorted(ref.ENCODERS), default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("torch_step: this PyTorch sees no GPU")
    if on_gpu and options.way == "tuned":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    model = ref.Model(options.model, 64, 128, CLASSES).to(options.device)
    if options.way == "published":
        trainer = Published(model, options.method)
    else:
        trainer = Tuned(model, options.method, options.size)
    layout = torch.channels_last if options.way == "tuned" else torch.contiguous_format
    shape = (options.batch, 3, options.size, options.size)
    batch = [torch.randn(shape).to(options.device, memory_format=layout) for _ in range(3)]
    batch.append(torch.randint(CLASSES, (options.batch,)).to(options.device))
    compiled = warm_up(trainer, batch, options)
    for _ in range(3 if on_gpu else 1):
        trainer.step(batch)
    finish = torch.cuda.synchronize if on_gpu else lambda: None
    finish()
    median, loss = timed_steps(trainer, batch, options.steps, finish)
    print(json.dumps({"way": options.way, "method": options.method, "model": options.model, "size": options.size,
                      "batch": options.batch, "threads": options.threads,
                      "device": torch.cuda.get_device_name() if on_gpu else "cpu", "torch": torch.__version__,
                      "compiled": compiled, "seconds": median, "images_per_s": options.batch / median, "loss": loss,
                      "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                      "device_mb": torch.cuda.max_memory_allocated() * 1e-6 if on_gpu else 0}))


if __name__ == "__main__":
    main()
