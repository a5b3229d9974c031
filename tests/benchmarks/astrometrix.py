"""Astrometrix beside SCAMP on the same catalogues in the same run: how good on made skies, how fast on large sets.

    .venv/bin/python tests/benchmarks/astrometrix.py [good] [fast] [large]

good: rms among exposures and against the reference, both measured by the same rule from both programs' .head files,
and the scatter of true star places. fast: 20 exposures of 36 CCDs with some 1,000 stars. large: 4,000 CCDs in 4 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import made_catalogues  # noqa: E402
from stand import verdict  # noqa: E402

from spicad.reduction import heads, ldac, references  # noqa: E402
from spicad.reduction.sky_options import SkyOptions  # noqa: E402
from spicad.reduction.tangent import middle_of, projected  # noqa: E402

SCAMP = ["scamp", "-c", str(ROOT / "etc/configurations/scamp/default.conf"), "-ASTREF_CATALOG", "FILE"]
SCAMP += ["-CHECKPLOT_DEV", "NULL", "-WRITE_XML", "N", "-VERBOSE_TYPE", "QUIET", "-NTHREADS", "1"]
OURS = [sys.executable, "-m", "spicad.reduction.astrometrix"]
BRIGHT_SNR = 100.0
CLIP = 4.0


@dataclass(frozen=True)
class Ran:
    seconds: float
    cpu_seconds: float
    memory_mb: float


def timed(command: Sequence[str], folder: Path) -> Ran:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command[0]} ended with status {status}")
    return Ran(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run_both(made: made_catalogues.MadeSet, *keywords: str) -> tuple[Ran, Ran]:
    names = [path.name for path in made.catalogues]
    (made.folder / "names").write_text("\n".join(names) + "\n")
    reference = ["-ASTREFCAT_NAME", made.reference.name]
    scamp = timed([*SCAMP, *reference, "-HEADER_SUFFIX", ".shead", "@names"], made.folder)
    ours = timed([*OURS, "@names", *reference, "-HEADER_SUFFIX", ".ahead", *keywords], made.folder)
    return scamp, ours


@dataclass(frozen=True)
class Figures:
    """mas, root mean square of both axes."""

    internal: float
    external: float
    truth: float


def figures(made: made_catalogues.MadeSet, suffix: str) -> Figures:
    """Bright stars' distances from each other and from the reference within 0.5 arcsec, by this program's .head."""
    ras, decs, whose, misses = [], [], [], []
    for exposure, path in zip(made.truth.exposures, made.catalogues, strict=True):
        tangents = [head.tangent for head in heads.read(path.with_suffix(suffix))]
        misses.append(made_catalogues.miss_of_true_stars(made, exposure, tangents))
        for tangent, catalogue in zip(tangents, ldac.read(path), strict=True):
            table = catalogue.table
            table = table[(table["FLUX_AUTO"] > BRIGHT_SNR * table["FLUXERR_AUTO"]) & (table["FLAGS"] == 0)]
            ra, dec = tangent.sky(table["XWIN_IMAGE"], table["YWIN_IMAGE"])
            ras.append(ra)
            decs.append(dec)
            whose.append(np.full(len(ra), exposure.number))
    ra, dec, of = np.concatenate(ras), np.concatenate(decs), np.concatenate(whose)
    centre = middle_of(ra, dec)
    points = np.column_stack(projected(centre, ra, dec)) * 3.6e6
    pairs = cKDTree(points).query_pairs(500.0, output_type="ndarray")
    pairs = pairs[of[pairs[:, 0]] != of[pairs[:, 1]]]
    stars = references.read(made.reference)
    places = np.column_stack(projected(centre, stars.ra, stars.dec)) * 3.6e6
    distance, star = cKDTree(places).query(points, distance_upper_bound=500.0)
    near = np.isfinite(distance)
    internal = (points[pairs[:, 0]] - points[pairs[:, 1]]) / np.sqrt(2)
    return Figures(_rms(internal), _rms(points[near] - places[star[near]]), _rms(1e3 * np.concatenate(misses)))


def _rms(values: np.ndarray) -> float:
    """Of one axis, clipped."""
    for _ in range(10):
        spread = np.sqrt(np.mean(values**2))
        values = values[(np.abs(values) < CLIP * spread).all(axis=1)]
    return float(np.sqrt(np.mean(values**2)))


GOOD = {
    "2 x 2 CCDs of 1024, 0.4 arcsec": SkyOptions(exposures=3, ccds=4, size=1024, scale=0.4, stars=150),
    "2 x 2 CCDs of 720, 0.186 arcsec": SkyOptions(),
    "3 x 3 CCDs of 720, 0.186 arcsec": SkyOptions(exposures=4, ccds=9, filters=("r",), stars=200),
    "one CCD of 2048, 0.5 arcsec": SkyOptions(exposures=4, ccds=1, size=2048, scale=0.5, stars=500, filters=("r",)),
}


def how_good(folder: Path, keywords: Sequence[str]) -> bool:
    ratios: dict[str, list[float]] = {"internal": [], "external": [], "truth": []}
    worst_pixels = 0.0
    print(f"{'':34} {'among exposures':>22} {'against reference':>22} {'true stars':>22}")
    print(f"{'mas, one axis':34} " + " ".join([f"{'ours':>6} {'SCAMP':>7} {'ratio':>7}"] * 3))
    for seed in (1, 2, 3):
        for name, options in GOOD.items():
            chosen = made_catalogues.smaller(options, seed=seed)
            made = made_catalogues.make(folder / f"good-{seed}-{len(name)}-{options.size}", chosen)
            run_both(made, *keywords)
            ours, scamp = figures(made, ".ahead"), figures(made, ".shead")
            cells = [(getattr(ours, each), getattr(scamp, each)) for each in ratios]
            for each, (one, other) in zip(ratios, cells, strict=True):
                ratios[each].append(one / other)
            row = " ".join(f"{a:6.2f} {b:7.2f} {a / b:7.3f}" for a, b in cells)
            print(f"{name + f', seed {seed}':34} {row}", flush=True)
    for seed in (1, 2):
        for name, options in GOOD.items():
            chosen = made_catalogues.smaller(options, seed=seed)
            made = made_catalogues.make(folder / f"perfect-{seed}-{len(name)}", chosen, reference_error=0.0)
            run_both(made, *keywords)
            ours, scamp = figures(made, ".ahead").truth, figures(made, ".shead").truth
            pixels = [each / 1e3 / options.scale for each in (ours, scamp)]
            print(f"perfect reference, {name}, seed {seed}: {pixels[0]:.4f} pixel, SCAMP {pixels[1]:.4f}", flush=True)
            worst_pixels = max(worst_pixels, pixels[0])
    good = verdict("among exposures, over SCAMP's, at worst", max(ratios["internal"]), 1.05)
    good &= verdict("against the reference, over SCAMP's, at worst", max(ratios["external"]), 1.05)
    good &= verdict("true stars, over SCAMP's, at worst", max(ratios["truth"]), 1.0)
    return good & verdict("true stars with a perfect reference, at worst", worst_pixels, 0.03, "pixel")


def how_fast(folder: Path, keywords: Sequence[str]) -> bool:
    options = SkyOptions(exposures=20, ccds=36, size=2048, stars=1550, filters=("r",), seed=5)
    made = made_catalogues.make(folder / "fast", options)
    rows = sum(len(each.table) for path in made.catalogues for each in ldac.read(path, ["NUMBER"]))
    scamp, ours = run_both(made, *keywords)
    print(f"20 exposures x 36 CCDs, {rows / 720:.0f} detections a CCD; seconds, CPU seconds, MB")
    print(f"  SCAMP       {scamp.seconds:7.1f} {scamp.cpu_seconds:7.1f} {scamp.memory_mb:7.0f}")
    print(f"  Astrometrix {ours.seconds:7.1f} {ours.cpu_seconds:7.1f} {ours.memory_mb:7.0f}")
    print("  ours ", figures(made, ".ahead"))
    print("  SCAMP", figures(made, ".shead"), flush=True)
    return verdict("wall time, over SCAMP's", ours.seconds / scamp.seconds, 1.5)


def how_large(folder: Path, keywords: Sequence[str]) -> bool:
    options = SkyOptions(exposures=112, ccds=36, size=2048, stars=1550, filters=("r",), seed=6)
    made = made_catalogues.make(folder / "large", options)
    (made.folder / "names").write_text("\n".join(path.name for path in made.catalogues) + "\n")
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    ours = timed([*OURS, "@names", "-ASTREFCAT_NAME", made.reference.name, *keywords], made.folder)
    print(f"112 exposures x 36 CCDs: {ours.seconds:.0f} s, {ours.memory_mb:.0f} MB")
    return verdict("memory for 4,032 CCDs", ours.memory_mb, 4096, "MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["good", "fast"], choices=("good", "fast", "large"))
    parser.add_argument("--keyword", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    wanted = parser.parse_args()
    keywords = [word for name, value in wanted.keyword for word in (f"-{name}", value)]
    with tempfile.TemporaryDirectory(prefix="astrometrix-") as made:
        programs = {"good": how_good, "fast": how_fast, "large": how_large}
        verdicts = [programs[what](Path(made), keywords) for what in wanted.what]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
