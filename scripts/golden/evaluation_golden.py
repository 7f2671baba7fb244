#!/usr/bin/env python3
"""Writes tests/golden/calibration-*.h5, statistics.h5 and embedding.h5: measures of trainer/evaluate as other packages have them.

    scripts/golden/evaluation_golden.py [FOLDER]

Needs numpy, scipy, scikit-learn, h5py, torch, netcal 1.4, relplot 1.0, torchmetrics 1.9, torch-uncertainty 0.13 (with lightning,
torchvision and timm) and uncertainty-calibration 0.1. Every value comes from a package; each is also computed by its formula in
NumPy below, and the script ends when the two are not equal to AGREE. Which package stands for what, and the defaults that had to
be set:

    ece              netcal ECE (default 10 bins), torchmetrics MulticlassCalibrationError norm l1 (default 15 bins)
    mce              netcal MCE, torchmetrics norm max
    adaptive_ece     torch-uncertainty AdaptiveCalibrationError (default 10 bins). netcal's equal_intervals=False cuts at
                     interpolated quantiles, which is the same only where the bins divide n
    debiased_ece     uncertainty-calibration's unbiased_l2_ce on its equal-mass bins (default 15)
    classwise_ece    torch-uncertainty ClasswiseCalibrationError reduction mean (default 15 bins)
    smooth_ece       relplot smECE, its default kernel `reflected`. torch-uncertainty's default is `logit`, and its `reflected`
                     takes other grids
    nll              torch cross_entropy
    brier            torch-uncertainty BrierScore: summed over classes
    temperature      netcal TemperatureScaling, 1 / its weight, to the 2e-3 or so at which its optimiser stops; scipy's brentq
                     and minimize_scalar to 1e-6
    sweep_ece        formula alone (algorithm 1 of arXiv 2012.08668); compared once with the authors' published code
    bootstrap        numpy.quantile over draws from a Philox written anew
    kendall          scipy.stats.kendalltau (tau-b is its default)
    confusion        scikit-learn confusion_matrix
    kNN              scikit-learn KNeighborsClassifier(20, metric="cosine"), uniform and with weights exp((1 - distance) / 0.07)
    linear probe     scikit-learn LogisticRegression(C = 1 / (n l2)), solver newton-cholesky: its L-BFGS stops 3e-5 too early
    alignment, uniformity   the two lines of torch in their paper

Where probabilities are equal (calibration-ties) the packages' adaptive bins depend on the order of the samples; there the formula
alone is written, with equal probabilities sharing their mean outcome. No package has that, nor classes without samples.
"""
import os
import sys
import warnings

import h5py
import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
import torch

AGREE = 1e-9
TOLERANCE = 1e-5  # of the float32 that the program writes; it computes in double
TEMPERATURES = (0.01, 100.0)
MASK32 = np.uint64(0xFFFFFFFF)
STREAM_BOOTSTRAP = 8


# ---- formulas -------------------------------------------------------------------------------------------------------------


def top_label(p, labels):
    """Confidences, ascending, and outcomes; equal confidences share their mean outcome."""
    confidence, hit = p.max(1), (p.argmax(1) == labels).astype(float)
    return sort_forecasts(confidence, hit)


def sort_forecasts(probability, outcome):
    values, group = np.unique(probability, return_inverse=True)
    mean = np.bincount(group, outcome) / np.bincount(group)
    return np.sort(probability), mean[np.sort(group)]


def width_bins(c, bins):
    index = np.minimum(np.searchsorted(np.arange(bins + 1) / bins, c, side="right") - 1, bins - 1)
    return [np.flatnonzero(index == b) for b in range(bins)]


def mass_bins(c, bins):
    return np.array_split(np.arange(len(c)), bins)


def gaps(c, y, bins):
    """Per bin that is not empty: samples, mean probability - mean outcome, mean outcome."""
    return np.array([(len(b), c[b].mean() - y[b].mean(), y[b].mean()) for b in bins if len(b)])


def ece(c, y, bins):
    g = gaps(c, y, bins)
    return (g[:, 0] * abs(g[:, 1])).sum() / len(c)


def debiased(c, y, bins):
    g = gaps(c, y, mass_bins(c, min(bins, len(c) // 2)))
    return np.sqrt(max(0, (g[:, 0] * (g[:, 1] ** 2 - g[:, 2] * (1 - g[:, 2]) / (g[:, 0] - 1))).sum() / len(c)))


def sweep(c, y):
    best = 1
    for b in range(2, len(c) + 1):
        if (np.diff([y[i].mean() for i in mass_bins(c, b)]) < -1e-12).any():
            break
        best = b
    return ece(c, y, mass_bins(c, best))


def nll(logits, labels, temperature=1.0):
    z = logits / temperature
    return (scipy.special.logsumexp(z, axis=1) - z[np.arange(len(z)), labels]).mean()


def fit_temperature(logits, labels):
    """The root of the nll's derivative by 1/T, or the bound; scipy's scalar minimiser on log T must find the same."""
    low, high = TEMPERATURES
    own = logits[np.arange(len(logits)), labels].mean()
    slope = lambda a: (scipy.special.softmax(a * logits, axis=1) * logits).sum(1).mean() - own
    if slope(1 / high) >= 0:
        return high
    if slope(1 / low) <= 0:
        return low
    root = 1 / scipy.optimize.brentq(slope, 1 / high, 1 / low, xtol=1e-14)
    near = np.log(root) + np.array([-0.5, 0.7])
    found = scipy.optimize.minimize_scalar(lambda u: nll(logits, labels, np.exp(u)), bounds=near, method="bounded", options={"xatol": 1e-12})
    same("temperature", np.exp(found.x), root, 1e-6)
    return root


def same(name, a, b, within=AGREE):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if not np.all(abs(a - b) <= within * np.maximum(1, abs(b))):
        sys.exit(f"{name}: {a} against {b}")
    return b


# ---- packages -------------------------------------------------------------------------------------------------------------


def by_packages(logits, labels, bins, unique):
    """Each measure by a package, checked against the formula; `unique`: no two confidences are equal."""
    import calibration as kumar
    import relplot
    from netcal.metrics import ECE, MCE
    from netcal.scaling import TemperatureScaling
    from torch_uncertainty.metrics.classification import AdaptiveCalibrationError, BrierScore, ClasswiseCalibrationError
    from torchmetrics.functional.classification import multiclass_calibration_error

    z = logits.astype(float)
    p = scipy.special.softmax(z, axis=1)
    n, C = p.shape
    c, y = top_label(p, labels)
    raw = p.max(1), (p.argmax(1) == labels).astype(float)
    tp, tl = torch.tensor(p), torch.tensor(labels, dtype=torch.long)
    out = {}
    out["ece"] = same("ece", ECE(bins=bins).measure(p, labels), ece(c, y, width_bins(c, bins)))
    out["mce"] = same("mce", MCE(bins=bins).measure(p, labels), abs(gaps(c, y, width_bins(c, bins))[:, 1]).max())
    for norm, name in (("l1", "ece"), ("max", "mce")):
        same(f"torchmetrics {name}", multiclass_calibration_error(tp, tl, C, n_bins=bins, norm=norm), out[name], 1e-6)
    out["adaptive_ece"] = ece(c, y, mass_bins(c, bins))
    out["debiased_ece"] = debiased(c, y, bins)
    out["sweep_ece"] = sweep(c, y)
    if unique and n >= bins:
        metric = AdaptiveCalibrationError(task="multiclass", num_bins=bins, num_classes=C)
        metric.update(tp, tl)
        same("adaptive_ece", metric.compute(), out["adaptive_ece"], 1e-6)
    if unique and n >= 2 * bins:
        data = list(zip(*raw))
        binned = kumar.utils.bin(data, kumar.utils.get_equal_bins(raw[0], bins))
        same("debiased_ece", kumar.utils.unbiased_l2_ce(binned), out["debiased_ece"])
    metric = ClasswiseCalibrationError(num_classes=C, num_bins=bins)
    metric.update(tp, tl)
    per_class = [sort_forecasts(p[:, k], (labels == k).astype(float)) for k in range(C)]
    out["classwise_ece"] = same("classwise_ece", metric.compute(), np.mean([ece(a, b, width_bins(a, bins)) for a, b in per_class]), 1e-6)
    out["smooth_ece"] = relplot.smECE(*raw)
    out["nll"] = same("nll", torch.nn.functional.cross_entropy(torch.tensor(z), tl), nll(z, labels))
    metric = BrierScore(num_classes=C)
    metric.update(tp, tl)
    out["brier"] = same("brier", metric.compute(), ((p - np.eye(C)[labels]) ** 2).sum(1).mean(), 1e-6)
    out["temperature"] = fit_temperature(z, labels)
    scaling = TemperatureScaling()
    scaling.fit(p, labels)
    if TEMPERATURES[0] * 1.01 < out["temperature"] < TEMPERATURES[1] / 1.01:
        same("temperature", 1 / np.ravel(scaling.temperature)[0], out["temperature"], 2e-3)
    return out


def classifier(rng, n, C, scale, truth):
    """Logits scale * x whose labels are drawn from softmax(truth * x)."""
    x = rng.normal(size=(n, C))
    p = scipy.special.softmax(truth * x, axis=1)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    return (scale * x).astype(np.float32), np.minimum(labels, C - 1).astype(np.int32)


def tied(rng):
    """k of five logits are 0, the rest far below: confidences 1/k, on the edges of ten bins for k = 1, 2, 5."""
    logits = np.full((240, 5), -200, np.float32)
    for row in range(len(logits)):
        logits[row, rng.permutation(5)[: 1 + row % 5]] = 0
    return logits, rng.integers(5, size=len(logits)).astype(np.int32)


def calibration_files(folder):
    rng = np.random.default_rng(1)
    cases = {
        "mixed": (*classifier(rng, 1000, 10, rng.choice([0.7, 3], (1000, 1)), 1.5), True),  # over- and underconfident by row
        "calibrated": (*classifier(rng, 512, 5, 2, 2), True),
        "underconfident": (*classifier(rng, 333, 4, 0.5, 3), True),
        "few": (*classifier(rng, 9, 3, 2, 2), True),
        "ties": (*tied(rng), False),
    }
    for name, (logits, labels, unique) in cases.items():
        assert len(np.unique(labels)) > 2  # netcal takes two labels for a binary problem
        with h5py.File(os.path.join(folder, f"calibration-{name}.h5"), "w") as f:
            f.attrs["probe"], f.attrs["set"] = np.bytes_("calibration"), np.bytes_("seed=1")
            f["logits"], f["labels"] = logits, labels
            for bins in (10, 15):
                group = f.create_group(f"expect/bins{bins}")
                group.attrs["args"] = np.bytes_(f"--bins {bins}" if bins != 10 else "--mode eval")
                for key, value in by_packages(logits, labels, bins, unique).items():
                    group[key] = np.array([value], np.float32)
                    group[key].attrs["tolerance"] = TOLERANCE
                    print(f"{name:16s} bins {bins:2d} {key:14s} {float(value):.8f}")


# ---- statistics -----------------------------------------------------------------------------------------------------------


def philox(seed, draws, blocks):
    """Words [draws, 4 * blocks] of philox_reader(seed, STREAM_BOOTSTRAP, draw, 0)."""
    key = (seed + 0x9E3779B97F4A7C15 * STREAM_BOOTSTRAP) & ((1 << 64) - 1)
    k = [np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)]
    shape = (draws, blocks)
    c = [np.broadcast_to(np.arange(draws, dtype=np.uint64)[:, None], shape), np.zeros(shape, np.uint64),
         np.zeros(shape, np.uint64), np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape)]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ k[0], b & MASK32, (a >> np.uint64(32)) ^ c[3] ^ k[1], a & MASK32]
        k = [(k[0] + np.uint64(0x9E3779B9)) & MASK32, (k[1] + np.uint64(0xBB67AE85)) & MASK32]
    return np.stack(c, -1).reshape(draws, -1)


def draws_of(n, seed, replicates):
    words = philox(seed, replicates, (n + 3) // 4)[:, :n]
    return (words * np.uint64(n) >> np.uint64(32)).astype(np.int64)


def reliability(logits, labels, kind, bins, level, replicates, seed):
    """Rows count, confidence, accuracy, low, high."""
    p = scipy.special.softmax(logits.astype(float), axis=1)
    c, y = top_label(p, labels)
    members = kind(c, bins)
    of = np.empty(len(c), int)
    for b, m in enumerate(members):
        of[m] = b
    accuracies = [[] for _ in members]
    for draw in draws_of(len(c), seed, replicates):
        count = np.bincount(of[draw], minlength=bins)
        hits = np.bincount(of[draw], y[draw], minlength=bins)
        for b in np.flatnonzero(count):
            accuracies[b].append(hits[b] / count[b])
    rows = []
    for b, m in enumerate(members):
        ends = np.quantile(accuracies[b], [(1 - level) / 2, (1 + level) / 2]) if len(m) else [np.nan, np.nan]
        rows.append([len(m), c[m].mean() if len(m) else 0, y[m].mean() if len(m) else 0, *ends])
    return np.array(rows)


def statistics_file(folder):
    from sklearn.metrics import confusion_matrix, recall_score

    rng = np.random.default_rng(2)
    a = rng.gamma(2, size=53).astype(np.float32)
    b = (a + rng.normal(0.3, 1, size=53)).astype(np.float32)
    few = rng.normal(60, 2, size=5).astype(np.float32)
    x, y = rng.integers(6, size=(2, 80)).astype(np.float32)
    labels, predicted = rng.integers(6, size=(2, 300)).astype(np.int32)
    logits, truth = classifier(rng, 400, 6, 3, 1.5)
    with h5py.File(os.path.join(folder, "statistics.h5"), "w") as f:
        for name, value in {"a": a, "b": b, "few": few, "x": x, "y": y, "labels": labels, "predicted": predicted,
                            "logits": logits, "truth": truth}.items():
            f[name] = value
        expect = f.create_group("expect")
        for name, values, level, replicates, seed in (("mean", a, 0.95, 1000, 7), ("few", few, 0.9, 400, 2**63 + 5),
                                                      ("difference", a.astype(float) - b, 0.95, 1000, 7)):
            means = values.astype(float)[draws_of(len(values), seed, replicates)].mean(1)
            expect[name] = [values.astype(float).mean(), *np.quantile(means, [(1 - level) / 2, (1 + level) / 2])]
        once = scipy.stats.bootstrap((a.astype(float),), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
        same("bootstrap", expect["mean"][1:], [once.low, once.high], 0.03)
        expect["kendall_ties"] = [scipy.stats.kendalltau(x, y).statistic]
        expect["kendall"] = [scipy.stats.kendalltau(a, b).statistic]
        expect["confusion"] = confusion_matrix(labels, predicted).astype(np.int32)
        expect["class_accuracy"] = recall_score(labels, predicted, average=None)
        expect["reliability_width"] = reliability(logits, truth, width_bins, 10, 0.95, 300, 11)
        expect["reliability_mass"] = reliability(logits, truth, mass_bins, 7, 0.9, 300, 12)


# ---- embeddings -----------------------------------------------------------------------------------------------------------


def embedding_file(folder):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(3)
    C, D, T, l2 = 5, 19, 0.07, 1e-3
    centres = rng.normal(size=(C, D))
    def embed(n):
        labels = rng.integers(C, size=n)
        return (centres[labels] + 1.8 * rng.normal(size=(n, D))).astype(np.float32), labels.astype(np.int32)
    train, train_labels = embed(200)
    test, test_labels = embed(80)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    moved = unit + 0.2 * rng.normal(size=unit.shape)
    moved = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    with h5py.File(os.path.join(folder, "embedding.h5"), "w") as f:
        for name, value in {"train": train, "train_labels": train_labels, "test": test, "test_labels": test_labels, "unit": unit,
                            "moved": moved}.items():
            f[name] = value
        expect = f.create_group("expect")
        for name, weights in (("majority", "uniform"), ("weighted", lambda d: np.exp((1 - d) / T))):
            knn = KNeighborsClassifier(20, metric="cosine", weights=weights, algorithm="brute").fit(train.astype(float), train_labels)
            expect[name] = knn.predict(test.astype(float)).astype(np.int32)
            expect[f"{name}_accuracy"] = [knn.score(test.astype(float), test_labels)]
        assert (expect["majority"][:] != expect["weighted"][:]).any()
        x, y = torch.tensor(unit.astype(float)), torch.tensor(moved.astype(float))
        expect["alignment"] = [(x - y).norm(p=2, dim=1).pow(2).mean().item()]
        expect["alignment_1"] = [(x - y).norm(p=2, dim=1).mean().item()]
        expect["uniformity"] = [torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log().item()]
        equal = (train_labels[:, None] == train_labels)[np.triu_indices(len(unit), 1)]
        expect["class_alignment"] = [torch.pdist(x, p=2).pow(2).numpy()[equal].mean()]
        fit = LogisticRegression(C=1 / (len(train) * l2), tol=1e-12, solver="newton-cholesky").fit(train.astype(float), train_labels)
        fit_p = fit.predict_proba(train.astype(float))
        expect["weights"], expect["biases"] = fit.coef_, fit.intercept_ - fit.intercept_.mean()
        expect["objective"] = [-np.log(fit_p[np.arange(len(train)), train_labels]).mean() + l2 / 2 * (fit.coef_**2).sum()]
        expect["probabilities"] = fit.predict_proba(test.astype(float))
        expect["probe_accuracy"] = [fit.score(test.astype(float), test_labels)]


def main():
    warnings.filterwarnings("ignore")
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden")
    calibration_files(folder)
    statistics_file(folder)
    embedding_file(folder)


main()
