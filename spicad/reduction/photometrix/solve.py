"""Solves relative zero points: clipped, weighted, sparse least squares over all overlapping pairs of a set.

A magnitude for one second m of star s on CCD c of exposure e obeys M_s = m + z_e + d_c + k_c (colour_s). Magnitudes of
stars are eliminated: with weights w the sum of w_i w_j / sum(w) times (r_i - r_j)^2 over all pairs of a star is that of
w_i (r_i - mean)^2 over its measures, so that pairs need not be listed (Glazebrook et al. 1994, MNRAS 266, 65, solve the
same normal equations; Padmanabhan et al. 2008, ApJ 674, 1217, add airmass and CCD terms). Matching is not done here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse import csr_array

from spicad.reduction.photometrix.match import common_stars, groups_of

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Truths = NDArray[np.bool_]

SETTLED_MAG = 1e-5
COLOUR_SPREAD = 0.2  # prior sigma of a CCD's colour term
FREE_ROUNDS = 5  # after these, what is clipped stays clipped: some measures would come and go for ever
LEAST_SPREAD = 0.1  # of the normalised residuals: below it errors are overstated, not stars perfect


@dataclass(frozen=True)
class Measures:
    """n magnitudes of stars, each array (n,). `error` is 1 sigma in mag; `colour` is NaN where it is not known."""

    exposure: Numbers
    ccd: Numbers
    star: Numbers
    mag: Array
    error: Array
    colour: Array

    def __len__(self) -> int:
        return len(self.mag)

    def of(self, rows: NDArray[np.generic]) -> Measures:
        return Measures(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Reference:
    """Known magnitudes by star, (stars,) each; `error` is infinite where there is none."""

    mag: Array
    error: Array


@dataclass(frozen=True)
class Wish:
    """How to solve. Magnitudes throughout."""

    fewest_in_pair: int = 10
    clip_sigmas: float = 3.0
    most_rounds: int = 50
    accuracy: float = 0.005  # what flat fields leave, added to each error in quadrature
    ccd_terms: bool = True
    ccd_spread: float = 0.1  # prior sigma of a CCD term: wide beside any real one, it holds those that nothing measures
    colour: str = "NONE"


@dataclass(frozen=True)
class Solution:
    """What came of one set of exposures and CCDs that share an instrument.

    Arrays over exposures: `zero`, `zero_error`, `group` (numbers from 0), `tied` (its group has reference stars). Over
    CCDs: `ccd`, `ccd_error`, both 0 when not asked for. Over measures: `residual` (mag + terms - star's mean; NaN for a
    star measured once), `used`. `shared` is (exposures, exposures), stars in common. Errors are 1 sigma, scaled by the
    scatter found; zero points of a group have the mean 0 over its anchors unless it is tied.
    """

    zero: Array
    zero_error: Array
    ccd: Array
    ccd_error: Array
    colour: Array
    colour_error: Array
    group: Numbers
    tied: Truths
    shared: NDArray[np.int64]
    residual: Array
    used: Truths
    rounds: int
    converged: bool
    chi2: float
    freedom: int
    covariance: Array = field(repr=False)


def solve(
    measures: Measures,
    exposures: int,
    ccds: int,
    wish: Wish = Wish(),
    reference: Reference | None = None,
    anchors: Truths | None = None,
) -> Solution:
    """The zero points of `exposures` exposures with `ccds` CCDs, numbered from 0 in `measures`.

    `anchors` (exposures,) are those over which the mean of a group is 0, by default all. Exposures with fewer than
    `fewest_in_pair` stars in common with any other stand in a group of their own, with zero point 0 and infinite error.
    """
    system = _System(measures, exposures, ccds, wish, reference, anchors)
    return system.solved()


class _System:
    """The normal equations of one set, formed anew in each round for the measures in use."""

    def __init__(
        self,
        measures: Measures,
        exposures: int,
        ccds: int,
        wish: Wish,
        reference: Reference | None,
        anchors: Truths | None,
    ) -> None:
        self.measures, self.exposures, self.ccds, self.wish = measures, exposures, ccds, wish
        self.weight = 1 / (measures.error**2 + wish.accuracy**2)
        stars = int(measures.star.max(initial=-1)) + 1
        self.known = _reference_arrays(reference, stars, wish.accuracy)
        self.shared, self.group, self.tied = self._grouped(stars)
        # A star seen by two groups is two stars: nothing may pass between groups.
        self.star, self.known_mag, self.known_weight = self._split(stars)
        self.anchors = np.ones(exposures, bool) if anchors is None else anchors
        self.terms = self._design()

    def _grouped(self, stars: int) -> tuple[NDArray[np.int64], Numbers, Truths]:
        """The reference counts as one more exposure, through which groups may hang together."""
        node, star = self.measures.exposure, self.measures.star
        of_reference = np.flatnonzero(self.known[1] > 0)
        node = np.concatenate([node, np.full(len(of_reference), self.exposures)])
        shared = common_stars(np.concatenate([star, of_reference]), node, self.exposures + 1)
        group = groups_of(shared, self.wish.fewest_in_pair)
        tied = (group == group[-1])[:-1]
        _, plain = np.unique(group[:-1], return_inverse=True)
        return shared[:-1, :-1], plain.astype(np.int64), np.asarray(tied)

    def _split(self, stars: int) -> tuple[Numbers, Array, Array]:
        group = self.group[self.measures.exposure]
        key = self.measures.star * (int(self.group.max(initial=0)) + 1) + group
        _, first, star = np.unique(key, return_index=True, return_inverse=True)
        of_star = self.measures.star[first]
        tied = self.tied[self.measures.exposure[first]]
        return star.astype(np.int64), self.known[0][of_star], np.where(tied, self.known[1][of_star], 0.0)

    def _design(self) -> list[tuple[Numbers, Array]]:
        """What adds to each measure: the parameter's number and its factor, (measures,) each, by kind of parameter.

        Zero points come first, then CCD terms, then colour terms.
        """
        measures, rows = self.measures, np.arange(len(self.measures))
        columns, values = [measures.exposure], [np.ones(len(rows))]
        width = self.exposures
        if self.wish.ccd_terms:
            columns.append(width + measures.ccd)
            values.append(np.ones(len(rows)))
            width += self.ccds
        self.first_colour = width
        if self.wish.colour != "NONE":
            has = np.isfinite(measures.colour)
            middle = np.median(measures.colour[has]) if has.any() else 0.0
            columns.append(width + (measures.ccd if self.wish.colour == "CCD" else np.zeros(len(rows), np.int64)))
            values.append(np.where(has, measures.colour - middle, 0.0))
            width += self.ccds if self.wish.colour == "CCD" else 1
        self.width = width
        return list(zip(columns, values, strict=True))

    def solved(self) -> Solution:
        used = np.ones(len(self.measures), bool)
        earlier = np.zeros(self.width)
        converged, rounds = False, 0
        while not converged and rounds < self.wish.most_rounds:
            rounds += 1
            found, _ = self._fitted(used)
            again = self._kept(found, used)
            if rounds > FREE_ROUNDS:
                again &= used
            converged = bool((again == used).all() or np.abs(found - earlier).max(initial=0) < SETTLED_MAG)
            used, earlier = again, found
        found, covariance = self._fitted(used)
        return self._told(found, covariance, used, rounds, converged)

    def _fitted(self, used: Truths) -> tuple[Array, Array]:
        """Parameters and their covariance for unit weights."""
        weight = np.where(used, self.weight, 0.0)
        total, mean = self._means(self.measures.mag, weight)
        off = weight * (self.measures.mag - mean[self.star])
        right = -sum(np.bincount(column, off * value, self.width) for column, value in self.terms)
        normal = sum(
            csr_array((weight * one * other, (row, column)), shape=(self.width, self.width))
            for row, one in self.terms
            for column, other in self.terms
        ).toarray()
        of_stars = sum(  # (stars, parameters)
            csr_array((weight * value, (self.star, column)), shape=(len(total), self.width))
            for column, value in self.terms
        )
        inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        normal -= (of_stars.T @ of_stars.multiply(inverse[:, None]).tocsr()).toarray()
        self._hold(normal, used)
        factor = linalg.cho_factor(normal, check_finite=False)
        covariance = linalg.cho_solve(factor, np.eye(self.width), check_finite=False)
        return linalg.cho_solve(factor, right, check_finite=False), covariance

    def _hold(self, normal: Array, used: Truths) -> None:
        """Fixes what overlaps cannot tell: the mean of a group that is not tied, the mean CCD, CCDs by themselves."""
        stiff = max(float(np.median(np.diag(normal)[: self.exposures])), 1.0)
        for number in np.unique(self.group):
            members = np.flatnonzero(self.group == number)
            if not self.tied[members].all():
                anchors = members[self.anchors[members]] if self.anchors[members].any() else members
                normal[np.ix_(anchors, anchors)] += 1e3 * stiff / len(anchors)
        # An exposure whose measures were all clipped would leave the matrix singular.
        normal[np.diag_indices(self.exposures)] += 1e-9 * stiff
        if self.wish.ccd_terms:
            ccds = np.arange(self.exposures, self.exposures + self.ccds)
            normal[np.ix_(ccds, ccds)] += stiff / self.ccds
            normal[ccds, ccds] += 1 / self.wish.ccd_spread**2
        colours = np.arange(self.first_colour, self.width)
        normal[colours, colours] += 1 / COLOUR_SPREAD**2 if self.wish.colour == "CCD" else 1e-6

    def _means(self, mag: Array, weight: Array) -> tuple[Array, Array]:
        """Total weight and mean of each star, its reference magnitude included."""
        stars = len(self.known_weight)
        total = np.bincount(self.star, weight, stars) + self.known_weight
        summed = np.bincount(self.star, weight * mag, stars) + self.known_weight * self.known_mag
        return total, np.divide(summed, total, out=np.zeros_like(total), where=total > 0)

    def _residuals(self, found: Array, used: Truths) -> tuple[Array, Array]:
        """Residual of each measure from its star's mean, and its own 1 sigma; NaN where a star has one measure only.

        A star of which nothing is in use is held against the mean of all its measures, so that it may come back.
        """
        mag = self.measures.mag + sum(found[column] * value for column, value in self.terms)
        in_use = np.bincount(self.star, used, len(self.known_weight)) + (self.known_weight > 0)
        counted = used | (in_use[self.star] == 0)
        weight = np.where(counted, self.weight, 0.0)
        total, mean = self._means(mag, weight)
        measured = np.bincount(self.star, minlength=len(total)) + (self.known_weight > 0)
        share = np.where(total[self.star] > 0, self.weight / np.maximum(total[self.star], 1e-300), 0.0)
        variance = np.where(counted, 1 - share, 1 + share) / self.weight
        alone = (measured[self.star] < 2) | (variance <= 1e-12)
        residual = np.where(alone, np.nan, mag - mean[self.star])
        return residual, np.sqrt(np.maximum(variance, 1e-12))

    def _kept(self, found: Array, used: Truths) -> Truths:
        """Of each star only the worst measure goes in a round: it drags the others' mean with it."""
        residual, sigma = self._residuals(found, used)
        normalised = residual / sigma
        good = normalised[used & np.isfinite(normalised)]
        if not len(good):
            return used
        spread = max(1.4826 * float(np.median(np.abs(good))), LEAST_SPREAD)
        size = np.nan_to_num(np.abs(normalised))
        worst = np.zeros(len(self.known_weight))
        np.maximum.at(worst, self.star[used], size[used])
        is_worst = size >= worst[self.star] * (1 - 1e-9)
        return np.asarray((size <= self.wish.clip_sigmas * spread) | (used & ~is_worst))

    def _told(self, found: Array, covariance: Array, used: Truths, rounds: int, converged: bool) -> Solution:
        residual, _ = self._residuals(found, used)
        counts = used & np.isfinite(residual)
        chi2 = float((self.weight[counts] * residual[counts] ** 2).sum())
        stars = np.unique(self.star[counts])
        free = int(counts.sum()) - int((self.known_weight[stars] == 0).sum()) - self._parameters()
        scale = max(chi2 / free, 1.0) if free > 0 else 1.0
        error = np.sqrt(np.maximum(np.diag(covariance), 0) * scale)
        alone = ~self.tied & (np.bincount(self.group, minlength=self.exposures)[self.group] == 1)
        zero = np.where(alone, 0.0, found[: self.exposures])
        n = self.exposures
        has_ccds = self.wish.ccd_terms
        return Solution(
            zero=zero,
            zero_error=np.where(alone, np.inf, error[:n]),
            ccd=found[n : n + self.ccds] if has_ccds else np.zeros(self.ccds),
            ccd_error=error[n : n + self.ccds] if has_ccds else np.zeros(self.ccds),
            colour=found[self.first_colour :],
            colour_error=error[self.first_colour :],
            group=self.group,
            tied=self.tied,
            shared=self.shared,
            residual=residual,
            used=counts,
            rounds=rounds,
            converged=converged,
            chi2=chi2,
            freedom=max(free, 0),
            covariance=covariance * scale,
        )

    def _parameters(self) -> int:
        groups = {int(number) for number, tied in zip(self.group, self.tied, strict=True) if not tied}
        return self.exposures - len(groups) + (self.ccds - 1 if self.wish.ccd_terms else 0)


def _reference_arrays(reference: Reference | None, stars: int, accuracy: float) -> tuple[Array, Array]:
    """Magnitude and weight by star, weight 0 where there is none."""
    if reference is None:
        return np.zeros(stars), np.zeros(stars)
    good = np.isfinite(reference.mag) & np.isfinite(reference.error)
    weight = np.where(good, 1 / (np.where(good, reference.error, 1.0) ** 2 + accuracy**2), 0.0)
    return np.where(good, reference.mag, 0.0), weight
