"""Photometrix beside SCAMP on the same catalogues: zero points against the truth of made skies, and wall time.

    python tests/benchmarks/photometrix.py [--seeds 3] [--big 20x36x1000] [--real CATALOGUE ...]

SCAMP's figures are the FLXSCALE of its .head files and its XML, made in this run. The big set is written as catalogues,
for 36 CCDs are not painted in a minute; SCAMP is timed on it without matching and astrometry, photometry alone.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import stand
from stand import ROOT, table, verdict

from spicad.reduction import heads, ldac
from spicad.reduction.sky import make_sky
from spicad.reduction.sky_options import SkyOptions

CONFIGURATIONS = ROOT / "etc/configurations"
EXPOSURES_MAG, CCDS_MAG = 0.005, 0.010


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--big", default="20x36x1000", help="exposures x CCDs x stars on each; 0: none")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="catalogues with SCAMP's .head beside them")
    parser.add_argument(
        "--keywords", nargs="*", default=[], help="of photometrix for --real, without the -: KEYWORD VALUE"
    )
    chosen = parser.parse_args()
    good = True
    with stand.scratch() as folder:
        rows = [on_sky(folder / f"sky{seed}", seed) for seed in range(1, chosen.seeds + 1)]
        columns = ("seed", "exposures: ours", "SCAMP's", "CCDs: ours", "SCAMP's", "seconds: ours", "SCAMP's, all")
        if rows:
            table("Largest error against the truth, mmag", columns, rows)
            good &= verdict("exposures", max(float(row[1]) for row in rows), EXPOSURES_MAG * 1000, "mmag")
            good &= verdict("CCDs", max(float(row[3]) for row in rows), CCDS_MAG * 1000, "mmag")
        if chosen.real:
            good &= on_real(folder, chosen.real, chosen.keywords)
        if chosen.big != "0":
            good &= on_big(folder / "big", *map(int, chosen.big.split("x")))
    return 0 if good else 1


# ---------------------------------------------------------------------- made skies


def on_sky(folder: Path, seed: int) -> tuple[object, ...]:
    sky = make_sky(folder / "sky", SkyOptions(exposures=6, ccds=4, size=800, filters=("r",), stars=500, seed=seed))
    paths = []
    for name in ("default.conv", "default.param"):
        shutil.copy(CONFIGURATIONS / "sextractor" / name, folder)
    extractor = shutil.which("source-extractor") or shutil.which("sex") or "sex"
    for exposure in sky.exposures:
        paths.append(folder / f"{exposure.stem}.ldac")
        run(folder, extractor, exposure, "-c", CONFIGURATIONS / "sextractor/default.conf", "-CATALOG_TYPE", "FITS_LDAC",
            "-CATALOG_NAME", paths[-1], "-WEIGHT_TYPE", "MAP_WEIGHT", "-WEIGHT_IMAGE", sky.bad_pixels)  # fmt: skip
    scamp_s = scamp(folder, paths, "-ASTREFCAT_NAME", sky.reference)
    by_scamp = np.array([-2.5 * np.log10(scales(path)) for path in paths])
    ours_s, found = photometrix(folder, paths)
    planted = np.array([float(row["zeropoint"]) for row in rows_of(sky.truth / "exposures.csv")])
    terms = np.array([float(row["dzp"]) for row in rows_of(sky.truth / "ccds.csv")])
    ours = np.array([row["relative_mag"] for row in found["exposures"]])
    our_terms = np.array([row["term_mag"] for row in found["ccds"]])
    scamp_terms = (by_scamp - by_scamp.mean(axis=1, keepdims=True)).mean(axis=0)
    return (
        seed, most(ours, planted), most(by_scamp.mean(axis=1), planted), most(our_terms, terms),
        most(scamp_terms, terms), ours_s, scamp_s,
    )  # fmt: skip


def most(found: np.ndarray, planted: np.ndarray) -> float:
    """The largest difference beyond the mean, mmag."""
    return float(1000 * np.abs(found - found.mean() - planted + planted.mean()).max())


def scales(catalogue: Path) -> np.ndarray:
    return np.array([head.header["FLXSCALE"] for head in heads.read(catalogue.with_suffix(".head"))], float)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scamp(folder: Path, paths: Sequence[Path], *more: object) -> float:
    """Seconds of SCAMP on all catalogues, with one thread."""
    began = time.monotonic()
    run(folder, "scamp", *paths, "-c", CONFIGURATIONS / "scamp/default.conf", "-ASTREF_CATALOG", "FILE",
        "-CHECKPLOT_DEV", "NULL", "-WRITE_XML", "Y", "-XML_NAME", "scamp.xml", "-NTHREADS", "1", *more)  # fmt: skip
    return time.monotonic() - began


def core_s() -> float:
    """Seconds that all ended children have spent on a core."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def run(folder: Path, *command: object) -> None:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def photometrix(folder: Path, paths: Sequence[Path], *more: object) -> tuple[float, dict]:
    """Seconds of the whole command, and its figures."""
    out = folder / "photometrix"
    out.mkdir(exist_ok=True)
    began = time.monotonic()
    run(folder, sys.executable, ROOT / "bin/photometrix", *paths, "-OUTPUT_DIR", out, *more)
    return time.monotonic() - began, json.loads((out / "photometrix.json").read_text())


# ---------------------------------------------------------------------- real sets


def on_real(folder: Path, paths: Sequence[Path], keywords: Sequence[str]) -> bool:
    """Zero points beside those of SCAMP's .head files."""
    more = [word if n % 2 else f"-{word}" for n, word in enumerate(keywords)]
    exptime = {path.stem: ldac.read(path)[0].header.get("EXPTIME") for path in paths}
    _, found = photometrix(folder, [path.resolve() for path in paths], *more)
    by_scamp = np.array([-2.5 * np.log10(scales(path).mean() * float(str(exptime[path.stem]))) for path in paths])
    ours = np.array([row["relative_mag"] for row in found["exposures"]])
    errors = np.array([row["error_mag"] for row in found["exposures"]])
    by_scamp -= by_scamp.mean()
    rows = [
        (row["name"], 1000 * mine, 1000 * error, 1000 * theirs)
        for row, mine, error, theirs in zip(found["exposures"], ours, errors, by_scamp, strict=True)
    ]
    table("Relative zero points, mmag", ("exposure", "ours", "error", "SCAMP's"), rows)
    return verdict("ours less SCAMP's", float(np.abs((ours - by_scamp) / errors).max()), 3.0, "errors")


# ---------------------------------------------------------------------- a big set


def on_big(folder: Path, exposures: int, ccds: int, stars: int) -> bool:
    """Catalogues of a mosaic with exact astrometry: speed and memory."""
    folder.mkdir()
    paths, planted, terms = write_big(folder, exposures, ccds, stars)
    began = core_s()
    ours_s, found = photometrix(folder, paths, "-APERTURES", "", "-PHOTFLUX_KEY", "FLUX_AUTO", "-PHOTFLUXERR_KEY",
                                "FLUXERR_AUTO")  # fmt: skip
    ours_core_s = core_s() - began
    memory_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    scamp_s = scamp(folder, paths, "-ASTREFCAT_NAME", folder / "refcat.cat", "-MATCH", "N", "-SOLVE_ASTROM", "N",
                    "-CENTROIDERR_KEYS", "ERRAWIN_IMAGE,ERRBWIN_IMAGE,ERRTHETAWIN_IMAGE")  # fmt: skip
    scamp_core_s = core_s() - began - ours_core_s
    by_scamp = np.array([-2.5 * np.log10(scales(path).mean()) for path in paths])
    ours = np.array([row["relative_mag"] for row in found["exposures"]])
    our_terms = np.array([row["term_mag"] for row in found["ccds"]])
    rows = [
        ("photometrix", ours_s, ours_core_s, ours_s / scamp_s, most(ours, planted), most(our_terms, terms)),
        ("SCAMP, photometry alone", scamp_s, scamp_core_s, 1.0, most(by_scamp, planted), most(np.zeros(ccds), terms)),
    ]
    title = f"{exposures} exposures, {ccds} CCDs, {stars} stars on each: {found['measures']} measures"
    table(title, ("program", "s", "s on a core", "over SCAMP", "exposures, mmag", "CCDs, mmag"), rows)
    with contextlib.suppress(ElementTree.ParseError, OSError):
        theirs, mine = scamp_scatter(folder / "scamp.xml"), found["scatter_bright_mag"]
        print(f"  scatter of bright stars: {mine:.4f} mag, by SCAMP's XML {theirs}")
    print(f"  largest child of this run: {memory_mb:.0f} MB")
    return verdict("wall time over SCAMP's", ours_s / scamp_s, 1.5)


def scamp_scatter(path: Path) -> str:
    """PhotSigma_Internal_HighSN of its XML."""
    root = ElementTree.parse(io.StringIO(path.read_text(errors="replace").replace('xmlns="http', 'x="http'))).getroot()
    for each in root.iter():
        if each.tag.endswith("TABLE") and each.get("ID") == "FGroups":
            names = [field.get("name") for field in each if field.tag.endswith("FIELD")]
            cells = [cell.text for cell in each.iter() if cell.tag.endswith("TD")]
            return str(cells[names.index("PhotSigma_Internal_HighSN")])
    return "not told"


def write_big(folder: Path, exposures: int, ccds: int, stars: int) -> tuple[list[Path], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    size, scale = 2048, 0.2 / 3600
    columns = int(np.ceil(np.sqrt(ccds)))
    step = size * 1.03
    half = columns * step / 2 + 0.3 * size
    n = int(stars * (2 * half / size) ** 2)
    u, v, mag = rng.uniform(-half, half, n), rng.uniform(-half, half, n), rng.uniform(16, 21, n)
    zero, terms = rng.normal(0, 0.05, exposures), rng.normal(0, 0.03, ccds).clip(-0.06, 0.06)
    names = ["XWIN_IMAGE", "YWIN_IMAGE", "ERRAWIN_IMAGE", "ERRBWIN_IMAGE", "ERRTHETAWIN_IMAGE", "FLUX_AUTO",
             "FLUXERR_AUTO", "FLUX_RADIUS", "ELONGATION", "SNR_WIN"]  # fmt: skip
    paths = []
    for exposure in range(exposures):
        du, dv = rng.uniform(-0.25, 0.25, 2) * size
        found = []
        for ccd in range(ccds):
            u0, v0 = ((ccd % columns) - (columns - 1) / 2) * step, ((ccd // columns) - (columns - 1) / 2) * step
            x, y = u - du - u0 + size / 2 + 0.5, v - dv - v0 + size / 2 + 0.5
            on = (x > 1) & (x < size) & (y > 1) & (y < size)
            rows = np.zeros(int(on.sum()), [*((name, "f8") for name in names), ("FLAGS", "i2")])
            flux = 10 ** (-0.4 * (mag[on] - 26 - zero[exposure] - terms[ccd])) * 100
            error = np.sqrt(flux / 1.6) + 30
            rows["XWIN_IMAGE"], rows["YWIN_IMAGE"] = x[on], y[on]
            rows["FLUX_AUTO"], rows["FLUXERR_AUTO"] = flux + rng.normal(0, error), error
            for name in ("ERRAWIN_IMAGE", "ERRBWIN_IMAGE"):
                rows[name] = 0.02
            rows["FLUX_RADIUS"], rows["ELONGATION"], rows["SNR_WIN"] = 2.0, 1.05, flux / error
            cards = {
                "SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": size, "NAXIS2": size, "EXPTIME": 100.0,
                "FILTER": "'r'", "QRUNID": "'1'", "AIRMASS": 1.1, "PHOT_C": 26.0, "PHOT_K": -0.1, "GAIN": 1.6,
                "SATURATE": 65000.0, "CTYPE1": "'RA---TAN'", "CTYPE2": "'DEC--TAN'", "CRVAL1": 150.0, "CRVAL2": 2.0,
                "CRPIX1": size / 2 + 0.5 - u0 - du, "CRPIX2": size / 2 + 0.5 - v0 - dv, "CD1_1": -scale, "CD1_2": 0.0,
                "CD2_1": 0.0, "CD2_2": scale,
            }  # fmt: skip
            lines = tuple(f"{key:<8}= {value:>20}".ljust(80).encode() for key, value in cards.items())
            found.append(ldac.CcdCatalogue(lines, rows))
        paths.append(folder / f"big{exposure:04d}.ldac")
        ldac.write(paths[-1], found)
    write_reference(folder / "refcat.cat", u, v, mag, scale)
    return paths, zero, terms


def write_reference(path: Path, u: np.ndarray, v: np.ndarray, mag: np.ndarray, scale: float) -> None:
    from spicad.reduction.tangent import deprojected

    bright = np.argsort(mag)[:5000]
    ra, dec = deprojected((150.0, 2.0), -u[bright] * scale, v[bright] * scale)
    names = ("X_WORLD", "Y_WORLD", "ERRA_WORLD", "ERRB_WORLD", "ERRTHETA_WORLD", "MAG", "MAGERR", "OBSDATE")
    rows = np.zeros(len(bright), [(name, "f8") for name in names])
    error = np.full(len(bright), 0.05 / 3600)
    for name, values in zip(names, (ra, dec, error, error, 0 * error, mag[bright], 0.02, 2003.0), strict=True):
        rows[name] = values
    ldac.write(path, [ldac.CcdCatalogue((b"SIMPLE  =                    T".ljust(80),), rows)])


if __name__ == "__main__":
    sys.exit(main())
