"""Pre-processes one exposure, CCD by CCD: the image in ADU, a weight map, a flag map, figures.

Weights are inverse variances of the sky's and the readout's noise, 0 where a pixel is not to be used. Flags: 1 bad
pixel, 2 cosmic ray, 4 saturated.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad import __version__
from spicad.archive.headers import stem_of
from spicad.reduction.cosmics import Sharpest, cosmic_rays, grown
from spicad.reduction.packed import number
from spicad.reduction.preprocess.calibrations import (
    Calibrations,
    opened_calibrations,
    require_needed,
    without_crosstalk,
)
from spicad.reduction.preprocess.frames import Floats, Frame, RawCcd, median_of_known, opened_frame
from spicad.reduction.preprocess.masters import named
from spicad.reduction.preprocess.products import Cards, write_json, written
from spicad.reduction.preprocess.settings import CALIBRATIONS
from spicad.words import SpicaError

BAD, COSMIC, SATURATED = 1, 2, 4
NO_GAIN, NO_READ_NOISE_E, NO_SATURATION = 1.0, 10.0, 65535.0  # where no card says
SAMPLE = 200_000  # pixels, for the sky


@dataclass(frozen=True)
class Done:
    """One CCD after its pre-processing."""

    pixels: Floats
    weight: Floats
    flags: NDArray[np.uint8]
    cards: Cards
    figures: Mapping[str, Any]


def make_science(path: Path, values: Mapping[str, Any]) -> list[str]:
    """Writes STEM.fits, STEM.weight.fits, STEM.flag.fits and STEM.json; returns what is to be said, a line each."""
    folder, stem = Path(values["OUTPUT_DIR"]), stem_of(path)
    with ExitStack() as stack:
        frame = stack.enter_context(opened_frame(path, values, folder))
        if card := frame.done_by(values["DONE_KEYS"]):
            return _left_alone(path, card, values)
        require_needed(values)
        given = stack.enter_context(opened_calibrations(values, folder, CALIBRATIONS))
        figures = _write(frame, given, values, folder / stem)
    record = _record(frame, "preprocessed", figures)
    write_json(folder / f"{stem}.json", record)
    said = f"{path.name}: pre-processed with {', '.join(word.lower() for word in given.frames) or 'nothing'}"
    return [*_missing(frame), *_useless(figures), said]


def _left_alone(path: Path, card: str, values: Mapping[str, Any]) -> list[str]:
    """An exposure that somebody has pre-processed already: its pixels stay, its zero points are read."""
    folder, stem = Path(values["OUTPUT_DIR"]), stem_of(path)
    with ExitStack() as stack:
        frame = stack.enter_context(opened_frame(path, values, folder, is_raw=False))
        given = stack.enter_context(opened_calibrations(values, folder, ("MASK",)))
        figures = _write(frame, given, values, folder / stem, is_raw=False)
        shutil.copyfile(frame.file.plain, folder / f"{stem}.fits")
    zero = frame.ccds[0].header.get(values["MAGZERO_KEY"])
    record = _record(frame, f"left alone: {card}", figures)
    if isinstance(zero, int | float) and not isinstance(zero, bool):
        record["zero_point"] = float(zero)
    write_json(folder / f"{stem}.json", record)
    told = f", zero point {zero:g}" if "zero_point" in record else ""
    return [*_useless(figures), f"{path.name}: left alone, {card} says that it is pre-processed{told}"]


def _record(frame: Frame, state: str, figures: list[Mapping[str, Any]]) -> dict[str, Any]:
    middle = {name: float(np.median([each[name] for each in figures])) for name in ("overscan", "sky", "noise")}
    shares = {name: float(np.mean([each[name] for each in figures])) for name in ("bad_share", "saturated_share")}
    cosmics = sum(each["cosmic_pixels"] for each in figures)
    return {"name": frame.name, "state": state, **middle, **shares, "cosmic_pixels": cosmics, "ccds": figures}


def _write(
    frame: Frame, given: Calibrations, values: Mapping[str, Any], place: Path, is_raw: bool = True
) -> list[Mapping[str, Any]]:
    """The maps, and for raw exposures the image."""
    figures = []
    gone = (*values["OVERSCAN_KEYS"], *values["DATA_KEYS"], "TRIMSEC", "BUNIT") if is_raw else ()
    top = _provenance(given) if is_raw else []
    with ExitStack() as stack:
        paths = {"weight": "f4", "flags": "u1"} | ({"pixels": "f4"} if is_raw else {})
        suffix = {"weight": ".weight.fits", "flags": ".flag.fits", "pixels": ".fits"}
        outs = {
            name: stack.enter_context(written(place.with_name(place.name + suffix[name]), frame.file)) for name in paths
        }
        for out in outs.values():
            out.begin(top)
        for index, ccd in enumerate(frame.ccds):
            done = _preprocessed(frame, ccd, index, given, values, is_raw)
            for name, kind in paths.items():
                cards = list(done.cards) if name == "pixels" else _of_map(name)
                cards += top if len(frame.ccds) == 1 and name == "pixels" else []
                moved = _moved(ccd) if is_raw else []
                outs[name].image(ccd, done.pixels.shape, kind, [*moved, *cards], gone)
                outs[name].rows(getattr(done, name), kind)
                outs[name].end()
            figures.append(done.figures)
        if all(each["bad_share"] == 1 for each in figures):
            raise SpicaError(f"{frame.path}: none of its pixels can be used{_with(given)}.")
    return figures


def _with(given: Calibrations) -> str:
    names = [frame.path.name for frame in given.frames.values()]
    return f" with {', '.join(names)}" if names else ""


def _missing(frame: Frame) -> list[str]:
    """A word where the header speaks of more CCDs than the file holds, as one cut off between two of them does."""
    said = frame.file.hdus[0].header.get("NEXTEND")
    if isinstance(said, bool) or not isinstance(said, int) or said <= len(frame.ccds):
        return []
    return [f"warning: {frame.path.name}: NEXTEND says {said} extensions, {len(frame.ccds)} are there"]


def _useless(figures: list[Mapping[str, Any]]) -> list[str]:
    return [f"warning: {each['ccd']}: none of its pixels can be used" for each in figures if each["bad_share"] == 1]


def _provenance(given: Calibrations) -> Cards:
    cards: list[tuple[str, Any, str]] = [("PREPROC", f"Spica {__version__}", "pre-processed by preprocess")]
    for what, frame in given.frames.items():
        cards += named(what, frame.name, given.digests[what])
    return cards


def _of_map(name: str) -> list[tuple[str, Any, str]]:
    if name == "weight":
        return [("BUNIT", "ADU-2", "inverse variance; 0: not to be used")]
    return [("BUNIT", "", "flags: 1 bad pixel, 2 cosmic ray, 4 saturated")]


def _moved(ccd: RawCcd) -> list[tuple[str, Any, str]]:
    """The reference pixel, without the overscan that lay before it."""
    first = ccd.amplifiers[ccd.bands[0][0]].data
    found: list[tuple[str, Any, str]] = []
    for card, by in (("CRPIX1", first.left), ("CRPIX2", first.bottom)):
        if card in ccd.hdu.header and by:
            found.append((card, number(ccd.hdu, card, 0.0) - by, "[pixel] reference, overscan taken off"))
    return found


def _preprocessed(
    frame: Frame, ccd: RawCcd, index: int, given: Calibrations, values: Mapping[str, Any], is_raw: bool
) -> Done:
    height = ccd.shape[0]
    gain, read_noise, saturation = _noise_of(ccd, values)
    seconds = frame.seconds(values["EXPOTIME_KEY"]) if "DARK" in given.frames else 0.0
    flags = np.zeros(ccd.shape, np.uint8)
    flags[ccd.reaching(saturation)] |= SATURATED
    light = given.light(ccd, index, seconds, 0, height)
    without_crosstalk(frame, ccd, given.crosstalk, light)
    flat = _flat(given, ccd, index)
    response = median_of_known(flat) if flat is not None else 1.0
    flags[_bad(light, flat, response, given, ccd, index, values)] |= BAD
    if flat is not None:
        low, high = values["FLAT_RANGE"]
        light /= np.where((flat >= low * response) & (flat <= high * response), flat, response or 1.0)
    light[~np.isfinite(light)] = 0
    full = _full(ccd, flat, flags, saturation) if is_raw else saturation
    sky, noise = sky_of(light, flags)
    fringe = given.whole("FRINGE", ccd, index)
    amplitude = take_fringes_off(light, fringe, flags, sky, noise) if fringe is not None else None
    if values["COSMIC_RAYS"]:
        limits = Sharpest(values["COSMIC_SIGMAS"], values["COSMIC_SHARPNESS"])
        _flag_cosmic_rays(light - np.float32(sky), noise, gain * response, limits, flags)
    weight = _weight(flat, sky, gain, read_noise, ccd.shape)
    weight[(flags & (BAD | COSMIC)) > 0] = 0
    figures = {
        "ccd": ccd.name,
        "overscan": ccd.level,
        "sky": sky,
        "noise": noise,
        "cosmic_pixels": int(np.count_nonzero(flags & COSMIC)),
        "bad_share": float(np.mean((flags & BAD) > 0)),
        "saturated_share": float(np.mean((flags & SATURATED) > 0)),
    }
    cards: list[tuple[str, Any, str]] = [
        ("BUNIT", "ADU", "unit of the pixels"),
        (values["SATUR_KEY"], round(full, 1), "[ADU] saturation level, least of the CCD"),
        (
            values["GAIN_KEYS"][0] if len(values["GAIN_KEYS"]) == 1 else "GAIN",
            round(gain * response, 4),
            "[electron/ADU] gain",
        ),
        ("OVERSCAN", round(ccd.level, 3), "[ADU] overscan taken off"),
        ("SKYLEVEL", round(sky, 3), "[ADU] sky"),
        ("SKYNOISE", round(noise, 3), "[ADU] noise of the sky"),
        ("NCOSMIC", figures["cosmic_pixels"], "pixels hit by cosmic rays"),
    ]
    if amplitude is not None:
        cards.append(("FRNGAMPL", round(amplitude, 5), "factor of the fringes taken off"))
    return Done(light, weight, flags, cards, figures)


def _noise_of(ccd: RawCcd, values: Mapping[str, Any]) -> tuple[float, float, float]:
    """Gain (e-/ADU), read noise (e-) and saturation (ADU) of a CCD; the mean over its amplifiers."""
    gains = [each.gain for each in ccd.amplifiers if each.gain]
    noises = [each.read_noise_e for each in ccd.amplifiers if each.read_noise_e]
    said = ccd.header.get(values["SATUR_KEY"])
    saturation = float(said) if isinstance(said, int | float) and said > 0 else NO_SATURATION
    return float(np.mean(gains or [NO_GAIN])), float(np.mean(noises or [NO_READ_NOISE_E])), saturation


def _flat(given: Calibrations, ccd: RawCcd, index: int) -> Floats | None:
    found: Floats | None = None
    for what in ("FLAT", "SKYFLAT"):
        if (one := given.whole(what, ccd, index)) is not None:
            found = one if found is None else found * one
    return found


def _bad(
    light: Floats,
    flat: Floats | None,
    response: float,
    given: Calibrations,
    ccd: RawCcd,
    index: int,
    values: Mapping[str, Any],
) -> NDArray[np.bool_]:
    bad = ~np.isfinite(light)
    if flat is not None:
        low, high = values["FLAT_RANGE"]
        bad |= ~((flat >= low * response) & (flat <= high * response))
    if (dark := given.whole("DARK", ccd, index)) is not None:
        bad |= dark > values["DARK_MAX"]
    if (mask := given.whole("MASK", ccd, index)) is not None:
        bad |= mask == 0
    return bad


def _full(ccd: RawCcd, flat: Floats | None, flags: NDArray[np.uint8], saturation: float) -> float:
    """The least level of a saturated pixel after all: where the flat is largest."""
    largest = 1.0
    if flat is not None:
        good = flat[(flags & BAD) == 0]
        largest = float(np.percentile(good[:: max(1, good.size // SAMPLE)], 99.9)) if good.size else 1.0
    return max(1.0, (saturation - ccd.level) / largest)


def sky_of(light: Floats, flags: NDArray[np.uint8]) -> tuple[float, float]:
    """Level and noise of the sky, by clipping round the median."""
    some = light[flags == 0]
    some = some[:: max(1, some.size // SAMPLE)].astype(np.float64)
    if not some.size:
        return 0.0, 0.0
    for _ in range(5):
        middle = np.median(some)
        noise = 1.4826 * np.median(np.abs(some - middle))
        kept = some[np.abs(some - middle) <= 3 * noise]
        if kept.size == some.size or not kept.size:
            break
        some = kept
    return float(middle), float(noise)


def take_fringes_off(light: Floats, fringe: Floats, flags: NDArray[np.uint8], sky: float, noise: float) -> float:
    """Takes the pattern off in place, at the strength that fits the sky best; returns that."""
    step = max(1, light.size // (4 * SAMPLE))
    excess, pattern = (light - np.float32(sky)).ravel()[::step], fringe.ravel()[::step]
    good = (flags.ravel()[::step] == 0) & np.isfinite(pattern)
    amplitude = 0.0
    for _ in range(4):
        kept = good & (np.abs(excess - amplitude * pattern) < 3 * noise)
        some = pattern[kept].astype(np.float64)
        centred = some - (some.mean() if some.size else 0.0)
        power = float((centred**2).sum())
        if power == 0:
            return 0.0
        amplitude = float((centred * excess[kept]).sum() / power)
    light -= np.float32(amplitude) * np.where(np.isfinite(fringe), fringe, 0)
    return amplitude


def _flag_cosmic_rays(excess: Floats, noise: float, gain: float, limits: Sharpest, flags: NDArray[np.uint8]) -> None:
    """Into `flags`."""
    usable = ~(grown((flags & SATURATED) > 0, 2) | ((flags & BAD) > 0))
    noises = np.broadcast_to(np.float32(noise), excess.shape)
    flags[cosmic_rays(excess, noises, gain, usable, limits)] |= COSMIC


def _weight(flat: Floats | None, sky: float, gain: float, read_noise: float, shape: tuple[int, int]) -> Floats:
    """1 / (sky / (gain flat) + (read noise / (gain flat))^2)."""
    response = np.ones(shape, np.float32) if flat is None else flat.clip(min=0)
    seen = response * np.float32(gain)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = seen * seen / (np.float32(max(sky, 0.0)) * seen + np.float32(read_noise**2))
    return np.where(np.isfinite(weight), weight, 0).astype(np.float32)
