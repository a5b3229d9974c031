"""What is believed: figures of each CCD, the names of all failures, and which exposure is to blame.

A small rms proves nothing, since stars that do not match are not in it: the share of reference stars that a CCD
should have and has not tells (measured with SCAMP: corners 5 to 12 arcsec off at 0.03 arcsec rms).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spicad.reduction.astrometrix import fit
from spicad.reduction.astrometrix.exposures import Exposure, Refused
from spicad.reduction.astrometrix.layout import Settled
from spicad.reduction.astrometrix.match import Match
from spicad.reduction.astrometrix.model import Plane
from spicad.reduction.astrometrix.settings import Settings

FAILURES = (
    "unreadable",
    "no WCS",
    "too few stars",
    "no overlap with the catalogue",
    "wrong field",
    "wrong scale",
    "wrong angle",
    "wrong pointing",
    "bad CCD",
    "not converged",
)
CHANCE = 1e-6  # that so few reference stars matched are bad luck
FEWEST_EXPECTED = 5
SHARE_NEEDED = 0.1  # of the reference stars within the bounds of the detections, on an exposure


@dataclass(frozen=True)
class CcdFigures:
    """Of one CCD of one exposure. Angles in arcsec, one axis; rms of bright stars, NaN where there are none."""

    exposure: int
    ccd: int
    name: str
    detections: int
    matched: int
    expected: int
    internal: tuple[float, float]
    external: tuple[float, float]
    overlaps: int
    uncertainty: float
    takes_mean: bool


def no_reference(exposure: Exposure, count: int, stars: Plane, radius: float, least: int) -> Refused:
    near = np.abs(stars[np.isfinite(stars)])
    where = (
        f"the nearest reference star is {near.min() / 60:.0f} arcmin from its middle" if len(near) else "none is near"
    )
    if count:
        where = f"only {count} reference stars are on the field, {least} are needed"
    return Refused(
        exposure.name, "no overlap with the catalogue", f"{where}; the field's radius is {radius / 60:.1f} arcmin."
    )


def unmatched(exposure: Exposure, anyhow: Match | None, stars: int, count: int, settings: Settings) -> Refused:
    """Why the field did not match, as far as a match without limits tells."""
    if anyhow is None:
        why = f"{count} detections and {stars} reference stars of the field have nothing in common"
        if min(stars, count) < 3 * settings.integer("MATCH_MIN_STARS"):
            return Refused(exposure.name, "too few stars", f"{why}, which are too few to be sure.")
        return Refused(exposure.name, "wrong field", f"{why}: the pointing is wrong, or the catalogue.")
    angle, scale, shift = anyhow.angle_deg, anyhow.scale, abs(anyhow.shift) / 60
    found = f"the field matches with its scale times {scale:.4f}, turned by {angle:.2f} deg, {shift:.1f} arcmin away"
    if abs(math.log(scale)) > math.log(settings.number("PIXSCALE_MAXERR")) + 0.002:
        return Refused(
            exposure.name, "wrong scale", f"{found}; PIXSCALE_MAXERR allows {settings.word('PIXSCALE_MAXERR')}."
        )
    if abs(angle) > settings.number("POSANGLE_MAXERR"):
        return Refused(
            exposure.name, "wrong angle", f"{found}; POSANGLE_MAXERR allows {settings.word('POSANGLE_MAXERR')}."
        )
    return Refused(
        exposure.name, "wrong pointing", f"{found}; POSITION_MAXERR allows {settings.word('POSITION_MAXERR')}."
    )


def figures_of_ccds(
    problem: fit.Problem,
    links: fit.Links,
    found: fit.Residuals,
    solution: fit.Solution,
    settled: Sequence[Settled],
) -> list[CcdFigures]:
    bright = problem.detections.snr >= problem.settings.numbers("SN_THRESHOLDS")[1]
    means = {(each.camera, each.ccd) for each in settled if each.takes_mean}
    stars = problem.references
    internal, has_overlap = internal_residuals(problem, links, found)
    external = found.place[: problem.total]
    is_star = (links.source[: problem.total] >= 0) & (links.source[: problem.total] < len(stars))
    in_use = np.zeros(len(stars), bool)
    in_use[:] = found.used[problem.total :]
    near_star = is_star & found.used[: problem.total]
    near_star[is_star] &= in_use[links.source[: problem.total][is_star]]
    figures = []
    for exposure in problem.exposures:
        camera = problem.model.camera(exposure.number)
        index = problem.model.camera_of[exposure.number]
        faintest = _faintest(problem, exposure, links, near_star)
        for ccd, name in enumerate(camera.names):
            here = exposure.on(ccd)
            overlap = has_overlap[here] & bright[here] & found.used[here]
            reference = near_star[here] & bright[here]
            figures.append(
                CcdFigures(
                    exposure.number,
                    ccd,
                    name,
                    here.stop - here.start,
                    int(near_star[here].sum()),
                    _expected(problem, exposure, ccd, faintest),
                    _rms(internal[here][overlap]),
                    _rms(external[here][reference]),
                    int((has_overlap[here] & found.used[here]).sum()),
                    fit.uncertainty(problem, solution, exposure, ccd),
                    (camera.name, name) in means or (index, ccd) in problem.held_ccds,
                )
            )
    return figures


def internal_residuals(problem: fit.Problem, links: fit.Links, found: fit.Residuals) -> tuple[Plane, np.ndarray]:
    """Of each detection from the mean of all of its source, freed of its own share; and whether there are others."""
    total = problem.total
    weight = np.where(found.used[:total] & (links.source[:total] >= 0), 1 / found.variance[:total], 0.0)
    source = np.maximum(links.source[:total], 0)
    sums = np.bincount(source, weight, links.count)
    safe = np.where(sums > 0, sums, 1.0)
    real = np.bincount(source, weight * found.place[:total].real, links.count) / safe
    imag = np.bincount(source, weight * found.place[:total].imag, links.count) / safe
    share = np.where(sums[source] > 0, weight / safe[source], 1.0)
    has_others = (weight > 0) & (share < 1 - 1e-6)
    away = found.place[:total] - (real + 1j * imag)[source]
    return np.where(has_others, away / np.sqrt(np.where(has_others, 1 - share, 1.0)), 0), has_others


def _rms(values: Plane) -> tuple[float, float]:
    if not len(values):
        return math.nan, math.nan
    return float(np.sqrt(np.mean(values.real**2))), float(np.sqrt(np.mean(values.imag**2)))


def _faintest(problem: fit.Problem, exposure: Exposure, links: fit.Links, near_star: np.ndarray) -> float:
    """Magnitude in the reference catalogue down to which its stars are seen on the exposure."""
    stars = links.source[: problem.total][exposure.here][near_star[exposure.here]]
    mags = problem.references.mag[stars]
    mags = mags[np.isfinite(mags)]
    return float(np.percentile(mags, 90)) if len(mags) >= 5 else math.inf


def _expected(problem: fit.Problem, exposure: Exposure, ccd: int, faintest: float) -> int:
    """Reference stars on the CCD that should have been seen."""
    tangent = problem.model.tangent(exposure, ccd)
    stars = problem.references
    width, height = exposure.ccds[ccd].size
    # A first look without the polynomial, then the few near ones with it.
    reach = math.hypot(width, height) / 2 * exposure.scale / 3600 * 1.2
    middle = tangent.sky(np.array([(width + 1) / 2]), np.array([(height + 1) / 2]))
    near = np.abs(stars.dec - middle[1]) < reach
    near &= (
        np.abs((stars.ra - middle[0] + 180) % 360 - 180) * np.cos(np.radians(np.minimum(np.abs(stars.dec) + reach, 90)))
        < reach
    )
    near &= ~(stars.mag > faintest)
    x, y = tangent.pixels(stars.ra[near], stars.dec[near])
    here = exposure.on(ccd)
    if here.stop - here.start < FEWEST_EXPECTED:
        return 0
    left, right = np.percentile(problem.detections.x[here], (0, 100))
    low, high = np.percentile(problem.detections.y[here], (0, 100))
    return int(((x > left) & (x < right) & (y > low) & (y < high)).sum())


def not_believed(
    exposures: Sequence[Exposure], ccds: Sequence[CcdFigures], settings: Settings
) -> Mapping[int, Refused]:
    """Exposures whose solution contradicts the stars, and why; those quite off first, alone when there are any."""
    per_exposure: dict[int, list[CcdFigures]] = {}
    for each in ccds:
        per_exposure.setdefault(each.exposure, []).append(each)
    shares = [each.matched / each.expected for each in ccds if each.expected >= FEWEST_EXPECTED]
    usual = float(np.median(shares)) if shares else 0.0
    blamed: dict[int, tuple[float, Refused]] = {}
    for number, figures in per_exposure.items():
        exposure = exposures[number]
        found = _too_few(exposure, figures, settings) or _too_scattered(exposure, figures, settings)
        if found is None and settings.word("BAD_CCD_TYPE") == "REFUSE":
            found = _astray(exposure, figures, usual)
        if found is not None:
            matched = sum(each.matched for each in figures) / max(sum(each.expected for each in figures), 1)
            blamed[number] = (matched, found)
    if not blamed:
        return {}
    least = min(share for share, _ in blamed.values())
    return {
        n: found for n, (share, found) in blamed.items() if share <= max(2 * least, SHARE_NEEDED) or len(blamed) == 1
    }


def _too_few(exposure: Exposure, figures: Sequence[CcdFigures], settings: Settings) -> Refused | None:
    matched, expected = sum(each.matched for each in figures), sum(each.expected for each in figures)
    least = settings.integer("MATCH_MIN_STARS")
    if matched < least:
        return Refused(exposure.name, "too few stars", f"{matched} reference stars were kept, {least} are needed.")
    if matched < SHARE_NEEDED * expected:
        return Refused(exposure.name, "not converged", f"only {matched} of {expected} reference stars agree.")
    return None


def _too_scattered(exposure: Exposure, figures: Sequence[CcdFigures], settings: Settings) -> Refused | None:
    values = np.array([each.external for each in figures]).ravel()
    values = values[np.isfinite(values)]
    worst = float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
    most = settings.number("ASTRREF_RMSMAX") * max(1.0, exposure.scale)
    if worst <= most:
        return None
    return Refused(
        exposure.name,
        "not converged",
        f"stars are {worst:.2f} arcsec rms off the reference, at most {most:.2f} is believed.",
    )


def _astray(exposure: Exposure, figures: Sequence[CcdFigures], usual: float) -> Refused | None:
    """CCDs with far fewer matched stars than there should be."""
    shares = [each.matched / each.expected for each in figures if each.expected >= FEWEST_EXPECTED]
    share = max(float(np.median(shares)) if shares else 0.0, usual / 2)
    bad = []
    for each in figures:
        hoped = min(each.expected, each.detections) * share
        if each.matched < hoped / 2 and _chance_of_at_most(each.matched, hoped) < CHANCE:
            bad.append(f"{each.name} ({each.matched} of {each.expected} reference stars)")
    if not bad:
        return None
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    return Refused(exposure.name, "bad CCD", f"the solution misses the stars of {', '.join(bad[:3])}{more}.")


def _chance_of_at_most(count: int, mean: float) -> float:
    """Poisson's."""
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1))
