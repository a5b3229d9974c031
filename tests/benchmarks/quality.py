"""QualityFITS beside the very tools that it runs, started by hand: wall time with figures, tables and plots included.

    python tests/benchmarks/quality.py [--ccds 8] [--size 2048] [--stars 1500] [--rounds 3]

By hand means: the same command lines on the same files, CCD by CCD, as many CCDs at once as there are cores. Cosmic
rays were found by a run of SExtractor with a retina at TERAPIX: by hand that is one more run of it, with a sharp filter
and a segmentation image. The figures without that run, and with astroscrappy in its place, are printed beside.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import stand
from astropy.io import fits
from stand import ROOT, table, verdict

from spicad.reduction.keywords import read_orders
from spicad.reduction.qualityfits import ccd
from spicad.reduction.qualityfits.settings import QUALITYFITS
from spicad.reduction.qualityfits.tools import NAMES, Tools
from spicad.reduction.qualityfits.work import look_at
from spicad.reduction.sky import SkyMade, make_sky
from spicad.reduction.sky_options import SkyOptions

GOAL = 1.15
FILTER = "mexhat_1.5_5x5.conv"
PLACES = (Path("/usr/share/source-extractor"), Path("/usr/share/sextractor"))

Command = tuple[Path, list[str]]  # where, and what


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ccds", type=int, default=8)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--stars", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    subprocess.run([sys.executable, "-m", "compileall", "-q", ROOT / "spicad"], check=True)  # as it is when installed
    with stand.scratch() as folder:
        size, stars = chosen.size, chosen.stars
        options = SkyOptions(exposures=1, ccds=chosen.ccds, size=size, filters=("r",), stars=stars, seed=7)
        sky = make_sky(folder / "sky", options)
        by_ccd = recorded(sky, folder)
        retina = {ccd: _retina(sky, ccd, steps[0][0]) for ccd, steps in by_ccd.items()}
        say_load()
        turns = [one_turn(sky, folder / f"ours{turn}", by_ccd, retina) for turn in range(chosen.rounds)]
        ours, tools, cosmics = (statistics.median(each) for each in zip(*turns, strict=True))
        ours_cpu, tools_cpu, cosmics_cpu = (statistics.median(CPU[index::3]) for index in range(3))
        by_astroscrappy = astroscrappy_seconds(sky) / os.cpu_count()  # type: ignore[operator]
        rows = [
            ("qualityfits, all", f"{ours:.1f}", ""),
            *(
                (words, f"{seconds:.1f}", f"{ours / seconds:.2f}")
                for words, seconds in (
                    ("WeightWatcher, fpack, SExtractor twice, PSFEx", tools),
                    ("and SExtractor for cosmic rays", tools + cosmics),
                    ("and astroscrappy in its place", tools + by_astroscrappy),
                )
            ),
        ]
        table(f"{chosen.ccds} CCDs of {size} x {size}, median of {chosen.rounds}", ("", "s", "ratio"), rows)
        cpu = ours_cpu / (tools_cpu + cosmics_cpu)
        print(f"  seconds of processors: {ours_cpu:.1f}, by hand {tools_cpu + cosmics_cpu:.1f}, ratio {cpu:.2f}")
        return 0 if verdict("beside its tools by hand", ours / (tools + cosmics), GOAL, "x") else 1


def one_turn(
    sky: SkyMade, out: Path, by_ccd: dict[str, list[Command]], retina: dict[str, Command]
) -> tuple[float, float, float]:
    """Seconds of the program, of its tools by hand, of SExtractor for cosmic rays."""
    return (
        timed(lambda: whole(sky, out)),
        timed(lambda: by_hand(list(by_ccd.values()))),
        timed(lambda: by_hand([[retina[ccd]] for ccd in by_ccd])),
    )


CPU: list[float] = []  # seconds of each piece of work, in the order of `timed`


def timed(work: Callable[[], object]) -> float:
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    CPU.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return time.monotonic() - start


def say_load() -> None:
    """A machine that does something else besides moves the wall times; those of processors tell less of it."""
    print(f"  load before: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")


def whole(sky: SkyMade, folder: Path) -> None:
    """As a user runs it."""
    folder.mkdir()
    words = ["-MASK_NAME", str(sky.bad_pixels), "-ASTREFCAT_NAME", str(sky.reference), "-OUTPUT_DIR", str(folder)]
    command = [sys.executable, ROOT / "bin/qualityfits", sky.exposures[0], *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def recorded(sky: SkyMade, folder: Path) -> dict[str, list[Command]]:
    """Every command line that the program starts, by the folder of its CCD, with all its inputs kept."""
    found: dict[str, list[Command]] = {}
    original, tidy = Tools.run, ccd._tidy

    def noted(tools: Tools, title: str, where: Path, arguments: Sequence[str]) -> None:
        found.setdefault(where.name, []).append((where, [tools.programs[title], *arguments]))
        original(tools, title, where, arguments)

    scratch, out = folder / "scratch", folder / "first"
    scratch.mkdir()
    out.mkdir()
    words = [str(sky.exposures[0]), "-MASK_NAME", str(sky.bad_pixels), "-OUTPUT_DIR", str(out)]
    orders = read_orders(QUALITYFITS, words)
    assert orders is not None
    Tools.run, ccd._tidy = noted, lambda where, result: None  # type: ignore[method-assign]
    try:
        look_at(sky.exposures[0], out, scratch, orders.values)
    finally:
        Tools.run, ccd._tidy = original, tidy  # type: ignore[method-assign]
    return found


def _retina(sky: SkyMade, ccd: str, where: Path) -> Command:
    """SExtractor as it was used for cosmic rays: a sharp filter, and a map of what was found."""
    number = int(ccd.removeprefix("ccd")) + 1
    kernel = next(place / FILTER for place in PLACES if (place / FILTER).exists())
    (where / "cosmic.param").write_text("NUMBER\n")
    arguments = [f"{sky.exposures[0]}[{number}]", "-PARAMETERS_NAME", "cosmic.param", "-FILTER_NAME", str(kernel)]
    arguments += ["-DETECT_THRESH", "5", "-DETECT_MINAREA", "1", "-CATALOG_TYPE", "NONE", "-DEBLEND_MINCONT", "1"]
    arguments += ["-CHECKIMAGE_TYPE", "SEGMENTATION", "-CHECKIMAGE_NAME", "cosmic.fits", "-VERBOSE_TYPE", "QUIET"]
    return where, [next(filter(None, map(shutil.which, NAMES["SExtractor"][0]))), *arguments]


def by_hand(chains: Sequence[Sequence[Command]]) -> None:
    """The chains side by side, as many as there are cores."""

    def run(chain: Sequence[Command]) -> None:
        for where, words in chain:
            for old in (*where.glob("weight.fits.fz"), *where.glob("flag.fits.fz")):
                if str(old.name) in words:
                    old.unlink()
            null = subprocess.DEVNULL
            subprocess.run(words, cwd=where, stdin=null, stdout=null, stderr=null, check=True)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(run, chains))


def astroscrappy_seconds(sky: SkyMade) -> float:
    """Of all CCDs on one core, by the first of them."""
    import astroscrappy

    with fits.open(sky.exposures[0]) as hdus:
        pixels, header = hdus[1].data.astype(np.float32), hdus[1].header
        start = time.process_time()
        astroscrappy.detect_cosmics(
            pixels, gain=header["GAIN"], readnoise=header["RDNOISE"], satlevel=header["SATURATE"] * header["GAIN"]
        )
        return (time.process_time() - start) * (len(hdus) - 1)


if __name__ == "__main__":
    sys.exit(main())
