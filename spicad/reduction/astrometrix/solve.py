"""The whole of a solution: first matches, CCD by CCD, the global fit, and what is believed of it.

An exposure that fails is left out and named, and the others are solved without it. What is written comes after.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.astrometrix import fit, verdict
from spicad.reduction.astrometrix.exposures import Exposure, Refused, Set
from spicad.reduction.astrometrix.fit import Links, Problem, Residuals, Solution
from spicad.reduction.astrometrix.layout import Settled, model_from, plane_of, rough_plane, settle
from spicad.reduction.astrometrix.match import SIDES, Limits, Match, first_match, wide_match
from spicad.reduction.astrometrix.model import Model
from spicad.reduction.astrometrix.settings import Settings
from spicad.reduction.references import References

Say = Callable[[str], None]

STAR_SIDE = 60.0  # arcsec around a field in which reference stars are looked for beyond the limits
TOLERANCE_PIXELS, TOLERANCE_OF_FIELD = 5.0, 0.002  # of the first match: centring and gaps; distortion
ITERATIONS = (5, 5, 2)  # of the fit, after each identification
STARS_A_TERM = 4  # reference stars for each term of a distortion, or its degree is lowered
STARS_FOR_LINEAR = 15  # on an exposure; with fewer it keeps the angle and scale of its first match
ROUNDS = 3  # of leaving out exposures that are not believed


@dataclass(frozen=True)
class Solved:
    """All that can be told and written. `refused` may hold all exposures; then there is no problem."""

    set: Set
    matches: Mapping[int, Match]
    settled: Sequence[Settled]
    refused: Sequence[Refused]
    warnings: Sequence[str]
    problem: Problem | None = None
    links: Links | None = None
    residuals: Residuals | None = None
    solution: Solution | None = None
    ccds: Sequence[verdict.CcdFigures] = field(default_factory=tuple)

    @property
    def model(self) -> Model | None:
        return self.problem.model if self.problem else None


def solved(given: Set, references: References, settings: Settings, say: Say = lambda text: None) -> Solved:
    """The solution of all exposures that can be believed."""
    refused = list(given.refused)
    warnings = _words_about_errors(given)
    epochs = [exposure.epoch for exposure in given.exposures if math.isfinite(exposure.epoch)]
    epoch = float(np.median(epochs)) if epochs else math.nan
    if epochs:
        references = references.at(epoch)
    elif references.motion_ra.any():
        warnings.append("no exposure tells when it was taken: proper motions are not applied.")
    matches: dict[int, Match] = {}
    known: dict[str, Match] = {}
    for exposure in given.exposures:
        found = _first(exposure, given, references, settings, known)
        if isinstance(found, Refused):
            refused.append(found)
            say(f"{exposure.name}: {found.name}: {found.why}")
            continue
        matches[exposure.number] = found
        known.setdefault(exposure.instrument, found)
        if found.side != "as it is":
            warnings.append(f"{exposure.name}: the field is {found.side} against its header.")
        say(
            f"{exposure.name}: {len(found.detections)} reference stars, shift {abs(found.shift):.1f} arcsec, angle "
            f"{found.angle_deg:.3f} deg, scale {found.scale:.5f}, contrast {found.contrast:.1f}"
        )
    everything = Solved(given, matches, (), refused, warnings)
    for _ in range(ROUNDS):
        chosen = {number: given.exposures[number] for number in matches}
        if not chosen:
            return Solved(given, matches, (), refused, warnings)
        try:
            everything = _together(given, chosen, references, epoch, matches, settings, refused, warnings, say)
        except fit.Unsolvable as error:
            refused += [Refused(exposure.name, "not converged", str(error)) for exposure in chosen.values()]
            return Solved(given, matches, (), refused, warnings)
        blamed = verdict.not_believed(given.exposures, everything.ccds, settings)
        if not blamed:
            return everything
        for number, refusal in blamed.items():
            say(f"{refusal.exposure}: {refusal.name}: {refusal.why}")
            refused.append(refusal)
            matches = {n: match for n, match in matches.items() if n != number}
    if matches:  # still not believed after so many rounds
        names = [given.exposures[number].name for number in matches]
        refused += [Refused(name, "not converged", "the exposures do not agree with each other.") for name in names]
    return Solved(given, {}, everything.settled, refused, warnings)


def _first(
    exposure: Exposure, given: Set, references: References, settings: Settings, known: Mapping[str, Match]
) -> Match | Refused:
    """Its first match: within narrow limits when its instrument is known already, then within those of the user."""
    least, sure = settings.integer("MATCH_MIN_STARS"), settings.number("MATCH_SURE")
    detections, here = given.detections, exposure.here
    count = here.stop - here.start
    if count < least:
        return Refused(exposure.name, "too few stars", f"only {count} detections can be used, {least} are needed.")
    field_plane = rough_plane(exposure, detections)
    stars = plane_of(exposure.pivot, references.ra, references.dec)
    radius = float(np.abs(field_plane).max())
    shift = settings.number("POSITION_MAXERR") * 60
    near = np.abs(stars) < radius * settings.number("PIXSCALE_MAXERR") + shift * math.sqrt(2) + STAR_SIDE
    if near.sum() < least:
        return verdict.no_reference(exposure, int(near.sum()), stars, radius, least)
    tolerance = tolerance_of(exposure, radius, settings)
    sides = tuple(SIDES) if settings.is_set("MATCH_FLIPPED") else ("as it is",)
    angle, scale = settings.number("POSANGLE_MAXERR"), settings.number("PIXSCALE_MAXERR")
    brightness, star_brightness = -detections.mag[here].astype(float), -references.mag[near]
    before = known.get(exposure.instrument)
    if before is not None:
        like = Limits(shift, 0.2, 1.002, tolerance)
        turned = before.turn * SIDES[before.side](field_plane)
        found = first_match(turned, brightness, stars[near], star_brightness, like, sure, least)
        if found is not None:
            turn = found.turn * before.turn
            return Match(before.side, turn, found.shift, *_rest(found))
    limits = Limits(shift, angle, scale, tolerance, sides)
    found = first_match(field_plane, brightness, stars[near], star_brightness, limits, sure, least)
    if found is not None:
        return found
    wide = np.abs(stars) < 4 * radius + shift + STAR_SIDE
    anyhow = wide_match(field_plane, brightness, stars[wide], -references.mag[wide], tolerance, sure, least)
    return verdict.unmatched(exposure, anyhow, int(near.sum()), count, settings)


def _rest(match: Match) -> tuple[NDArray[np.intp], NDArray[np.intp], float, float, float]:
    return match.detections, match.references, match.sure, match.contrast, match.rms


def tolerance_of(exposure: Exposure, radius: float, settings: Settings) -> float:
    given = settings.number("MATCH_TOLERANCE")
    return given or max(TOLERANCE_PIXELS * exposure.scale, TOLERANCE_OF_FIELD * radius)


def _together(
    given: Set,
    chosen: Mapping[int, Exposure],
    references: References,
    epoch: float,
    matches: Mapping[int, Match],
    settings: Settings,
    refused: Sequence[Refused],
    warnings: Sequence[str],
    say: Say,
) -> Solved:
    model = model_from(chosen, matches, settings)
    on_fields = references.where(_near_fields(model, references))
    radius = max(camera.radius for camera in model.cameras)
    tolerance = max(tolerance_of(exposure, radius, settings) for exposure in chosen.values())
    settled = settle(model, chosen, given.detections, on_fields, settings, tolerance)
    problem = Problem(model, list(chosen.values()), given.detections, on_fields, epoch, settings)
    said = [*warnings, *_words_about(settled)]
    radius = settings.number("CROSSID_RADIUS") or max(tolerance, 2.0)
    links = fit.link(problem, radius)
    _hold(problem, links, settings)
    said += _lower_degrees(problem, links)
    residuals, solution = fit.measure(problem, links), None
    for step, iterations in enumerate(ITERATIONS):
        for _ in range(iterations):
            fit.clip(problem, links, residuals)
            fit.renew_floors(problem, residuals)
            solution = fit.solve(problem, links, residuals)
            residuals = fit.measure(problem, links)
        fit.clip(problem, links, residuals)
        if step < len(ITERATIONS) - 1:
            links = fit.link(problem, _next_radius(problem, residuals, radius, settings))
            residuals = fit.measure(problem, links)
    assert solution is not None
    say(f"{len(chosen)} exposures fitted with {solution.parameters} parameters")
    ccds = verdict.figures_of_ccds(problem, links, residuals, solution, settled)
    return Solved(given, matches, settled, refused, said, problem, links, residuals, solution, ccds)


def _near_fields(model: Model, references: References) -> NDArray[np.bool_]:
    near = np.zeros(len(references), bool)
    for number, pointing in model.pointings.items():
        plane = plane_of(pointing.crval, references.ra, references.dec)
        near |= np.abs(plane) < 1.05 * model.camera(number).radius + STAR_SIDE
    return near


def _next_radius(problem: Problem, residuals: Residuals, radius: float, settings: Settings) -> float:
    """Six times the usual distance of a detection from its source, within bounds."""
    if settings.number("CROSSID_RADIUS"):
        return settings.number("CROSSID_RADIUS")
    squared, variance = fit.deviation(residuals)
    usual = squared[residuals.used & np.isfinite(variance)]
    scale = float(np.median([exposure.scale for exposure in problem.exposures]))
    spread = math.sqrt(float(np.median(usual)) / (2 * math.log(2))) if len(usual) else radius
    return min(radius, max(8 * spread, 2.5 * scale, 0.5))


def _hold(problem: Problem, links: Links, settings: Settings) -> None:
    """CCDs with too few stars stay where the layout has them; poor exposures keep angle and scale."""
    total = problem.total
    members = np.bincount(links.source[links.source >= 0], minlength=links.count)
    tied = (links.source[:total] >= 0) & problem.detections.good
    tied &= members[np.maximum(links.source[:total], 0)] >= 2
    for index, camera in enumerate(problem.model.cameras):
        mine = [exposure for exposure in problem.exposures if exposure.number in camera.exposures]
        for ccd in range(len(camera.sizes)):
            if sum(int(tied[exposure.on(ccd)].sum()) for exposure in mine) < settings.integer("CCD_MIN_STARS"):
                problem.held_ccds.add((index, ccd))
    for exposure in problem.exposures:
        if tied[exposure.here].sum() < STARS_FOR_LINEAR:
            problem.held_exposures.add(exposure.number)


def _lower_degrees(problem: Problem, links: Links) -> list[str]:
    """A distortion needs some stars for each of its terms: what there are too few for is not fitted."""
    said = []
    stars = len(problem.references)
    for camera in problem.model.cameras:
        mine = [e for e in problem.exposures if e.number in camera.exposures]
        linked = np.concatenate([links.source[e.here] for e in mine])
        count = len(np.unique(linked[(linked >= 0) & (linked < stars)]))
        degree = camera.degree
        while degree > 1 and count < STARS_A_TERM * (degree + 1) * (degree + 2) // 2:
            degree -= 1
        if degree < camera.degree:
            said.append(f"{camera.name}: degree {degree} instead of {camera.degree}: only {count} reference stars.")
            camera.degree = degree
            camera.distortion = camera.distortion[: (degree + 1) * (degree + 2) // 2 - 3]
    return said


def _words_about_errors(given: Set) -> list[str]:
    names = [exposure.name for exposure in given.exposures if not exposure.has_errors]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    what = "no column of CENTROIDERR_KEYS: errors are guessed from FWHM and S/N."
    return [f"{', '.join(names[:3])}{more}: {what}"] if names else []


def _words_about(settled: Sequence[Settled]) -> list[str]:
    said = []
    for each in settled:
        if each.takes_mean:
            said.append(
                f"{each.camera}: {each.ccd}: {each.stars} reference stars: it takes the mean of its instrument."
            )
        elif each.side != "as it is":
            said.append(f"{each.camera}: {each.ccd} is {each.side} against its header.")
    return said
