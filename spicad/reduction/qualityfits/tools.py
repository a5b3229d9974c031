"""The tools that qualityfits runs: SExtractor, WeightWatcher, PSFEx, fpack. One image a run, everything on the command
line, each in a folder of its own; what a tool says when it fails becomes the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spicad.archive.quality import ToolRun
from spicad.words import SpicaError

NAMES = {  # as distributions call them, and their packages
    "SExtractor": (("source-extractor", "sex", "sextractor"), "source-extractor (Debian), sextractor (Fedora)"),
    "WeightWatcher": (("weightwatcher", "ww"), "weightwatcher"),
    "PSFEx": (("psfex",), "psfex"),
    "fpack": (("fpack",), "libcfitsio-bin (Debian), cfitsio-utils (Fedora)"),
}
PLACES = "/usr/local/bin:/usr/bin:/bin"
MOST_SECONDS = 1800  # of one run on one CCD
CURSOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\r")
KILLED = 128

LOW_COLUMNS = """NUMBER EXT_NUMBER X_IMAGE Y_IMAGE XWIN_IMAGE YWIN_IMAGE ERRAWIN_IMAGE ERRBWIN_IMAGE ERRTHETAWIN_IMAGE
ALPHAWIN_J2000 DELTAWIN_J2000 ERRAWIN_WORLD ERRBWIN_WORLD ERRTHETAWIN_J2000 FLUX_AUTO FLUXERR_AUTO MAG_AUTO MAGERR_AUTO
FLUX_APER(3) FLUXERR_APER(3) MAG_APER(3) MAGERR_APER(3) FLUX_MAX FLUX_RADIUS FWHM_IMAGE BACKGROUND A_IMAGE B_IMAGE
THETA_IMAGE ELONGATION ELLIPTICITY ISOAREA_IMAGE SNR_WIN FLAGS FLAGS_WEIGHT IMAFLAGS_ISO"""
HIGH_COLUMNS = """NUMBER X_IMAGE Y_IMAGE XWIN_IMAGE YWIN_IMAGE FLUX_AUTO FLUXERR_AUTO FLUX_APER(1) FLUXERR_APER(1)
FLUX_MAX FLUX_RADIUS BACKGROUND ELONGATION SNR_WIN FLAGS FLAGS_WEIGHT VIGNET({side},{side})"""
KERNEL = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"
VIGNET_SIDE = 35


def low_columns() -> list[tuple[str, str] | tuple[str, str, tuple[int, ...]]]:
    """The columns of a catalogue that no tool made: of an exposure with nothing in it."""
    found: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = []
    for column in LOW_COLUMNS.split():
        name, _, size = column.rstrip(")").partition("(")
        whole = name in ("NUMBER", "EXT_NUMBER", "FLAGS", "FLAGS_WEIGHT", "IMAFLAGS_ISO", "ISOAREA_IMAGE")
        found.append((name, "i4" if whole else "f8", (int(size),)) if size else (name, "i4" if whole else "f8"))
    return found


class ToolFailed(SpicaError):
    """What a tool said at its end."""


@dataclass
class _Used:
    runs: int = 0
    seconds: float = 0.0


@dataclass
class Tools:
    """Runs them and keeps count. Safe to use from several threads."""

    scratch: Path
    programs: dict[str, str] = field(default_factory=dict)
    used: dict[str, _Used] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Raises SpicaError when one is not installed."""
        path = f"{os.environ.get('PATH', '')}:{PLACES}"
        for title, (names, package) in NAMES.items():
            found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
            if found is None:
                raise SpicaError(f"{title} is not installed. Install the package {package}.")
            self.programs[title] = found
        (self.scratch / "low.param").write_text("\n".join(LOW_COLUMNS.split()) + "\n")
        (self.scratch / "high.param").write_text("\n".join(HIGH_COLUMNS.format(side=VIGNET_SIDE).split()) + "\n")
        (self.scratch / "kernel.conv").write_text(KERNEL)

    def run(self, title: str, folder: Path, arguments: Sequence[str]) -> None:
        """Raises ToolFailed with its last words."""
        start = time.monotonic()
        try:
            done = subprocess.run(
                [self.programs[title], *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=MOST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolFailed(f"{title} did not end within {MOST_SECONDS} s") from None
        with self.lock:
            used = self.used.setdefault(title, _Used())
            used.runs, used.seconds = used.runs + 1, used.seconds + time.monotonic() - start
        if done.returncode:
            raise ToolFailed(f"{title} {_ending(done.returncode)}: {_last_words(done.stdout)}")

    def runs(self) -> tuple[ToolRun, ...]:
        return tuple(
            ToolRun(title, _version(self.programs[title]), used.runs, round(used.seconds, 3))
            for title, used in self.used.items()
        )


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _last_words(output: bytes) -> str:
    lines = [line.strip() for line in CURSOR.sub("\n", output.decode("utf-8", "replace")).splitlines()]
    telling = [line for line in lines if line and not line.startswith("> WARNING: default.")]
    return " ".join(telling[-2:])[:300] or "it said nothing"


def _version(program: str) -> str:
    flag = "-V" if program.endswith("fpack") else "-v"
    try:
        done = subprocess.run(
            [program, flag], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else ""


def sextractor(image: str, columns: Path, catalogue: str, weight: str, flag: str) -> list[str]:
    """What both runs have in common. Names in the folder of the run."""
    return [
        image,
        *("-CATALOG_NAME", catalogue, "-CATALOG_TYPE", "FITS_LDAC", "-PARAMETERS_NAME", str(columns)),
        *("-FILTER", "Y", "-FILTER_NAME", str(columns.with_name("kernel.conv")), "-DETECT_MINAREA", "5"),
        *("-WEIGHT_TYPE", "MAP_WEIGHT", "-WEIGHT_IMAGE", weight, "-RESCALE_WEIGHTS", "Y"),
        *("-FLAG_IMAGE", flag, "-FLAG_TYPE", "OR", "-BACKPHOTO_TYPE", "GLOBAL", "-CLEAN", "Y", "-MASK_TYPE", "CORRECT"),
        *("-GAIN_KEY", "NONE", "-SATUR_KEY", "NONE", "-PHOT_AUTOPARAMS", "2.5,3.5", "-PHOT_FLUXFRAC", "0.5"),
        *("-PIXEL_SCALE", "0", "-WRITE_XML", "N", "-VERBOSE_TYPE", "QUIET", "-NTHREADS", "1"),
        *("-MEMORY_OBJSTACK", "10000", "-MEMORY_PIXSTACK", "3000000", "-HEADER_SUFFIX", ".none"),
    ]


def psfex(catalogue: str, degree: int) -> list[str]:
    return [
        catalogue,
        *("-BASIS_TYPE", "PIXEL_AUTO", "-BASIS_NUMBER", "20", "-PSF_SAMPLING", "0", "-PSF_ACCURACY", "0.01"),
        *("-PSF_SIZE", "25,25", "-CENTER_KEYS", "X_IMAGE,Y_IMAGE", "-PHOTFLUX_KEY", "FLUX_APER(1)"),
        *("-PHOTFLUXERR_KEY", "FLUXERR_APER(1)", "-PSFVAR_KEYS", "X_IMAGE,Y_IMAGE", "-PSFVAR_GROUPS", "1,1"),
        # Snapshots of the model over the CCD: PSFEx's usual 9 x 9 take nine tenths of its time.
        *(
            "-PSFVAR_NSNAP",
            "3",
            "-PSFVAR_DEGREES",
            str(degree),
            "-SAMPLE_AUTOSELECT",
            "Y",
            "-SAMPLE_FWHMRANGE",
            "1.2,25.0",
        ),
        *("-SAMPLE_VARIABILITY", "0.3", "-SAMPLE_MINSN", "20", "-SAMPLE_MAXELLIP", "0.6"),
        *("-CHECKPLOT_DEV", "NULL", "-CHECKPLOT_TYPE", "NONE", "-CHECKPLOT_NAME", "plot", "-CHECKIMAGE_TYPE", "NONE"),
        *("-PSF_DIR", ".", "-PSF_SUFFIX", ".psf", "-WRITE_XML", "Y", "-XML_NAME", "psfex.xml"),
        *("-VERBOSE_TYPE", "QUIET", "-NTHREADS", "1"),
    ]
