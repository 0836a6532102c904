"""The feature losses once more, in float64 numpy and written from the papers' formulas: loops, no broadcasting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def pkd(student: Array, teacher: Array) -> float:
    """Mean over channels of 1 - Pearson correlation over images and cells (times (M - 1) / M: unbiased deviation)."""
    terms = []
    for c in range(student.shape[1]):
        a, b = student[:, c].ravel(), teacher[:, c].ravel()
        terms.append((1 - np.corrcoef(a, b)[0, 1]) * (a.size - 1) / a.size)
    return float(np.mean(terms))


def mse(student: Array, teacher: Array) -> float:
    return float(np.mean([(a - b) ** 2 for a, b in zip(student.flat, teacher.flat, strict=True)]))


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def cwd(student: Array, teacher: Array, temperature: float) -> float:
    terms = []
    for n in range(len(student)):
        for c in range(student.shape[1]):
            p, q = (softmax(x[n, c].ravel() / temperature) for x in (teacher, student))
            terms.append(temperature**2 * sum(pi * np.log(pi / qi) for pi, qi in zip(p, q, strict=True)))
    return float(np.mean(terms))


def touched(box: list[float], height: int, width: int) -> list[tuple[int, int]]:
    """The cells [x, x + 1] x [y, y + 1] that share an area with ``box``."""
    x0, y0, x1, y1 = box
    return [(y, x) for y in range(height) for x in range(width) if x < x1 and x + 1 > x0 and y < y1 and y + 1 > y0]


def attention(features: Array) -> tuple[Array, Array]:
    """Of one image (C, H, W): spatial (H, W) and channel (C,) attention at temperature 0.5."""
    channels, height, width = features.shape
    spatial = height * width * softmax(np.abs(features).mean(axis=0).ravel() / 0.5).reshape(height, width)
    return spatial, channels * softmax(np.abs(features).mean(axis=(1, 2)) / 0.5)


def fgd(
    student: Array,
    teacher: Array,
    boxes: list[list[list[float]]],
    contexts: tuple[Callable[[Array], Array], Callable[[Array], Array]],
) -> float:
    """Equations 5 to 11 of the paper with its weights for two-stage detectors, mean over images."""
    total = 0.0
    count, channels, height, width = student.shape
    for n in range(count):
        scale = np.zeros((height, width))
        for box in boxes[n]:
            inside = touched(box, height, width)
            for y, x in inside:
                scale[y, x] = max(scale[y, x], 1 / len(inside))
        num_background = (scale == 0).sum()
        spatial, channel = attention(teacher[n])
        own_spatial, own_channel = attention(student[n])
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    error = spatial[y, x] * channel[c] * (teacher[n, c, y, x] - student[n, c, y, x]) ** 2
                    total += 5e-5 * scale[y, x] * error
                    total += 2.5e-5 / num_background * error if scale[y, x] == 0 else 0
        total += 5e-5 * (np.abs(spatial - own_spatial).sum() + np.abs(channel - own_channel).sum())
        total += 5e-7 * ((contexts[0](student[n]) - contexts[1](teacher[n])) ** 2).sum()
    return total / count


def global_context(
    features: Array, attend: Array, down: Array, down_bias: Array, scale: Array, shift: Array, up: Array, up_bias: Array
) -> Array:
    """GcBlock on one image (C, H, W): weights as matrices."""
    flat = features.reshape(len(features), -1)
    context = flat @ softmax(attend @ flat)
    hidden = down @ context + down_bias
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5) * scale + shift
    return features + (up @ np.maximum(hidden, 0) + up_bias)[:, None, None]


def convolve(features: Array, weight: Array, bias: Array) -> Array:
    """3x3 convolution with zero padding of (C, H, W) by (D, C, 3, 3)."""
    _, height, width = features.shape
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), height, width))
    for d in range(len(weight)):
        for y in range(height):
            for x in range(width):
                out[d, y, x] = (padded[:, y : y + 3, x : x + 3] * weight[d]).sum() + bias[d]
    return out


def kl(student: Array, teacher: Array, temperature: float) -> float:
    """T^2 * KL(p_teacher || p_student) of logits (R, K), mean over rows."""
    terms = []
    for row, target in zip(student, teacher, strict=True):
        p, q = softmax(target / temperature), softmax(row / temperature)
        terms.append(temperature**2 * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))
    return float(np.mean(terms))


def bounded_boxes(student: Array, teacher: Array, target: Array, beta: float) -> float:
    """Smooth-L1 towards the teacher of those rows where it is nearer to the target, mean over all rows."""
    total = 0.0
    for ours, theirs, wanted in zip(student, teacher, target, strict=True):
        if np.abs(ours - wanted).sum() > np.abs(theirs - wanted).sum():
            gaps = np.abs(ours - theirs)
            total += sum(0.5 * g**2 / beta if g < beta else g - beta / 2 for g in gaps)
    return total / len(student)


def halves(student: Array, teacher: Array, foreground: Array) -> float:
    """Half the mean squared error of foreground RoIs plus half that of background RoIs."""
    errors = np.array([((a - b) ** 2).mean() for a, b in zip(student, teacher, strict=True)])
    return float(0.5 * errors[foreground].mean() + 0.5 * errors[~foreground].mean())


def quality_focal(student: Array, teacher: Array, temperature: float) -> float:
    """T^2 * |p - q| * cross-entropy of q under the target p, sum over all scores; p the teacher's sigmoid."""
    total = 0.0
    for ours, theirs in zip(student.ravel() / temperature, teacher.ravel() / temperature, strict=True):
        p, q = 1 / (1 + np.exp(-theirs)), 1 / (1 + np.exp(-ours))
        total += temperature**2 * abs(p - q) * -(p * np.log(q) + (1 - p) * np.log(1 - q))
    return float(total)


def giou(first: Array, second: Array) -> float:
    """Generalised IoU of two boxes xyxy."""

    def area(x0: float, y0: float, x1: float, y1: float) -> float:
        return max(x1 - x0, 0) * max(y1 - y0, 0)

    shared = area(*np.maximum(first[:2], second[:2]), *np.minimum(first[2:], second[2:]))
    hull = area(*np.minimum(first[:2], second[:2]), *np.maximum(first[2:], second[2:]))
    union = area(*first) + area(*second) - shared
    return shared / union - (hull - union) / hull


def bounded_iou(student: Array, teacher: Array, target: Array) -> float:
    """Sum of 1 - GIoU towards the teacher where that one fits the target better."""
    rows = zip(student, teacher, target, strict=True)
    return float(
        sum(1 - giou(ours, theirs) for ours, theirs, wanted in rows if giou(ours, wanted) < giou(theirs, wanted))
    )


def bernoulli_kl(student: Array, teacher: Array) -> float:
    """Sum of KL(p || q) of the probabilities behind logits, p the teacher's."""
    p, q = (1 / (1 + np.exp(-x)) for x in (teacher, student))
    return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum())
