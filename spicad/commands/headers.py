"""`spica headers`: what Spica understands of FITS files, from which cards, what they lack, if the archive takes them.

The translation is etc/instruments/, see spica-instrument(5); reading is archive/headers.py's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from spicad import config
from spicad.archive.headers import Exposure, read_exposure, what_is_said
from spicad.archive.instruments import FIELDS, Instrument, Instruments, instruments_in
from spicad.archive.registering import read_for_archive
from spicad.commands import DONE, WRONG
from spicad.commands.printing import print_json, print_table, printable_line
from spicad.fits import FitsProblem, Value
from spicad.words import BadInput, SpicaError

Said = dict[str, tuple[str, Value]]
FROM_WCS = {"ra": "s_ra", "dec": "s_dec"}
NEVER_LACKING = ("date", "time", "detector", "mjd_end", "seeing")  # others say it as well, or few headers do


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="FITS files, packed or not")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    instruments = instruments_in(config.load().paths.instruments)
    found = [_looked_at(path, instruments) for path in arguments.files]
    if arguments.json:
        print_json(found)
    else:
        for number, each in enumerate(found):
            print("\n" * (number > 0), end="")
            _show(each)
    return DONE if all(each["archive"] == "" for each in found) else WRONG


def _looked_at(path: Path, instruments: Instruments) -> dict[str, Any]:
    found: dict[str, Any] = {"file": str(path), "instrument_file": "", "known": [], "lacks": [], "warnings": []}
    found["archive"] = _why_refused(path, instruments)
    try:
        instrument, said = what_is_said(path, instruments)
        exposure = read_exposure(path, instruments)
    except SpicaError:
        return found
    known = _known(exposure, said)
    lacking = [name for name in FIELDS if name not in NEVER_LACKING and name not in {each["what"] for each in known}]
    return found | {
        "instrument_file": instrument.name,
        "title": instrument.title,
        "ccds": _ccds(exposure),
        "known": known,
        "lacks": [{"what": name, "cards": list(instrument.cards.get(name, ()))} for name in lacking],
        "warnings": list(exposure.warnings) + _unlisted_filter(instrument, said),
    }


def _why_refused(path: Path, instruments: Instruments) -> str:
    """'' when the archive takes it."""
    try:
        read_for_archive(path, instruments)
    except BadInput as error:
        return "\n".join(f"{problem.what} {problem.mend}".strip() for problem in error.problems)
    except FitsProblem as error:
        return f"{error.what} {error.mend}".strip()
    return ""


def _known(exposure: Exposure, said: Said) -> list[dict[str, Any]]:
    """One record for each thing that is known: its value, the card and what stands there."""
    rows = []
    for name, (card, raw) in said.items():
        value = getattr(exposure, FROM_WCS.get(name, name), raw)
        if value in (None, ""):
            continue
        is_from_wcs = name in FROM_WCS and bool(exposure.radius_deg)
        source = "WCS" if is_from_wcs else card or _source_without_card(name, raw, said)
        rows.append({"what": name, "value": value, "card": source, "raw": None if is_from_wcs else raw})
    return rows


def _source_without_card(name: str, raw: Value, said: Said) -> str:
    if raw is not None:
        return "(literal)"
    return {"obs_id": "(file name)", "mjd": said["date"][0], "mjd_end": "(mjd + t_exptime)"}.get(name, "")


def _ccds(exposure: Exposure) -> str:
    sizes = sorted({f"{ccd.width} x {ccd.height}" for ccd in exposure.ccds})
    projections = sorted({ccd.projection or "no WCS" for ccd in exposure.ccds})
    count = f"{len(exposure.ccds)} CCDs" if len(exposure.ccds) > 1 else "one CCD"
    return f"{count} of {', '.join(sizes[:3])} pixels, {', '.join(projections)}, {exposure.packing}"


def _unlisted_filter(instrument: Instrument, said: Said) -> list[str]:
    card, raw = said["filter"]
    name = " ".join(str(raw or "").split())
    if not instrument.filters or not name or instrument.filter_named(name).names:
        return []
    return [f"{card} = {name!r} is a filter that {instrument.name}.toml does not list: its edges are not known."]


def _show(found: dict[str, Any]) -> None:
    title = (
        f"{found['title']} ({found['instrument_file']}.toml), {found['ccds']}" if found["known"] else "not understood"
    )
    print(printable_line(f"{found['file']}: {title}"))
    if found["known"]:
        rows = [[each["what"], _text(each["value"]), each["card"], _text(each["raw"])] for each in found["known"]]
        print_table(rows, ("WHAT", "VALUE", "CARD", "AS IT STANDS"))
    for each in found["lacks"]:
        print(
            f"lacks {each['what']}: {FIELDS[each['what']]}"
            + (f" ({', '.join(each['cards'])})" if each["cards"] else "")
        )
    for text in found["warnings"]:
        print(printable_line(f"odd: {text}"))
    for text in found["archive"].splitlines():
        print(printable_line(f"the archive refuses it: {text}"))


def _text(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
