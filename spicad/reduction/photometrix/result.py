"""From exposures and their sources to zero points: matches, solves each instrument, recognises clouds, sets the zero.

Pure: records and arrays in, records out. Reading is set.py's, writing report.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.reduction.photometrix.clouds import Clouds, extinguished, recognised
from spicad.reduction.photometrix.match import matched, nearest
from spicad.reduction.photometrix.set import Exposure, Sources
from spicad.reduction.photometrix.solve import Measures, Reference, Solution, Wish, solve
from spicad.words import BadInput, Problem, SpicaError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Truths = NDArray[np.bool_]

BRIGHT_SIGNAL_TO_NOISE = 100.0  # as SCAMP's "high S/N"


class NoSolution(SpicaError):
    """Why a set has no relative photometry."""


@dataclass(frozen=True)
class KnownStars:
    """A reference catalogue: `place` (n, 3) unit vectors; by instrument ("" for all) `mag` (n,) and `error` (n,);
    `colour` (n,), NaN where it is not known."""

    place: Array
    mag: Mapping[str, Array]
    error: Array
    colour: Array


@dataclass(frozen=True)
class OfInstrument:
    """What was solved for one instrument: which exposures (numbers in the set), which rows of the sources.

    `zero` (exposures,) are final zero points: mag = zero + ccd term - 2.5 log10(ADU/s). `ccd` are the terms that are
    applied, 0 where the error is too large (`ccd_known` False). `why` says for each exposure what fixed its zero.
    """

    name: str
    exposures: Numbers
    rows: Numbers
    star: Numbers
    solution: Solution
    zero: Array
    ccd: Array
    ccd_known: Truths
    photometric: Truths
    cloud_mag: Array
    extinction: tuple[float, float] | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    instruments: tuple[OfInstrument, ...]
    notes: tuple[str, ...]
    sources: Sources = field(repr=False)


def photometry(
    exposures: Sequence[Exposure], sources: Sources, values: Mapping[str, Any], known: KnownStars | None = None
) -> Result:
    """The relative photometry of a set. `values` are photometrix's keywords.

    Raises NoSolution when nothing in the set overlaps, BadInput when the zero that is asked for cannot be had.
    """
    notes: list[str] = []
    found = []
    for name in sorted({exposure.instrument for exposure in exposures}):
        members = np.array([n for n, exposure in enumerate(exposures) if exposure.instrument == name])
        found.append(_of_instrument(name, members, exposures, sources, values, known, notes))
    if all(_has_no_link(each) for each in found) and len(exposures) > 1:
        raise NoSolution(_no_overlaps(exposures, found, values))
    return Result(tuple(found), tuple(notes), sources)


def _of_instrument(
    name: str,
    members: Numbers,
    exposures: Sequence[Exposure],
    sources: Sources,
    values: Mapping[str, Any],
    known: KnownStars | None,
    notes: list[str],
) -> OfInstrument:
    rows = np.flatnonzero(np.isin(sources.exposure, members))
    star = matched(
        sources.place[rows], sources.exposure[rows], sources.mag[rows], values["CROSSID_RADIUS"], values["MAG_GATE"]
    )
    rows, star = _bright_enough(rows, star, sources, values["SN_THRESHOLD"])
    reference, colour = _known_of(name, rows, star, sources, values, known)
    local = np.searchsorted(members, sources.exposure[rows])
    measures = Measures(local, sources.ccd[rows], star, sources.mag[rows], sources.error[rows], colour)
    ccds = max(len(exposures[number].heads) for number in members.tolist())
    wish = Wish(
        values["OVERLAP_NMIN"], values["CLIP_NSIGMA"], values["ITERATIONS_MAX"], values["PHOT_ACCURACY"],
        ccd_terms=values["CCD_TERMS"] and ccds > 1, colour=values["COLOUR_TERMS"],
    )  # fmt: skip
    anchored = reference if values["ANCHOR"] == "REFERENCE" or values["COLOUR_TERMS"] == "INSTRUMENT" else None
    solution = solve(measures, len(members), ccds, wish, anchored)
    chosen = [exposures[number] for number in members.tolist()]
    clouds, photometric, cloud_mag = _clouds(solution, chosen, values)
    zero, why = _zeroed(name, solution, chosen, clouds, values, notes)
    ccd_known = (solution.ccd_error > 0) & (solution.ccd_error <= values["CCD_MAXERR"])
    _note(name, solution, chosen, ccd_known, wish, values, notes)
    extinctions = [
        (each.extinction, each.extinction_error or 0.0) for each in clouds.values() if each.extinction is not None
    ]
    return OfInstrument(
        name, members, rows, star, solution, zero, np.where(ccd_known, solution.ccd, 0.0), ccd_known, photometric,
        cloud_mag, extinctions[0] if extinctions else None, why,
    )  # fmt: skip


def _bright_enough(rows: Numbers, star: Numbers, sources: Sources, threshold: float) -> tuple[Numbers, Numbers]:
    """Without the stars whose median signal-to-noise is below the threshold; stars are numbered anew."""
    ratio = 1.0857 / sources.error[rows]
    order = np.lexsort((ratio, star))
    starts = np.flatnonzero(np.diff(star[order], prepend=-1))
    counts = np.diff(np.append(starts, len(star)))
    median = ratio[order][starts + (counts - 1) // 2]
    keep = median[star] >= threshold
    _, numbered = np.unique(star[keep], return_inverse=True)
    return rows[keep], numbered.astype(np.int64)


def _known_of(
    name: str, rows: Numbers, star: Numbers, sources: Sources, values: Mapping[str, Any], known: KnownStars | None
) -> tuple[Reference | None, Array]:
    """Reference magnitudes by star, and the colour of each measure."""
    colour = np.full(len(rows), np.nan)
    if known is None:
        return None, colour
    stars = int(star.max(initial=-1)) + 1
    _, first = np.unique(star, return_index=True)
    found = nearest(sources.place[rows[first]], known.place, values["CROSSID_RADIUS"])
    has = found >= 0
    colours = np.where(has, known.colour[found], np.nan) if len(found) else colour
    mags = known.mag.get(name, known.mag.get(""))
    if mags is None or not stars:
        return None, colours[star]
    good = has & np.isfinite(mags[found])
    if values["COLOUR_TERMS"] == "INSTRUMENT":
        good &= np.isfinite(colours)
    mag, error = np.where(good, mags[found], 0.0), np.where(good, known.error[found], np.inf)
    return Reference(mag, error), colours[star]


# Clouds


def _clouds(
    solution: Solution, chosen: Sequence[Exposure], values: Mapping[str, Any]
) -> tuple[dict[int, Clouds], Truths, Array]:
    """By group; and over all exposures which are photometric and how dim the others are (NaN for one alone)."""
    found: dict[int, Clouds] = {}
    photometric, cloud_mag = np.zeros(len(chosen), bool), np.full(len(chosen), np.nan)
    flagged = np.array([exposure.is_flagged is True for exposure in chosen])
    for number in np.unique(solution.group):
        at = np.flatnonzero(solution.group == number)
        if not np.isfinite(solution.zero_error[at]).all():
            photometric[at] = flagged[at]
            continue
        zero, error = solution.zero[at], solution.zero_error[at]
        clouds = None
        if values["SOLVE_AIRMASS"] and all(chosen[n].airmass is not None for n in at.tolist()):
            nominal = np.array([chosen[n].nominal or 0.0 for n in at.tolist()])
            airmass = np.array([chosen[n].airmass or 1.0 for n in at.tolist()])
            clouds = extinguished(zero, error, nominal, airmass, values["PHOTOMETRIC_TOL"])
        if clouds is None:
            clouds = recognised(zero, error, _promised(chosen, at), flagged[at], values["PHOTOMETRIC_TOL"])
        found[int(number)] = clouds
        photometric[at], cloud_mag[at] = clouds.photometric, clouds.cloud_mag
    return found, photometric, cloud_mag


def _promised(chosen: Sequence[Exposure], at: Numbers) -> Array:
    """The zero points that headers promise; what one of them lacks counts for none of them."""
    has_nominal = all(chosen[n].nominal is not None for n in at.tolist())
    has_extinction = all(chosen[n].extinction is not None and chosen[n].airmass is not None for n in at.tolist())
    return np.array(
        [
            (float(chosen[n].nominal or 0.0) if has_nominal else 0.0) + (chosen[n].dimming if has_extinction else 0.0)
            for n in at.tolist()
        ]
    )


# The zero


def _zeroed(
    name: str,
    solution: Solution,
    chosen: Sequence[Exposure],
    clouds: Mapping[int, Clouds],
    values: Mapping[str, Any],
    notes: list[str],
) -> tuple[Array, tuple[str, ...]]:
    """Final zero points, and what fixed each: mean, photometric, reference, header, nothing."""
    zero, why = solution.zero.copy(), ["mean"] * len(chosen)
    for number in np.unique(solution.group):
        at = np.flatnonzero(solution.group == number)
        if solution.tied[at].all() and values["ANCHOR"] == "REFERENCE":
            how, shift = "reference", 0.0
        elif values["ANCHOR"] == "MEAN" or (number not in clouds and chosen[int(at[0])].expected is None):
            how, shift = "mean" if number in clouds else "nothing", -float(zero[at].mean())
        elif values["ANCHOR"] == "REFERENCE" and chosen[int(at[0])].expected is None:
            shown = ", ".join(chosen[n].name for n in at[:5].tolist())
            what = f"{shown}: these exposures have fewer than {values['OVERLAP_NMIN']} stars of the reference."
            raise BadInput(Problem("ANCHOR REFERENCE", what, "Use ANCHOR MEAN or PHOTOMETRIC, or a wider catalogue."))
        elif number not in clouds:
            how, shift = "header", float(chosen[int(at[0])].expected or 0.0) - float(zero[at[0]])
        else:
            how, shift = "photometric", -clouds[int(number)].level
        if values["ANCHOR"] == "REFERENCE" and how != "reference":
            shown = ", ".join(chosen[n].name for n in at.tolist())
            notes.append(f"{name}: {shown}: no reference stars, the zero is that of the header")
        zero[at] += shift
        for n in at.tolist():
            why[n] = how
    return zero, tuple(why)


# What is worth a word


def _has_no_link(found: OfInstrument) -> bool:
    links = found.solution.group[:, None] == found.solution.group[None, :]
    return bool(links.sum() == len(found.exposures)) and not found.solution.tied.any()


def _no_overlaps(exposures: Sequence[Exposure], found: Sequence[OfInstrument], values: Mapping[str, Any]) -> str:
    most = max(
        (int(np.triu(each.solution.shared, 1).max(initial=0)) for each in found),
        default=0,
    )
    instruments = len(found)
    among = f"of {len(exposures)} exposures" + (f" in {instruments} instruments" if instruments > 1 else "")
    return (
        f"no overlaps: no two {among} have {values['OVERLAP_NMIN']} stars in common within "
        f"{values['CROSSID_RADIUS']:g} arcsec; the most is {most}. Either they do not overlap, or their astrometry is "
        f"not good enough: solve it first, or raise CROSSID_RADIUS."
    )


def _note(
    name: str,
    solution: Solution,
    chosen: Sequence[Exposure],
    ccd_known: Truths,
    wish: Wish,
    values: Mapping[str, Any],
    notes: list[str],
) -> None:
    label = name or "no instrument named"
    groups = np.unique(solution.group)
    if len(groups) > 1:
        shown = "; ".join(
            ", ".join(chosen[n].name for n in np.flatnonzero(solution.group == number)[:8].tolist())
            for number in groups[:8]
        )
        notes.append(f"{label}: {len(groups)} groups that do not overlap, each with a zero of its own: {shown}")
    for n in np.flatnonzero(~np.isfinite(solution.zero_error)).tolist():
        notes.append(f"{label}: {chosen[n].name} overlaps no other exposure, its zero point is not measured")
    weak = (solution.shared < values["OVERLAP_NMIN"]) & (solution.shared > 0)
    apart = solution.group[:, None] != solution.group[None, :]
    for one, other in np.argwhere(np.triu(weak & apart, 1))[:10].tolist():
        count = solution.shared[one, other]
        notes.append(f"{label}: {chosen[one].name} and {chosen[other].name} share {count} stars only, not joined")
    if wish.ccd_terms and not ccd_known.all():
        lost = ", ".join(str(n + 1) for n in np.flatnonzero(~ccd_known)[:12])
        notes.append(f"{label}: overlaps do not fix the terms of CCD {lost}: none is applied there")
    if not solution.converged:
        notes.append(f"{label}: not settled after {solution.rounds} rounds")
