"""Combines biases, darks or flats into a master frame: a clipped mean of all, a strip of rows of one CCD at a time.

A master flat is 1 at the middle of the mosaic's CCDs (or of each), a master dark is ADU a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad import __version__
from spicad.fits import file_digest
from spicad.reduction.preprocess.calibrations import Calibrations, opened_calibrations
from spicad.reduction.preprocess.frames import Floats, Frame, median_of_known, opened_frame, strips
from spicad.reduction.preprocess.products import Cards, write_json, written
from spicad.words import BadInput, Problem, SpicaError

UNITS = {"BIAS": "ADU", "DARK": "ADU/s", "FLAT": ""}
TAKEN_OFF = {"BIAS": (), "DARK": ("BIAS",), "FLAT": ("BIAS", "DARK")}


@dataclass(frozen=True)
class Ingredients:
    """The frames that are combined; `scales` is what each is divided by, for each CCD."""

    frames: Sequence[Frame]
    scales: NDArray[np.float64]  # (frame, ccd)
    left_out: Mapping[str, str]  # name: why


def make_master(files: Sequence[Path], values: Mapping[str, Any]) -> list[str]:
    """Writes MASTER_NAME and the same as .json; returns what is to be said, a line each."""
    kind, folder = values["MAKE"], Path(values["OUTPUT_DIR"])
    path = folder / values["MASTER_NAME"]
    with ExitStack() as stack:
        given = stack.enter_context(opened_calibrations(values, folder, TAKEN_OFF[kind]))
        frames = [stack.enter_context(opened_frame(each, values, folder)) for each in files]
        _require_raw(frames, values["DONE_KEYS"])
        _require_alike(frames)
        found = _ingredients(kind, frames, given, values)
        cards = _cards(kind, found, given)
        figures: list[dict[str, Any]] = []
        first = found.frames[0]
        with written(path, first.file) as out:
            out.begin(cards)
            for index, ccd in enumerate(first.ccds):
                gone = (*values["OVERSCAN_KEYS"], *values["DATA_KEYS"], "TRIMSEC", "DATASEC", values["SATUR_KEY"])
                out.image(ccd, ccd.shape, "f4", cards if len(first.ccds) == 1 else cards[:4], gone)
                figures.append(_combined(kind, found, index, given, values, out))
                out.end()
            if all(each["unknown_share"] == 1 for each in figures):
                raise SpicaError(f"{path.name}: none of the frames has a pixel that is a number.")
    record = {
        "kind": kind.lower(),
        "frames": [frame.name for frame in found.frames],
        "left_out": dict(found.left_out),
        "combined": len(found.frames),
        "noise": float(np.median([each["noise"] for each in figures])),
        "level": float(np.median([each["level"] for each in figures])),
        "clipped_share": float(np.mean([each["clipped_share"] for each in figures])),
        "ccds": figures,
    }
    write_json(path.with_suffix(".json"), record)
    said = [f"warning: {name} is left out: {why}" for name, why in found.left_out.items()]
    said += [f"{frame.path.name}: ingredient {frame.name}" for frame in found.frames]
    return [*said, f"{path}: master {kind.lower()} of {len(found.frames)} frames"]


def _require_raw(frames: Sequence[Frame], cards: Sequence[str]) -> None:
    for frame in frames:
        if card := frame.done_by(cards):
            raise BadInput(Problem(str(frame.path), f"{card} says that it is no raw frame.", "Combine raw frames."))


def _require_alike(frames: Sequence[Frame]) -> None:
    first = frames[0]
    shapes = [ccd.shape for ccd in first.ccds]
    for frame in frames[1:]:
        if [ccd.shape for ccd in frame.ccds] != shapes:
            what = f"its CCDs are not as many or not as large as those of {first.path.name}."
            raise BadInput(Problem(str(frame.path), what, "Combine frames of one camera and binning."))


def _ingredients(kind: str, frames: Sequence[Frame], given: Calibrations, values: Mapping[str, Any]) -> Ingredients:
    """Raises SpicaError when none is left."""
    names = [ccd.name for ccd in frames[0].ccds]
    if kind == "BIAS":
        return Ingredients(frames, np.ones((len(frames), len(names))), {})
    if kind == "DARK":
        seconds = [frame.seconds(values["EXPOTIME_KEY"]) for frame in frames]
        left = {frame.name: "its exposure time is 0." for frame, s in zip(frames, seconds, strict=True) if s == 0}
        kept = [(frame, s) for frame, s in zip(frames, seconds, strict=True) if s > 0]
        scales = np.array([[s] * len(names) for _, s in kept])
    else:
        levels = np.array([_levels(frame, given, values) for frame in frames])
        low, high = values["FLAT_LEVELS"]
        middle = np.median(levels, axis=1)
        left = {
            frame.name: f"its level of {level:.0f} ADU is outside FLAT_LEVELS, {low:g} to {high:g}."
            for frame, level in zip(frames, middle, strict=True)
            if not low <= level <= high
        }
        kept = [(frame, level) for frame, level in zip(frames, middle, strict=True) if low <= level <= high]
        scales = np.array([[level] * len(names) for _, level in kept])
        if values["FLAT_NORM"] == "CCD" and kept:
            scales = levels[[low <= level <= high for level in middle]]
    if not kept:
        raise SpicaError(f"no {kind.lower()} can be used. " + " ".join(f"{name}: {why}" for name, why in left.items()))
    return Ingredients([frame for frame, _ in kept], scales, left)


def _levels(frame: Frame, given: Calibrations, values: Mapping[str, Any]) -> list[float]:
    """The median of each CCD's light, from some of its rows."""
    seconds = frame.seconds(values["EXPOTIME_KEY"]) if "DARK" in given.frames else 0.0
    return [
        median_of_known(np.concatenate([given.light(ccd, index, seconds, row, row + 1) for row in ccd.sampled_rows()]))
        for index, ccd in enumerate(frame.ccds)
    ]


def _combined(
    kind: str, found: Ingredients, index: int, given: Calibrations, values: Mapping[str, Any], out: Any
) -> dict[str, Any]:
    """Writes the rows of one CCD; returns its figures."""
    seconds = [frame.seconds(values["EXPOTIME_KEY"]) if "DARK" in given.frames else 0.0 for frame in found.frames]
    height, width = found.frames[0].ccds[index].shape
    clipped, samples = 0, []
    for first, last in strips(height, width, 2 * len(found.frames)):
        cube = np.empty((len(found.frames), last - first, width), np.float32)
        for n, frame in enumerate(found.frames):
            cube[n] = given.light(frame.ccds[index], index, seconds[n], first, last)
            cube[n] /= np.float32(found.scales[n, index])
        mean, gone = clipped_mean(cube, values["CLIP_NSIGMA"])
        out.rows(mean, "f4")
        clipped += gone
        samples.append(mean[:: max(1, mean.size // 100_000)])
    some = np.concatenate(samples).ravel()
    level = median_of_known(some)
    noise = 1.4826 * median_of_known(np.abs(some - level))
    name = found.frames[0].ccds[index].name
    return {
        "ccd": name,
        "level": level,
        "noise": noise,
        "clipped_share": clipped / (height * width * len(found.frames)),
        "unknown_share": float(np.mean(np.isnan(some))),
    }


def clipped_mean(cube: Floats, sigmas: float) -> tuple[Floats, int]:
    """Over the first axis, without values further than `sigmas` from the pixel's median; how many those are.

    With few frames a pixel cannot tell its own noise: the noise is that of the usual pixel of the strip. Where all
    values are too far off (two frames, one of them hit) the least is taken. NaN of one frame are left out; a pixel
    without any value stays NaN.
    """
    if len(cube) < 2:
        return cube[0], 0
    known = np.isfinite(cube)
    middle = np.median(cube, axis=0) if known.all() else _medians_of_known(cube, known)
    noise = median_of_known(np.where(known, cube, middle).std(axis=0, ddof=1)) * _of_few(len(cube))
    kept = known & (np.abs(cube - middle) <= max(sigmas * noise, 1e-12))
    count = kept.sum(axis=0)
    mean = np.where(kept, cube, 0).sum(axis=0) / np.maximum(count, 1)
    least = np.where(known, cube, np.inf).min(axis=0)
    least = np.where(np.isfinite(least), least, np.nan)
    return np.where(count > 0, mean, least).astype(np.float32), int(cube.size - kept.sum())


def _medians_of_known(cube: Floats, known: NDArray[np.bool_]) -> Floats:
    """Over the first axis; NaN where no frame has a value."""
    ordered = np.sort(np.where(known, cube, np.nan), axis=0)  # NaN come last
    count = known.sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    return np.asarray(sum(np.take_along_axis(ordered, each[None], axis=0)[0] for each in (low, high)) / 2, np.float32)


def _of_few(frames: int) -> float:
    """By how much the median of the scatter of so few is less than the true noise."""
    return {2: 1.48, 3: 1.20, 4: 1.13, 5: 1.09}.get(frames, 1 + 0.35 / frames)


def _cards(kind: str, found: Ingredients, given: Calibrations) -> Cards:
    cards: list[tuple[str, Any, str]] = [
        ("MASTER", kind.lower(), "type of this master frame"),
        ("BUNIT", UNITS[kind], "unit of the pixels"),
        ("PREPROC", f"Spica {__version__}", "made by preprocess"),
        ("NCOMBINE", len(found.frames), "frames combined"),
    ]
    for what, frame in given.frames.items():
        cards += named(what, frame.name, given.digests[what])
    for number, frame in enumerate(found.frames, 1):
        cards.append((f"INGR{number:04d}", frame.name[:68], "ingredient"))
        cards.append((f"ISHA{number:04d}", file_digest(frame.path), ""))
    return cards


def named(what: str, name: str, digest: str) -> Cards:
    """The cards that say which calibration was used."""
    short = {"SKYFLAT": "SFLT", "FRINGE": "FRNG"}.get(what, what)
    return [(f"{short}NAME", name[:60], f"{what.lower()} that was used"), (f"{short}SHA", digest, "")]
