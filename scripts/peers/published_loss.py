"""Times the supervised contrastive loss as published: N x N matrices in plain PyTorch, forward and backward, float32.

Prints one JSON object: rows, dim, threads, device, seconds (median), extra_mb (peak memory beyond what was in use before
the first pass: resident, or PyTorch's own on a GPU), loss. Exits with 71 when memory does not suffice."""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F


def published_loss(features, labels, temperature, base_temperature):
    """features [N, views, D] of unit norm, labels [N]. Every intermediate is a full matrix, as in the published code."""
    views = features.shape[1]
    rows = torch.cat(torch.unbind(features, dim=1), dim=0)
    positive = torch.eq(labels[:, None], labels[None, :]).float().repeat(views, views)
    similarity = torch.div(torch.matmul(rows, rows.T), temperature)
    shifted = similarity - similarity.max(dim=1, keepdim=True).values.detach()
    others = torch.ones_like(positive).fill_diagonal_(0)
    positive = positive * others
    exponentials = torch.exp(shifted) * others
    log_probability = shifted - torch.log(exponentials.sum(dim=1, keepdim=True))
    mean_positive = (positive * log_probability).sum(dim=1) / positive.sum(dim=1)
    return (-(temperature / base_temperature) * mean_positive).mean()


def peak_mb(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated() * 1e-6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_pass(features, labels):
    features.grad = None
    start = time.perf_counter()
    loss = published_loss(features, labels, 0.1, 0.07)
    loss.backward()
    value = float(loss)  # waits for a GPU
    if features.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16384, help="rows of the matrix: two views of each sample")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)

    def inputs(rows):
        features = F.normalize(torch.randn(rows // 2, 2, options.dim, device=options.device), dim=2).requires_grad_()
        return features, torch.randint(options.classes, (rows // 2,), device=options.device)

    one_pass(*inputs(256))
    features, labels = inputs(options.rows)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak_mb(options.device)
    try:
        passes = [one_pass(features, labels) for _ in range(options.repeats)]
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        print(f"published_loss: out of memory at {options.rows} rows", file=sys.stderr)
        sys.exit(71)
    print(json.dumps({"rows": options.rows, "dim": options.dim, "threads": options.threads, "device": options.device,
                      "seconds": statistics.median(seconds for seconds, _ in passes),
                      "extra_mb": peak_mb(options.device) - before, "loss": passes[-1][1]}))


if __name__ == "__main__":
    main()
