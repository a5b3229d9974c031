"""Exposures of the archive that were judged: rows, and a capsule with a report, pictures and tables written by hand.

What qualityfits really leaves is in test_quality_registered.py.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from PIL import Image

from spicad.archive import judgements
from spicad.archive.judgements import File, Source
from spicad.archive.quality import CcdReport, Reason, Report, record_of, write_report
from spicad.tables import Exposure

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 400"><rect width="600" height="400" fill="#fff"/>'
    '<path d="M60 20V350H580" fill="none" stroke="#333"/><text x="300" y="390">{words}</text></svg>'
)
POOR = Reason("C", "seeing", "Seeing is 1.31 arcsec, more than 1.2.", "poor seeing", 1.31, 1.2)


def report(
    name: str, grade: str = "B", reasons: tuple[Reason, ...] = (), seeing: float = 0.72, ccds: int = 4
) -> Report:
    figures = {
        "seeing": seeing, "fwhm": seeing * 0.97, "elongation": 1.06, "background": 1432.5, "noise": 21.4,
        "limiting_magnitude": 24.37, "stars": 1210.0, "galaxies": 5023.0, "ccds": float(ccds), "psf_chi2": 1.08,
        "ra_offset": -0.31, "bad_pixel_fraction": 0.0121, "cosmic_rays": 3021.0, "zero_point": None,
    }  # fmt: skip
    of_ccd = ("seeing", "fwhm", "elongation", "background", "noise", "stars", "psf_chi2", "bad_pixel_fraction")
    listed = [
        CcdReport(f"ccd{number:02d}", number + 1, {each: figures[each] for each in of_ccd}) for number in range(ccds)
    ]
    return Report(name, "exposure", "MegaPrime", "r", "D1", "900001", grade, reasons, figures, listed)


def add_exposure(name: str, path: Path | None = None, **values: object) -> int:
    """A row of the archive; its number."""
    where = str(path or f"/data/{name}")
    row = {
        "obs_id": name.partition(".")[0], "name": name, "node": "node1", "path": where,
        "path_key": hashlib.sha256(f"node1:{where}".encode()).hexdigest(),
        "sha256": hashlib.sha256(name.encode()).hexdigest(), "bytes": 1000, "mtime_ns": 0, "filter": "r",
        "runid": "03AF12", "target_name": "D1", "instrument_name": "MegaPrime", "t_min": 53085.3, "t_exptime": 600.0,
        "airmass": 1.12, "s_ra": 36.5, "s_dec": -4.5, "registered": 1_080_000_000.0, **values,
    }  # fmt: skip
    made: int = Exposure.insert(**row).execute()
    return made


def judge(number: int, told: Report, capsule: Path, process: int = 7, ended: float = 1_080_000_100.0) -> None:
    """As the daemon does when a step has ended; with the files that the step left."""
    row = Exposure.get_by_id(number)
    products = capsule / "products"
    products.mkdir(parents=True, exist_ok=True)
    stem = row.name.partition(".")[0]
    write_report(products / f"{stem}.quality.json", told)
    (products / f"{stem}.quality-preview.png").write_bytes(picture())
    (products / f"{stem}.quality.fits").write_bytes(b"a table")
    for key in ("psf", "ellipticity", "background", "radius"):
        (products / f"{stem}.quality-{key}.svg").write_text(SVG.format(words=f"{key} of {stem}"))
    names = tuple(f"products/{path.name}" for path in sorted(products.iterdir()) if path.name.startswith(stem))
    file = File(row.path, row.bytes, row.mtime_ns)
    source = Source("qualityfits", process, 1, 1, ended, str(capsule), names)
    assert judgements.register(file, record_of(told), source)


def judge_stack(capsule: Path, name: str) -> int:
    """A report on a stack, with its pictures and its exposures, among the products of a run that has ended; its number
    among them."""
    told = replace(report(f"{name}.fits", "B", ccds=1), kind="stack", object="D1")
    products = capsule / "products"
    write_report(products / f"{name}.quality.json", told)
    (products / f"{name}.quality-preview.png").write_bytes(picture())
    (products / f"{name}.quality-depth.svg").write_text(SVG.format(words="depth"))
    (products / f"{name}.quality-origins.csv").write_text("exposure,used,why\n900001p,yes,\n900002p,no,<b>seeing</b>\n")
    manifest = json.loads((capsule / "manifest.json").read_text())
    listed = sorted(path for path in products.iterdir() if ".quality" in path.name)
    manifest |= {path.name: [path.stat().st_size, "8" * 64] for path in listed}
    (capsule / "manifest.json").write_text(json.dumps(manifest))
    return list(manifest).index(f"{name}.quality.json") + 1


@cache
def picture(side: int = 400) -> bytes:
    packed = io.BytesIO()
    image = Image.new("L", (side, side * 3 // 4))
    image.putdata(
        [(x * y) % 97 + (90 if (x * 7 + y * 13) % 211 == 0 else 0) for y in range(side * 3 // 4) for x in range(side)]
    )
    image.save(packed, "PNG")
    return packed.getvalue()
