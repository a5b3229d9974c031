"""Makes a small sky of FITS exposures with known truth: the program behind `spica sky`.

Here are the folder, its order of writing and the command; what is planted, painted and written is in sky_truth.py,
sky_pixels.py and sky_files.py; raw frames come from sky_raw.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spicad.reduction import sky_files, sky_pixels, sky_raw, sky_truth
from spicad.reduction.sky_options import SkyOptions, add_arguments, options_from
from spicad.words import BadInput, Problem

Progress = Callable[[int, int, str], None]

# truth/params.json is written last: a folder without it is not a sky. truth/making.json says that one was begun.
PARAMS = Path("truth/params.json")
MAKING = Path("truth/making.json")
OURS = re.compile(
    r"(raw/)?\d{6}[pobdf]\.fits(\.\w+)?|raw/crosstalk\.txt|badpix\.fits(\.\w+)?|refcat\.cat|truth/\w+\.(fits|csv)"
)


@dataclass(frozen=True)
class SkyMade:
    """Where everything is. `reused`: the same sky was there already; `raw`: raw exposures and calibrations."""

    folder: Path
    exposures: tuple[Path, ...]
    raw: tuple[Path, ...]
    reference: Path
    bad_pixels: Path
    truth: Path
    reused: bool


def make_sky(folder: Path, options: SkyOptions, force: bool = False, progress: Progress | None = None) -> SkyMade:
    """Makes the sky of `options` in `folder`, or finds it there whole.

    Raises BadInput when `folder` holds something else, unless `force`.
    """
    there = _params_in(folder, PARAMS)
    if not force and there is not None and there.get("options") == _plain(options):
        _check_whole(folder, there["files"])
        return _made(folder, options, list(there["files"]), reused=True)
    if not force:
        _check_free(folder, options)
    truth = sky_truth.planted(options)
    names = _names(truth)
    _begin(folder, options, names)
    _write_all(folder, truth, progress or (lambda done, of, what: None))
    sizes = {name: (folder / name).stat().st_size for name in names}
    _write_json(folder / PARAMS, {"options": _plain(options), "camera": _camera_words(truth), "files": sizes})
    (folder / MAKING).unlink(missing_ok=True)
    return _made(folder, options, names, reused=False)


def _write_all(folder: Path, truth: sky_truth.Truth, progress: Progress) -> None:
    options, camera, suffix = truth.options, truth.camera, truth.options.format
    rows: list[tuple[int, int, sky_pixels.CcdImage]] = []
    for done, exposure in enumerate(truth.exposures):
        name = f"{exposure.number}p.{suffix}"
        progress(done, len(truth.exposures), name)
        images = [sky_pixels.exposed(truth, exposure, ccd) for ccd in camera.ccds]
        sky_files.write_exposure(folder / name, options, camera, exposure, images)
        if options.raw:
            lights = [image.light for image in images]
            frames = sky_raw.raw_exposure(truth, exposure.number, exposure.filter, exposure.exptime_s, lights)
            sky_files.write_raw_exposure(folder / f"raw/{exposure.number}o.{suffix}", options, camera, exposure, frames)
        rows += [
            (exposure.number, ccd.number, image.without_pixels())
            for ccd, image in zip(camera.ccds, images, strict=True)
        ]
    if options.raw:
        _write_calibrations(folder, truth, progress)
    progress(len(truth.exposures), len(truth.exposures), "tables")
    bad = (sky_truth.bad_pixels_of(options, ccd)[0] for ccd in camera.ccds)
    sky_files.write_bad_pixels(folder / f"badpix.{suffix}", options, camera, bad)
    sky_files.write_reference(folder / "refcat.cat", sky_truth.reference_of(truth))
    sky_files.write_sources(folder / "truth/sources.fits", truth)
    sky_files.write_detections(folder / "truth/detections.fits", rows)
    sky_files.write_cosmics(folder / "truth/cosmics.fits", rows)
    sky_files.write_csv(folder / "truth/exposures.csv", truth.exposures)
    sky_files.write_csv(folder / "truth/ccds.csv", camera.ccds)


def _write_calibrations(folder: Path, truth: sky_truth.Truth, progress: Progress) -> None:
    options, camera = truth.options, truth.camera
    calibrations = sky_raw.calibrations_of(truth)
    for done, frame in enumerate(calibrations):
        name = f"raw/{frame.name}.{options.format}"
        progress(done, len(calibrations), name)
        frames = sky_raw.raw_calibration(truth, frame)
        sky_files.write_calibration(folder / name, options, camera, frame, frames)
    (folder / "raw/crosstalk.txt").write_text("".join(f"{line}\n" for line in sky_raw.crosstalk_lines(camera)))
    sky_files.write_csv(folder / "truth/calibrations.csv", calibrations)


def _names(truth: sky_truth.Truth) -> list[str]:
    suffix = truth.options.format
    tables = ("sources.fits", "detections.fits", "cosmics.fits", "exposures.csv", "ccds.csv")
    exposures = [f"{exposure.number}p.{suffix}" for exposure in truth.exposures]
    made = [*exposures, f"badpix.{suffix}", "refcat.cat", *(f"truth/{table}" for table in tables)]
    if truth.options.raw:
        made += [f"raw/{exposure.number}o.{suffix}" for exposure in truth.exposures]
        made += [f"raw/{frame.name}.{suffix}" for frame in sky_raw.calibrations_of(truth)]
        made += ["raw/crosstalk.txt", "truth/calibrations.csv"]
    return made


def _made(folder: Path, options: SkyOptions, names: list[str], reused: bool) -> SkyMade:
    exposures = tuple(folder / name for name in names if name[0].isdigit())
    raw = tuple(folder / name for name in names if re.match(r"raw/\d", name))
    bad_pixels = folder / f"badpix.{options.format}"
    return SkyMade(folder, exposures, raw, folder / "refcat.cat", bad_pixels, folder / "truth", reused)


def _camera_words(truth: sky_truth.Truth) -> dict[str, Any]:
    camera = truth.camera
    return {
        "k1": camera.k1,
        "k2": camera.k2,
        "p1": camera.p1,
        "p2": camera.p2,
        "rmax_arcsec": camera.rmax_arcsec,
        "model": "TAN plane about the true pointing, turned by rotation_deg, divided by rmax_arcsec: x, y. Then "
        "x' = x (1 + k1 r2 + k2 r4) + 2 p1 x y + p2 (r2 + 2 x2), "
        "y' = y (1 + k1 r2 + k2 r4) + p1 (r2 + 2 y2) + 2 p2 x y; "
        "u = -x' rmax/scale, v = y' rmax/scale pixels; less (u0 + du, v0 + dv), turned back by the CCD's rotation_deg, "
        "reversed when the CCD is turned, plus (size + 1)/2.",
    }


def _plain(options: SkyOptions) -> dict[str, Any]:
    return dict(json.loads(json.dumps(dataclasses.asdict(options))))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    beginning = path.with_suffix(".tmp")
    beginning.write_text(json.dumps(content, indent=1) + "\n")
    beginning.replace(path)


def _params_in(folder: Path, which: Path) -> dict[str, Any] | None:
    try:
        read = json.loads((folder / which).read_text())
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) and isinstance(read.get("files"), dict | list) else None


def _check_whole(folder: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise BadInput(Problem(str(path), f"the sky made here had this file with {size} bytes.", FORCE))


FORCE = "Use --force to make it anew, or another folder."


def _check_free(folder: Path, options: SkyOptions) -> None:
    """Free is: not there, empty, or the same sky begun and interrupted."""
    begun = _params_in(folder, MAKING)
    if begun is not None and begun.get("options") == _plain(options) and _params_in(folder, PARAMS) is None:
        return
    if folder.is_symlink() and not folder.exists():
        raise BadInput(Problem(str(folder), "this link leads nowhere.", "Give another folder."))
    if folder.exists() and not folder.is_dir():
        raise BadInput(Problem(str(folder), "this is a file.", "Give another folder."))
    if folder.is_dir() and any(folder.iterdir()):
        what = "holds a sky made with other options." if (folder / PARAMS).exists() else "is not empty."
        raise BadInput(Problem(str(folder), what, FORCE))


def _begin(folder: Path, options: SkyOptions, names: list[str]) -> None:
    """Removes what an earlier making wrote here, its mark of completeness first; nothing else."""
    earlier = [name for which in (PARAMS, MAKING) for name in (_params_in(folder, which) or {"files": []})["files"]]
    for name in ("truth", *(("raw",) if options.raw else ())):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _write_json(folder / MAKING, {"options": _plain(options), "files": [*names, *earlier]})
    (folder / PARAMS).unlink(missing_ok=True)
    for name in earlier:
        if OURS.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def run(arguments: argparse.Namespace) -> int:
    """The command, its arguments parsed; returns the exit status."""
    try:
        made = make_sky(arguments.folder, options_from(arguments), arguments.force, _shown)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or arguments.folder}: the sky cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    what = "already there" if made.reused else "made"
    raw = f"{len(made.raw)} raw frames, " if made.raw else ""
    print(
        f"{made.folder}: {len(made.exposures)} exposures {what}, {raw}{made.reference.name}, {made.bad_pixels.name}, "
        "truth/"
    )
    return 0


def _shown(done: int, of: int, what: str) -> None:
    if sys.stderr.isatty():
        end = "\r\033[K" if done == of else ""
        print(f"\r\033[K{done}/{of} {what}", end=end, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sky")
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
