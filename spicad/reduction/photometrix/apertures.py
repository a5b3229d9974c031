"""How much light of a star falls outside an aperture, from its fluxes in several: the growth curve of a Moffat profile.

Seeing changes this from exposure to exposure by some mmag even for wide apertures, which would pass for a change of the
zero point. After Stetson (1990, PASP 102, 932), with one profile for each exposure. Fluxes come as arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

FEWEST_STARS = 10
FEWEST_APERTURES = 3
BETAS = (1.5, 12.0)  # Moffat's exponent; 2.5 to 4.5 are usual
ROUNDS = 5


@dataclass(frozen=True)
class Profile:
    """A Moffat profile: light within radius r is 1 - (1 + (r/alpha)^2)^(1 - beta). Lengths in pixels.

    `covariance` (2, 2) is that of ln(alpha) and beta as they were fitted.
    """

    alpha: float
    beta: float
    covariance: Array = field(default_factory=lambda: np.zeros((2, 2)), repr=False, compare=False)

    def within(self, radius: float | Array) -> Array:
        return np.asarray(1 - (1 + (np.asarray(radius) / self.alpha) ** 2) ** (1 - self.beta))

    @property
    def fwhm(self) -> float:
        return float(2 * self.alpha * np.sqrt(2 ** (1 / self.beta) - 1))

    def loss_mag(self, radius: float) -> float:
        """How much too faint a star is in an aperture of that radius."""
        return float(-2.5 * np.log10(self.within(radius)))

    def loss_error_mag(self, radius: float) -> float:
        """1 sigma of the loss."""
        here = self.loss_mag(radius)
        by_alpha = (Profile(self.alpha * 1.001, self.beta).loss_mag(radius) - here) / 0.001
        by_beta = (Profile(self.alpha, self.beta + 0.001).loss_mag(radius) - here) / 0.001
        slope = np.array([by_alpha, by_beta])
        return float(np.sqrt(max(slope @ self.covariance @ slope, 0.0)))


def profile_of(fluxes: Array, diameters: Sequence[float]) -> Profile | None:
    """The profile of the stars of an exposure, from their fluxes (stars, apertures), good stars only.

    Most of the sources must be stars: the median ratios count, clipped at 2.5 sigmas. None when there are too few stars
    or apertures, or no profile is near the ratios.
    """
    radii = np.asarray(diameters, float) / 2
    positive = np.asarray(fluxes[(fluxes > 0).all(axis=1)])
    if len(radii) < FEWEST_APERTURES or len(positive) < FEWEST_STARS:
        return None
    largest = int(np.argmax(radii))
    others = [n for n in range(len(radii)) if n != largest]
    ratios = positive[:, others] / positive[:, [largest]]
    middle, errors = _middle(ratios)

    def off(parameters: Array) -> Array:
        profile = Profile(float(np.exp(parameters[0])), float(parameters[1]))
        return np.asarray((profile.within(radii[others]) / profile.within(radii[largest]) - middle) / errors)

    lowest, highest = np.log(radii.min() / 20), np.log(radii.max() * 5)
    start = (np.log(radii.min()), 3.0)
    fit = least_squares(off, start, bounds=((lowest, BETAS[0]), (highest, BETAS[1])))
    if not fit.success or np.abs(off(fit.x) * errors).max() > 0.05:
        return None
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac)
    return Profile(float(np.exp(fit.x[0])), float(fit.x[1]), covariance)


def _middle(ratios: Array) -> tuple[Array, Array]:
    """Medians and their errors, (apertures,) each."""
    keep: NDArray[np.bool_] = np.ones(len(ratios), bool)
    for _ in range(ROUNDS):
        middle = np.median(ratios[keep], axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(ratios[keep] - middle), axis=0), 1e-6)
        keep = np.asarray((np.abs(ratios - middle) <= 2.5 * spread).all(axis=1))
        if not keep.any():
            break
    return np.asarray(middle), np.asarray(np.maximum(spread / np.sqrt(max(keep.sum(), 1)), 1e-6))
