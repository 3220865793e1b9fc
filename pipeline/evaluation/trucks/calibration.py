"""Calibration of scores: the reliability diagram, and the fit that makes scores probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from pipeline.models.bundle import Calibration

BINS = 10
_SURE = 1e-6
"""Scores nearer to 0 or 1 than this count as this: log-odds must stay finite to be fitted."""
_SLOPES = (0.05, 20.0)
_SHADOWS = (-2.0, 2.0)


@dataclass(frozen=True)
class Reliability:
    """Scores in bins of equal width, with the share of TP in each; bins without scores are left out."""

    score: NDArray[np.float64]
    """(K,): mean score of a bin."""
    right: NDArray[np.float64]
    """(K,): share of its detections that are right."""
    count: NDArray[np.int64]
    """(K,): its detections."""

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean distance of score and share, by detections; NaN without any.

        Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al., ICML 2017.
        """
        if not self.count.sum():
            return float("nan")
        return float(np.average(np.abs(self.score - self.right), weights=self.count))


def reliability(scores: ArrayLike, correct: ArrayLike, bins: int = BINS) -> Reliability:
    """Return the reliability diagram of detections: `scores` (N,) in 0-1; `correct` (N,) marks the TP."""
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    right = np.asarray(correct, dtype=np.float64).reshape(-1)
    bin_of = np.minimum((score * bins).astype(np.intp), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    there = count > 0
    return Reliability(
        np.bincount(bin_of, score, bins)[there] / count[there],
        np.bincount(bin_of, right, bins)[there] / count[there],
        count[there],
    )


def fit_calibration(
    scores: ArrayLike, correct: ArrayLike, evidence: ArrayLike = 0.0, shadow: ArrayLike = 0.0
) -> Calibration:
    """Fit the calibration under which the outcomes `correct` (N,) are most likely, given `scores` (N,).

    `evidence` (N,) is that of motion, `shadow` (N,) by how much the scene's shadows are too long
    (`pipeline.scenes.sun.long_shadow`); 0 has no effect.

    A logistic regression on the log-odds, with the targets of Platt ("Probabilistic outputs for support
    vector machines", 1999), which keep it finite where one score separates TP from FP. Without scores it
    changes nothing.
    """
    from scipy.optimize import minimize  # half a second, which runs without labels do not need

    log_odds = logit(np.clip(np.asarray(scores, dtype=np.float64).reshape(-1), _SURE, 1 - _SURE))
    right = np.asarray(correct, dtype=bool).reshape(-1)
    if not len(right):
        return Calibration()
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    more = (np.ones(len(right)), *(np.broadcast_to(each, right.shape) for each in (evidence, shadow)))
    known = np.stack([log_odds, *more])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = weights @ known
        value = np.mean(np.logaddexp(0, z) - target * z)
        return float(value), known @ (expit(z) - target) / len(right)

    bounds = [_SLOPES, (None, None), (0.0, None), _SHADOWS]
    start = [1.0, 0.0, 0.0, 0.0]
    slope, offset, motion, by_shadow = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Calibration(
        temperature=round(1 / float(slope), 4),
        offset=round(float(offset), 4),
        motion=round(float(motion), 4),
        shadow=round(float(by_shadow), 4),
    )
