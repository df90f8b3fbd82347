"""Bootstrap confidence intervals over pairs, and over runs and pairs.

Pairs are resampled, never differences: the differences of one pair share a scene and an answer, so
they are not independent.
"""

from __future__ import annotations

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2000


def mean_intervals(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of (n, k) values over n pairs with percentile bootstrap intervals.

    The same resamples serve all k columns.

    Returns:
        (k, 3): mean, lower and upper end of the ``CONFIDENCE`` interval.
    """
    return ratio_intervals(values, np.ones_like(values, dtype=float), resamples, seed)


def ratio_intervals(
    parts: np.ndarray, totals: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Sum of the parts over sum of the totals, such as found differences over differences.

    Args:
        parts, totals: (n, k) of n pairs; totals are at least 0, and no column of them is all 0.
        resamples: of the pairs; one that draws none of a column's totals is left out there.
        seed: of the resampling.

    Returns:
        (k, 3): ratio, lower and upper end of the percentile bootstrap ``CONFIDENCE`` interval.
    """
    n = len(parts)
    if not parts.shape[1]:
        return np.empty((0, 3))
    # Drawing n pairs with replacement, as the number of times that each was drawn.
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    with np.errstate(invalid="ignore"):
        ratios = (counts @ parts) / (counts @ totals)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(ratios, [tail, 100 - tail], axis=0)
    return np.column_stack([parts.sum(axis=0) / totals.sum(axis=0), low, high])


def rounded(intervals: np.ndarray) -> list[list[float]]:
    """To 4 decimals, so that two machines' sums agree."""
    return [[round(float(number), 4) + 0.0 for number in row] for row in intervals]


def runs_interval(values: np.ndarray, resamples: int = 10_000, seed: int = 0) -> list[float]:
    """The mean of (runs, pairs) values, with a bootstrap over both.

    Runs and pairs are resampled, each with replacement, so that the interval holds for other seeds
    of the training and for other pairs. With three runs the former is rough.

    Returns:
        Mean, lower and upper end of the percentile ``CONFIDENCE`` interval, to four decimals.
    """
    means = resampled_means(values, resamples, seed)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return [round(float(number), 4) for number in (values.mean(), low, high)]


def resampled_means(values: np.ndarray, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Means of (runs, pairs, ...) values over resampled runs and pairs: (resamples, ...)."""
    generator = np.random.default_rng(seed)
    runs, pairs = values.shape[:2]
    of_runs = generator.multinomial(runs, np.full(runs, 1 / runs), resamples) / runs
    of_pairs = generator.multinomial(pairs, np.full(pairs, 1 / pairs), resamples) / pairs
    return np.einsum("kr,rp...,kp->k...", of_runs, values, of_pairs, optimize=True)
