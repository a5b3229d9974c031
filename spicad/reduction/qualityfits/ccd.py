"""One CCD's whole way: its pixels judged and flagged, then the tools on it. What comes back is small.

Several CCDs are on their way at once, each in a thread; the tools are children, and numpy lets others go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spicad.reduction import ldac
from spicad.reduction.cosmics import Mask, Pixels, Sharpest, cosmic_rays, grown
from spicad.reduction.ldac import CcdCatalogue
from spicad.reduction.medians import medians
from spicad.reduction.qualityfits import maps, tools
from spicad.reduction.qualityfits.exposure import Ccd, Companion, scaled_pixels
from spicad.reduction.qualityfits.tools import ToolFailed, Tools
from spicad.reduction.qualityfits.trails import Line, trails
from spicad.words import BadInput, SpicaError

BAD, MASKED, COSMIC, TRAIL, SATURATED, NOTHING = 1, 2, 4, 8, 16, 32  # as in quality.FLAGS
CELL = 64  # pixels of a cell in which background and noise are looked at
SAMPLED = 4  # every so many pixels of a cell, in both axes
MOST_COSMIC = 0.03  # of all pixels
DEEP_SIGMAS = 10.0  # below the background: a dead pixel
FEWEST_STARS = 5  # for a model of the PSF
STARS_FOR_DEGREE = {0: 5, 1: 15, 2: 30, 3: 60, 4: 100}


@dataclass(frozen=True)
class Orders:
    """What is asked for of every CCD, and what comes with the exposure."""

    values: Mapping[str, Any]
    tools: Tools
    count: int  # of CCDs
    companions: Mapping[str, Companion]
    zero_point: float
    is_stack: bool
    shrink: int  # pixels of the CCD for one of the preview, a side


@dataclass(frozen=True)
class Sky:
    """Background and noise in cells; NaN where a cell holds nothing."""

    level: NDArray[np.float32]
    noise: NDArray[np.float32]


@dataclass
class CcdResult:
    """All that is kept of a CCD. `problem` says why there is no catalogue."""

    ccd: Ccd
    problem: str = ""
    is_failure: bool = False  # a tool's, not the CCD's
    catalogue: CcdCatalogue | None = None
    sky: Sky | None = None
    background: NDArray[np.float32] | None = None  # SExtractor's mesh
    background_noise: NDArray[np.float32] | None = None
    fractions: dict[str, float] = field(default_factory=dict)
    cosmic_rays: int = 0
    trails: list[Line] = field(default_factory=list)
    psf: dict[str, float] = field(default_factory=dict)
    preview: NDArray[np.float32] | None = None
    weight_preview: NDArray[np.float32] | None = None
    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_void(self) -> bool:
        """Nothing in its pixels, or none that could be read."""
        return self.sky is None or not np.isfinite(self.sky.level).any()


def looked_at(ccd: Ccd, orders: Orders) -> CcdResult:
    """Everything that is done to one CCD. A tool that fails becomes the problem of this CCD."""
    folder = orders.tools.scratch / f"ccd{ccd.index:03d}"
    folder.mkdir()
    result = CcdResult(ccd)
    try:
        _flag(ccd, orders, result, folder)
        _weigh(orders, result, folder)
        if not result.problem:
            _catalogue(ccd, orders, result, folder)
            _model(ccd, orders, result, folder)
    except BadInput as error:
        result.problem = result.problem or str(error)
    except (SpicaError, OSError) as error:
        said = error if isinstance(error, ToolFailed) else f"its products cannot be read: {error}"
        result.problem, result.is_failure = result.problem or str(said), True
    finally:
        _tidy(folder, result)
    return result


def _tidy(folder: Path, result: CcdResult) -> None:
    """What the tools left goes at once, but for the products: those of all CCDs would fill a disk."""
    for path in folder.iterdir():
        if path not in result.files.values():
            path.unlink()


# Pixels


def _flag(ccd: Ccd, orders: Orders, result: CcdResult, folder: Path) -> None:
    """The flag map of what the pixels themselves tell."""
    image = ccd.pixels()
    nothing = ~np.isfinite(image)
    if nothing.any():
        image[nothing] = 0
    if orders.is_stack:
        nothing |= image == 0  # what SWarp leaves where nothing covers the stack
    sky = _sky(image, nothing)
    result.sky = sky
    result.preview = _shrunk(image, orders.shrink)
    flags = np.zeros(image.shape, np.uint8)
    known = np.isfinite(sky.level)
    result.fractions["dead"] = 1.0 - float(known.mean()) if known.size else 1.0
    if not known.any():
        flags[:] = NOTHING
        maps.write_image(folder / "defects.fits", flags, ccd.name)
        result.problem = "nothing in it: its pixels are all the same, NaN or blank"
        result.fractions |= {"nothing": 1.0, "saturated": 0.0, "cosmic": 0.0, "trail": 0.0}
        return
    if orders.is_stack:
        flags[nothing] = NOTHING
        flags[image >= ccd.saturation] |= SATURATED
        result.fractions["dead"] = 0.0  # the outside of a stack is no defect
    else:
        _look_closely(ccd, orders, result, image, nothing, flags)
    for name, bit in (("nothing", NOTHING), ("saturated", SATURATED), ("cosmic", COSMIC), ("trail", TRAIL)):
        result.fractions[name] = float(np.count_nonzero(flags & bit)) / flags.size
    maps.write_image(folder / "defects.fits", flags, ccd.name)


def _look_closely(
    ccd: Ccd, orders: Orders, result: CcdResult, image: Pixels, nothing: Mask, flags: NDArray[np.uint8]
) -> None:
    """Dead pixels, saturation, cosmic rays, trails. The image is used up."""
    assert result.sky is not None
    saturated = image >= ccd.saturation
    noise = np.empty_like(image)
    for rows, level, noise_there in _rows_of_cells(result.sky, image.shape):
        part = image[rows]
        part -= np.nan_to_num(level)
        noise[rows] = noise_there
        nothing[rows] |= (part < -DEEP_SIGMAS * noise_there) | np.isnan(level)
    usable = ~(nothing | grown(saturated, 2))
    flags[nothing] = NOTHING
    flags[saturated] |= SATURATED
    if orders.values["COSMIC_RAYS"]:
        limits = Sharpest(orders.values["COSMIC_SIGMAS"], orders.values["COSMIC_SHARPNESS"])
        cosmic = cosmic_rays(image, noise, ccd.gain, usable, limits)
        if np.count_nonzero(cosmic) > MOST_COSMIC * cosmic.size:
            result.notes.append(f"{ccd.name}: too many sharp pixels for cosmic rays (a colour matrix?): none is masked")
        else:
            flags[cosmic] |= COSMIC
            result.cosmic_rays = _lumps(cosmic)
            usable &= ~cosmic
    if orders.values["TRAILS"]:
        image[~usable] = 0
        image /= noise
        result.trails = trails(image)
        _draw(result.trails, flags)


def _sky(image: Pixels, nothing: Mask) -> Sky:
    """Median and noise of a sample of each cell; a cell of one value, or mostly without one, holds nothing."""
    height, width = image.shape
    rows, columns = max(1, height // CELL), max(1, width // CELL)
    tall, wide = height // rows, width // columns

    def sampled(whole: NDArray[Any]) -> NDArray[Any]:
        blocks = whole[: rows * tall, : columns * wide].reshape(rows, tall, columns, wide)
        return blocks[:, ::SAMPLED, :, ::SAMPLED].swapaxes(1, 2).reshape(rows, columns, -1)

    sample, lost = sampled(image), sampled(nothing)
    level = medians(sample)
    # Half of a cell's pixels lie below its sky: sources are above it.
    noise = 1.4826 * medians(np.abs(sample - level[..., None]))
    holds_nothing = (sample.min(axis=2) == sample.max(axis=2)) | (lost.mean(axis=2) > 0.5)
    level[holds_nothing] = np.nan
    least = float(np.nanmedian(noise[~holds_nothing])) if (~holds_nothing).any() else 1.0
    noise = np.where(holds_nothing | ~(noise > 0), max(least, 1e-6), noise)
    return Sky(level.astype(np.float32), noise.astype(np.float32))


def _rows_of_cells(
    sky: Sky, shape: tuple[int, int]
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
    """Level and noise along the rows of pixels that each row of cells has; the rim takes what is beside it."""
    rows, columns = sky.level.shape
    tall, wide = shape[0] // rows, shape[1] // columns
    cells = np.minimum(np.arange(shape[1]) // wide, columns - 1)
    for row in range(rows):
        stop = (row + 1) * tall if row + 1 < rows else shape[0]
        yield slice(row * tall, stop), sky.level[row, cells], sky.noise[row, cells]


def _lumps(mask: Mask) -> int:
    """Groups of pixels that touch, as lines have them: pixels with none of their group before them, row by row."""
    before = np.zeros(mask.shape, bool)
    before[:, 1:] = mask[:, :-1]
    before[1:] |= mask[:-1]
    before[1:, 1:] |= mask[:-1, :-1]
    before[1:, :-1] |= mask[:-1, 1:]
    return int(np.count_nonzero(mask & ~before))


def _draw(lines: list[Line], flags: NDArray[np.uint8]) -> None:
    for line in lines:
        y, x = np.mgrid[: flags.shape[0], : flags.shape[1]].astype(np.float32)
        flags[line.distances(x, y) <= line.half_width] |= TRAIL


def _shrunk(image: Pixels, by: int) -> NDArray[np.float32]:
    """Means of `by` x `by` pixels."""
    height, width = (max(by, side // by * by) for side in image.shape)
    part = image[:height, :width]
    if part.shape[0] < by or part.shape[1] < by:
        return np.asarray(part.mean(keepdims=True), np.float32)
    rows = np.add.reduce(part.reshape(height // by, by, width), axis=1)  # whole rows first: far quicker than blocks
    return np.asarray(sum(rows[:, first::by] for first in range(by)) / np.float32(by * by))


# Tools


def _weigh(orders: Orders, result: CcdResult, folder: Path) -> None:
    """WeightWatcher joins flat, weight and mask with the flags; both maps are packed by fpack."""
    ccd, limits = result.ccd, orders.values["FLAT_LIMITS"]
    names, least, most, out = [], [], [], []
    for kind, low, high, bit in (
        ("flat", limits[0], limits[1], BAD),
        ("weight", 1e-29, 1e29, BAD),
        ("mask", 0.5, 1e29, MASKED),
    ):
        companion = orders.companions.get(kind)
        if companion is not None:
            maps.write_image(folder / f"given-{kind}.fits", companion.pixels_of(ccd, orders.count), ccd.name)
            names.append(f"given-{kind}.fits")
            least.append(f"{low:g}")
            most.append(f"{high:g}")
            out.append(str(bit))
    bits = (COSMIC, TRAIL, SATURATED, NOTHING)
    arguments = ["-FLAG_NAMES", ",".join(["defects.fits"] * len(bits)), "-POLY_NAMES", ""]
    arguments += ["-FLAG_MASKS", ",".join(map(str, bits)), "-FLAG_OUTFLAGS", ",".join(map(str, bits))]
    arguments += ["-FLAG_WMASKS", ",".join("0" if bit == SATURATED else str(bit) for bit in bits)]
    arguments += ["-WEIGHT_NAMES", ",".join(names)]
    if names:
        arguments += ["-WEIGHT_MIN", ",".join(least), "-WEIGHT_MAX", ",".join(most), "-WEIGHT_OUTFLAGS", ",".join(out)]
    arguments += ["-OUTWEIGHT_NAME", "weight.fits", "-OUTFLAG_NAME", "flag.fits"]
    orders.tools.run("WeightWatcher", folder, [*arguments, "-WRITE_XML", "N", "-VERBOSE_TYPE", "QUIET"])
    # Weights that are 0 stay 0 when they are packed (-qz); flags are integers and lose nothing.
    orders.tools.run("fpack", folder, ["-r", "-qz", "8", "-O", "weight.fits.fz", "weight.fits"])
    orders.tools.run("fpack", folder, ["-r", "-O", "flag.fits.fz", "flag.fits"])
    result.files |= {kind: folder / f"{kind}.fits.fz" for kind in ("weight", "flag")}
    weight = _weights(folder, has_values=bool({"flat", "weight"} & orders.companions.keys()))
    result.fractions["bad"] = 1.0 - float(np.count_nonzero(weight)) / weight.size
    result.weight_preview = _shrunk(weight, orders.shrink)
    if not result.problem and result.fractions["bad"] > 0.999:
        result.problem = "nothing in it has any weight"


def _weights(folder: Path, has_values: bool) -> Pixels:
    """WeightWatcher's map; where it can only be 0 and 1, by the flags, which are a quarter of the bytes."""
    if has_values:
        return scaled_pixels(folder / "weight.fits", maps.first_image(folder / "weight.fits"))
    hdu = maps.first_image(folder / "flag.fits")
    flags = np.memmap(folder / "flag.fits", np.uint8, "r", hdu.data_offset, hdu.shape[1::-1])
    return np.asarray((flags & ~np.uint8(SATURATED)) == 0, np.float32)


def _catalogue(ccd: Ccd, orders: Orders, result: CcdResult, folder: Path) -> None:
    """SExtractor with the low threshold."""
    values, columns = orders.values, orders.tools.scratch / "low.param"
    arguments = tools.sextractor(ccd.readable, columns, "low.ldac", "weight.fits", "flag.fits")
    arguments += ["-DETECT_THRESH", f"{values['DETECT_THRESH']:g}", "-ANALYSIS_THRESH", f"{values['DETECT_THRESH']:g}"]
    arguments += ["-BACK_SIZE", str(values["BACK_SIZE"]), "-PHOT_APERTURES", "5,10,20"]
    arguments += ["-GAIN", f"{ccd.gain:g}", "-SATUR_LEVEL", f"{ccd.saturation:g}"]
    arguments += ["-MAG_ZEROPOINT", f"{orders.zero_point:.6f}"]
    arguments += ["-CHECKIMAGE_TYPE", "MINIBACKGROUND,MINIBACK_RMS", "-CHECKIMAGE_NAME", "back.fits,rms.fits"]
    orders.tools.run("SExtractor", folder, arguments)
    (catalogue,) = ldac.read(folder / "low.ldac")
    if "EXT_NUMBER" in (catalogue.table.dtype.names or ()):
        catalogue.table["EXT_NUMBER"] = ccd.index + 1
    result.catalogue = catalogue
    result.background, result.background_noise = (
        scaled_pixels(folder / name, maps.first_image(folder / name)) for name in ("back.fits", "rms.fits")
    )


def _model(ccd: Ccd, orders: Orders, result: CcdResult, folder: Path) -> None:
    """SExtractor with the high threshold, then PSFEx. A CCD without stars has no model, and that is no failure."""
    values, columns = orders.values, orders.tools.scratch / "high.param"
    arguments = tools.sextractor(ccd.readable, columns, "high.ldac", "weight.fits", "flag.fits")
    arguments += ["-DETECT_THRESH", f"{values['PSF_THRESH']:g}", "-ANALYSIS_THRESH", f"{values['PSF_THRESH']:g}"]
    arguments += ["-BACK_SIZE", str(values["BACK_SIZE"]), "-PHOT_APERTURES", "20"]
    arguments += ["-GAIN", f"{ccd.gain:g}", "-SATUR_LEVEL", f"{ccd.saturation:g}"]
    orders.tools.run("SExtractor", folder, arguments)
    (high,) = ldac.read(folder / "high.ldac", columns=("FLUX_RADIUS", "SNR_WIN", "FLAGS", "ELONGATION"))
    candidates = int(np.count_nonzero((high.table["SNR_WIN"] > 20) & (high.table["FLAGS"] < 4)))
    if candidates < FEWEST_STARS:
        return
    degree = max(each for each, need in STARS_FOR_DEGREE.items() if candidates >= need)
    try:
        orders.tools.run("PSFEx", folder, tools.psfex("high.ldac", min(degree, values["PSFVAR_DEGREES"])))
    except ToolFailed as error:
        result.notes.append(f"{ccd.name}: no model of the PSF: {error}")
        return
    result.psf = psfex_figures((folder / "psfex.xml").read_text("utf-8", "replace"))
    if (folder / "high.psf").is_file() and result.psf.get("NStars_Accepted_Total", 0) > 0:
        result.files["psf"] = folder / "high.psf"


def psfex_figures(text: str) -> dict[str, float]:
    """The first row of the table PSF_Extensions of PSFEx's XML: numbers by the names of the fields."""
    table = re.search(r'<TABLE[^>]*name="PSF_Extensions"(.*?)</TABLE>', text, re.DOTALL)
    if table is None:
        return {}
    names = re.findall(r'<FIELD[^>]*?\bname="([^"]+)"', table[1])
    row = re.search(r"<TR>(.*?)</TR>", table[1], re.DOTALL)
    cells = re.findall(r"<TD>(.*?)</TD>", row[1], re.DOTALL) if row else []
    found = {}
    for name, cell in zip(names, cells, strict=False):
        try:
            found[name] = float(cell)
        except ValueError:
            continue
    return found
