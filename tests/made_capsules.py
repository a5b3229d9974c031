"""Capsules, catalogues and images written by hand, so that pages can be tried without running a tool.

Real runs are in test_main_job.py and test_site_walk.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from spicad.fits import BLOCK, CARD


def header(*cards: str) -> bytes:
    data = "".join(card.ljust(CARD) for card in (*cards, "END")).encode()
    return data.ljust(-(-len(data) // BLOCK) * BLOCK)


def padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")


PRIMARY = header("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0")


def catalogue(path: Path, columns: Mapping[str, Sequence[float] | Sequence[str]], name: str = "LDAC_OBJECTS") -> Path:
    """A FITS file with one table; floats become doubles, texts of at most 8 letters A."""
    forms = ["8A" if values and isinstance(values[0], str) else "D" for values in columns.values()]
    rows = [
        b"".join(v.encode().ljust(8, b"\0") if isinstance(v, str) else struct.pack(">d", v) for v in row)
        for row in zip(*columns.values(), strict=True)
    ]
    cards = [
        "XTENSION= 'BINTABLE'", "BITPIX  =                    8", "NAXIS   =                    2",
        f"NAXIS1  = {8 * len(columns)}", f"NAXIS2  = {len(rows)}", "PCOUNT  =                    0",
        "GCOUNT  =                    1", f"TFIELDS = {len(columns)}", f"EXTNAME = '{name}'",
    ]  # fmt: skip
    for number, (column, form) in enumerate(zip(columns, forms, strict=True), 1):
        cards += [f"TTYPE{number:<3}= '{column}'", f"TFORM{number:<3}= '{form}'", f"TUNIT{number:<3}= 'mag'"]
    path.write_bytes(PRIMARY + header(*cards) + padded(b"".join(rows)))
    return path


def image(path: Path, rows: Sequence[Sequence[float]]) -> Path:
    """One plane of floats, the bottom row first."""
    cards = (
        "SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2",
        f"NAXIS1  = {len(rows[0])}", f"NAXIS2  = {len(rows)}",
    )  # fmt: skip
    path.write_bytes(header(*cards) + padded(b"".join(struct.pack(f">{len(row)}f", *row) for row in rows)))
    return path


def capsule(
    results: Path,
    process: int = 1,
    owner: str = "alice",
    name: str = "m101",
    run: int = 1,
    settings: Mapping[str, tuple[str, str]] | None = None,
    version: str = "2.41.5",
    figures: Sequence[tuple[str, float, str]] = (("SWarp: width of the stack", 928.0, "pixels"),),
    digest: str = "5" * 64,
) -> Path:
    """The capsule of a completed run with a stack, a catalogue, a header and a plot as its products."""
    folder = results / owner / f"{process:06d}-{name}" / f"run-{run}"
    for sub in ("products", "configuration/00-swarp", "steps/0001-swarp"):
        (folder / sub).mkdir(parents=True)
    image(folder / "products" / f"{name}.fits", [[float(x + 10 * y) for x in range(10)] for y in range(8)])
    catalogue(folder / "products/a.ldac", {"MAG_AUTO": [20.5, 18.25, 22.0], "FLAGS": [0.0, 1.0, 2.0]})
    (folder / "products/a.head").write_text("CRVAL1  = 210.8\nEND\n")
    (folder / "products/a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>')
    products = {f"{name}.fits": digest, "a.ldac": "6" * 64, "a.head": "7" * 64, "a.svg": "8" * 64}
    manifest = {each: [(folder / "products" / each).stat().st_size, said] for each, said in products.items()}
    settings = settings or {"COMBINE_TYPE": ("MEDIAN", "system: default"), "PIXEL_SCALE": ("0.0", "the tool's default")}
    records = {
        "run.json": {"process": process, "run": run, "name": name, "owner": owner, "rules": "Stack", "node": "n1"},
        "plan.json": {
            "steps": [{"number": 1, "application": "swarp", "threads": 1, "stems": ["img0001"]}],
            "labels": {"img0001": "900001p"},
            "exposures": {"img0001": {"path": "/data/900001p.fits", "filter": "r", "ccds": [{}, {}]}},
            "notes": ["900001p overlaps no other"],
            "dropped": [],
        },
        "outcome.json": {"phase": "COMPLETED", "figures": list(figures), "dropped": [["900002p", "it is empty"]]},
        "manifest.json": manifest,
        "configuration/00-swarp/setup.json": {
            "application": "swarp",
            "tool": {"version": version, "path": "/usr/bin/SWarp"},
            "settings": settings,
            "stored": [],
        },
        "steps/0001-swarp/inputs.json": {
            "img0001.fits": {"path": "/data/900001p.fits", "identity": "1:2", "digest": "a" * 64}
        },
    }
    for path, record in records.items():
        (folder / path).write_text(json.dumps(record))
    (folder / "configuration/00-swarp/swarp.conf").write_text("COMBINE_TYPE MEDIAN # system: default\n")
    (folder / "job.spica").write_text(f'name = "{name}"\n[end]\n')
    (folder / "rules.toml").write_text('title = "Stack"\n')
    (folder / "report.txt").write_text("Process 1 is completed.\n")
    (folder / "steps/0001-swarp/log").write_text("> Reading\n\x1b[1A> Reading done\n> All done\n")
    return folder
