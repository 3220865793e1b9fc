"""Share of trucks among the detections of a scene, and their probabilities given that share.

A calibrated score is a probability where the mix of vehicles is that of the scenes it was calibrated on. On a
road full of lorries the same score is a lorry more often. With s0, the share of trucks in the calibration, a
score p and the share s of a scene,

    q = s / s0 p / (s / s0 p + (1 - s) / (1 - s0) (1 - p))

(Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a
simple procedure", Neural Computation 2002). Their procedure, expectation maximisation, finds the s of the
highest likelihood, the product of the denominators over all detections. Of few detections that is nearly 0 or
1; so here s has a Beta distribution of mean s0 and `WEIGHT` before, and q is its mean over the distribution
after. Then a detection that is alone keeps its p, and many have the s of their procedure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

Array = NDArray[np.float64]

WEIGHT = 1.0
"""Detections that the share of the calibration is worth: as in Jeffreys' prior of a share, Beta(1/2, 1/2)."""
_COARSE = np.linspace(-12.0, 12.0, 97)
"""Log-odds of s at which the density is searched for its mass."""
_FINE = 257
_NO_CHANGE = 1e-9
_UNLIKELY = 20.0
"""Logarithm of a density below the maximum from which on it does not count."""


def with_own_share(chance: Array, share: float, weight: float = WEIGHT) -> tuple[Array, float]:
    """Return probabilities (N,) given the share of trucks in their scene, and the error of its log-odds.

    `chance` (N,) are those where a `share` of the detections are trucks. The error is a standard deviation: a
    change of the log-odds by as much changes the sum of the probabilities by its own.
    """
    yes, no = chance / share, (1 - chance) / (1 - share)

    def density(log_odds: Array) -> Array:
        """Return its logarithm, but for a constant."""
        before = weight * (share * np.log(expit(log_odds)) + (1 - share) * np.log(expit(-log_odds)))
        return before + [np.log(s * yes + (1 - s) * no).sum() for s in expit(log_odds)]

    coarse = density(_COARSE)
    likely, step = _COARSE[coarse > coarse.max() - _UNLIKELY], _COARSE[1] - _COARSE[0]
    fine = np.linspace(likely[0] - step, likely[-1] + step, _FINE)
    masses = softmax(density(fine))
    given, totals = np.zeros(len(chance)), np.zeros(len(fine))
    for index, (mass, s) in enumerate(zip(masses, expit(fine), strict=True)):
        q = s * yes / (s * yes + (1 - s) * no)
        given += mass * q
        totals[index] = q.sum()
    change = float((given * (1 - given)).sum())
    spread = float(masses @ (totals - masses @ totals) ** 2) ** 0.5
    return given, spread / change if change > _NO_CHANGE else 0.0
