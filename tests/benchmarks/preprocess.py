"""Preprocess beside plain ccdproc on the same frames: wall time, the same pixels, and the peak of memory for a mosaic.

    python tests/benchmarks/preprocess.py [--ccds 36] [--size 2112x4644] [--compared 2x1024x2048] [--ccdproc PYTHON]

The mosaic is a raw frame of that many CCDs with overscan, calibrated by masters of its size; its peak is held against
the limit of the application. ccdproc works on a smaller one, CCD by CCD as its manual shows, with its own L.A.Cosmic;
PYTHON is one that has it (python -m venv X; X/bin/pip install ccdproc). Without one that part is left out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import stand
from astropy.io import fits
from stand import ROOT, table, verdict

from spicad.applications.descriptor import load_application

OVERSCAN = 32
TIME_GOAL, SAME_GOAL = 1.0, 0.02  # of ccdproc's wall time; of the noise

# ccdproc's own functions in the order of its manual, on CCD after CCD.
BY_CCDPROC = """\
import sys, warnings
from pathlib import Path
import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
import ccdproc
warnings.simplefilter("ignore")
raw, bias, flat, out, cosmics = sys.argv[1:]
hdus = [fits.PrimaryHDU()]
with fits.open(raw) as frames, fits.open(bias) as biases, fits.open(flat) as flats:
    for frame, b, f in zip(frames[1:], biases[1:], flats[1:]):
        ccd = CCDData(frame.data.astype(np.float32), unit="adu", header=frame.header)
        ccd = ccdproc.subtract_overscan(ccd, fits_section=frame.header["BIASSEC"])
        ccd = ccdproc.trim_image(ccd, fits_section=frame.header["DATASEC"])
        ccd = ccdproc.subtract_bias(ccd, CCDData(b.data, unit="adu"))
        ccd = ccdproc.flat_correct(ccd, CCDData(f.data, unit=u.dimensionless_unscaled), norm_value=1.0)
        if cosmics == "Y":
            ccd = ccdproc.cosmicray_lacosmic(
                ccd, sigclip=5.0, sigfrac=0.4, gain=frame.header["GAIN"], gain_apply=False,
                readnoise=frame.header["RDNOISE"], satlevel=60000.0)
        hdus.append(fits.ImageHDU(ccd.data.astype(np.float32), name=frame.name))
fits.HDUList(hdus).writeto(out)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ccds", type=int, default=36)
    parser.add_argument("--size", default="2112x4644", help="width x height of its raw CCDs")
    parser.add_argument("--compared", default="2x1024x2048", help="CCDs x width x height for ccdproc; 0: none")
    parser.add_argument("--ccdproc", default=sys.executable, metavar="PYTHON", help="one that has ccdproc")
    parser.add_argument("--cosmics", action="store_true", help="look for cosmic rays on the mosaic too: minutes")
    chosen = parser.parse_args()
    good = True
    with stand.scratch() as folder:
        if chosen.compared != "0":
            good &= beside_ccdproc(folder / "compared", tuple(map(int, chosen.compared.split("x"))), chosen.ccdproc)
        width, height = map(int, chosen.size.split("x"))
        good &= on_mosaic(folder / "mosaic", chosen.ccds, width, height, chosen.cosmics)
    return 0 if good else 1


# ---------------------------------------------------------------------- frames


def frames_in(folder: Path, ccds: int, width: int, height: int) -> dict[str, Path]:
    """A raw exposure with stars and cosmic rays, two biases, two flats; all CCDs of a frame are alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    data = width - OVERSCAN
    shape = np.float32(1 + 0.1 * np.linspace(-1, 1, data)[None, :] * np.linspace(-1, 1, height)[:, None])
    made = {}
    for name, light in (("bias1", 0), ("bias2", 0), ("flat1", 20000), ("flat2", 21000), ("raw", 400)):
        pixels = rng.normal(1000, 3, (height, width)).astype(np.float32)
        pixels[:, OVERSCAN:] += light * shape + rng.normal(0, np.sqrt(light / 1.6), shape.shape).astype(np.float32)
        if name == "raw":
            _add_light(pixels[:, OVERSCAN:], rng)
        made[name] = _written(folder / f"{name}.fits", np.rint(pixels).astype(np.uint16), ccds)
    return made


def _add_light(pixels: np.ndarray, rng: np.random.Generator) -> None:
    height, width = pixels.shape
    y, x = np.mgrid[-12:13, -12:13]
    star = np.exp(-0.5 * (x * x + y * y) / 1.8**2)
    for _ in range(height * width // 20_000):
        row, column = int(rng.integers(12, height - 12)), int(rng.integers(12, width - 12))
        pixels[row - 12 : row + 13, column - 12 : column + 13] += rng.lognormal(6.5, 1.2) * star
    hits = height * width // 5_000
    pixels[rng.integers(0, height, hits), rng.integers(0, width, hits)] += rng.lognormal(7, 0.5, hits)


def _written(path: Path, pixels: np.ndarray, ccds: int) -> Path:
    height, width = pixels.shape
    cards = {"GAIN": 1.6, "RDNOISE": 4.8, "SATURATE": 60000.0, "BIASSEC": f"[1:{OVERSCAN},1:{height}]"}
    cards |= {"DATASEC": f"[{OVERSCAN + 1}:{width},1:{height}]"}
    with path.open("wb") as out:
        fits.HDUList([fits.PrimaryHDU(header=fits.Header({"EXPTIME": 100.0}))]).writeto(out)
        for number in range(ccds):
            out.write(_hdu_bytes(pixels, cards, number))
    return path


def _hdu_bytes(pixels: np.ndarray, cards: dict[str, object], number: int) -> bytes:
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, fits.Header(cards), name=f"ccd{number:02d}")]).writeto(out)
    return out.getvalue()[2880:]  # without the primary


def masters(folder: Path, made: dict[str, Path]) -> list[str]:
    """The words that give them to preprocess."""
    preprocess(folder, made["bias1"], made["bias2"], "-MAKE", "BIAS", "-MASTER_NAME", "bias.fits")
    bias = ["-BIAS_NAME", str(folder / "bias.fits")]
    preprocess(folder, made["flat1"], made["flat2"], "-MAKE", "FLAT", "-MASTER_NAME", "flat.fits", *bias)
    return [*bias, "-FLAT_NAME", str(folder / "flat.fits")]


# ---------------------------------------------------------------------- contenders


def preprocess(folder: Path, *words: object) -> tuple[float, float]:
    """Wall seconds, and the most of memory in MiB."""
    command = [sys.executable, "-m", "spicad.reduction.preprocess", *map(str, words), "-OUTPUT_DIR", str(folder)]
    return measured(command)


def measured(command: list[str]) -> tuple[float, float]:
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[:4])} ended with status {os.waitstatus_to_exitcode(status)}")
    child.returncode = 0
    return time.monotonic() - began, usage.ru_maxrss / 1024


def beside_ccdproc(folder: Path, shape: tuple[int, ...], python: str) -> bool:
    has_it = subprocess.run([python, "-c", "import ccdproc"], capture_output=True, check=False).returncode == 0
    if not has_it:
        print(f"ccdproc is left out: {python} has none")
        return True
    made = frames_in(folder, *shape)
    given = masters(folder, made)
    rows, good = [], True
    (folder / "ours").mkdir()
    for cosmics in ("N", "Y"):
        theirs_path = folder / f"theirs-{cosmics}.fits"
        ours_s, ours_mb = preprocess(folder / "ours", made["raw"], *given, "-COSMIC_RAYS", cosmics,
                                     "-OVERSCAN_SMOOTH", 1)  # fmt: skip
        paths = [made["raw"], folder / "bias.fits", folder / "flat.fits", theirs_path]
        theirs_s, theirs_mb = measured([python, "-c", BY_CCDPROC, *map(str, paths), cosmics])
        rows.append((cosmics, ours_s, theirs_s, ours_s / theirs_s, ours_mb, theirs_mb))
        good &= verdict(f"wall time beside ccdproc, cosmic rays {cosmics}", ours_s / theirs_s, TIME_GOAL, "x")
        if cosmics == "N":
            off = fits.getdata(folder / "ours/raw.fits", 1) - fits.getdata(theirs_path, 1)
            noise = json.loads((folder / "ours/raw.json").read_text())["noise"]
            spread = float(np.median(np.abs(off - np.median(off))) * 1.4826 / noise)
            good &= verdict("difference to ccdproc's pixels, of the noise", spread, SAME_GOAL, "")
    table(f"One exposure of {' x '.join(map(str, shape))}",
          ("cosmic rays", "ours, s", "ccdproc, s", "ratio", "ours, MiB", "ccdproc, MiB"), rows)  # fmt: skip
    return good


def on_mosaic(folder: Path, ccds: int, width: int, height: int, cosmics: bool) -> bool:
    limit = load_application(ROOT / "etc/applications/preprocess.toml").memory_mb
    made = frames_in(folder, ccds, width, height)
    began = time.monotonic()
    given = masters(folder, made)
    masters_s = time.monotonic() - began
    (folder / "out").mkdir()
    resource.setrlimit(resource.RLIMIT_AS, (limit << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))  # as a step's
    seconds, mb = preprocess(folder / "out", made["raw"], *given, "-COSMIC_RAYS", "Y" if cosmics else "N")
    pixels_mb = ccds * width * height * 4 / 2**20
    columns = ("CCDs", "pixels as floats, MiB", "masters, s", "exposure, s", "peak, MiB")
    table("A mosaic within the limits of a step", columns, [(ccds, pixels_mb, masters_s, seconds, mb)])
    return verdict("peak of memory", mb, limit, "MiB")


if __name__ == "__main__":
    raise SystemExit(main())
