"""The attribute loss, sample by sample and bit by bit, in float64."""

import math

import numpy as np


def relaxed_code(score, slope=1.0):
    return [2 / (1 + math.exp(-slope * value)) - 1 for value in score]


def hamming(code, other):
    return (len(code) - sum(a * b for a, b in zip(code, other, strict=True))) / 2


def triplet_hinge(codes, clusters, positives, sample, margin):
    others = [
        hamming(codes[sample], code)
        for code, cluster in zip(codes, clusters, strict=True)
        if cluster != clusters[sample]
    ]
    if not others:
        return 0.0
    near = hamming(codes[sample], codes[positives[sample]])
    return max(0.0, margin + near - min(others))


def attribute_loss(scores, weights, clusters, positives, alpha, beta, gamma):
    """Huang, Loy, Tang 2016, equation 2, as its text means it."""
    scores, weights = np.asarray(scores, float), np.asarray(weights, float)
    codes = [relaxed_code(score) for score in scores]
    count, bits = scores.shape
    hinges = [
        triplet_hinge(codes, clusters, positives, sample, bits / 2) for sample in range(count)
    ]
    variance = sum(score[bit] ** 2 for score in scores for bit in range(bits)) / (count * bits)
    dependence = 0.0
    for one in range(bits):
        for other in range(bits):
            product = sum(row[one] * row[other] for row in weights)
            dependence += (product - (one == other)) ** 2
    norm = sum(value**2 for row in weights for value in row)
    return sum(hinges) / count - alpha * variance + beta * dependence + gamma * norm
