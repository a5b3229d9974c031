"""Positions and sizes on the sky as people write them: degrees or sexagesimal, arcminutes, dates and Julian days.

Names of objects are search.py's affair; here is no table.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from spicad.archive.cells import Position

DEGREES_OF_UNIT = {
    "": 1.0, "d": 1.0, "deg": 1.0, "°": 1.0,
    "'": 1 / 60, "m": 1 / 60, "arcmin": 1 / 60, "′": 1 / 60,
    '"': 1 / 3600, "s": 1 / 3600, "arcsec": 1 / 3600, "″": 1 / 3600, "''": 1 / 3600,
}  # fmt: skip
NUMBER = r"\d+(?:\.\d*)?|\.\d+"
PLAIN = re.compile(rf"[-+]?(?:{NUMBER})")
SEXAGESIMAL = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<whole>\d+)\s*(?P<unit>[:hd°\s])\s*(?P<minutes>{NUMBER})\s*[:m'′\s]?\s*"
    rf"(?:(?P<seconds>{NUMBER})\s*(?:s|\"|″|'')?)?"
)
MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
EXAMPLE = "Write degrees (210.80 +54.35) or 14:03:12.6 +54:20:57."


def position(text: str) -> Position:
    """Right ascension and declination in degrees. Raises ValueError with the mend."""
    halves = _halves(text.strip())
    if halves is None:
        raise ValueError(f'"{text}" is no position. {EXAMPLE}')
    return right_ascension(halves[0]), declination(halves[1])


def _halves(text: str) -> tuple[str, str] | None:
    if "," in text:
        one, _, other = text.partition(",")
        return (one.strip(), other.strip()) if one.strip() and other.strip() else None
    signed = re.fullmatch(r"(.*\S)\s*(?<![eE])([-+−].*)", text)  # a minus as web pages have it
    if signed:
        return signed[1], signed[2].replace("−", "-")
    words = text.split()
    if len(words) in (2, 4, 6):
        middle = len(words) // 2
        return " ".join(words[:middle]), " ".join(words[middle:])
    return None


def right_ascension(text: str) -> float:
    """Degrees from "210.80", or from hours: "14:03:12.6", "14h03m12.6s", "14 03 12.6"."""
    value, unit = _angle(text)
    if unit and unit not in "d°":  # hours, unless degrees are named
        value *= 15
    if not 0 <= value <= 360:
        raise ValueError(f'the right ascension "{text}" is not between 0 and 360 degrees. {EXAMPLE}')
    return value % 360


def declination(text: str) -> float:
    value, unit = _angle(text)
    if unit == "h" or not -90 <= value <= 90:
        raise ValueError(f'the declination "{text}" is not between -90 and 90 degrees. {EXAMPLE}')
    return value


def _angle(text: str) -> tuple[float, str]:
    """The value and what stood behind its whole part: "" for a plain number."""
    text = text.strip()
    if plain := re.fullmatch(rf"({PLAIN.pattern})\s*(?:d|deg|°)?", text):
        return float(plain[1]), ""
    found = SEXAGESIMAL.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no angle. {EXAMPLE}')
    minutes, seconds = float(found["minutes"]), float(found["seconds"] or 0)
    if minutes >= 60 or seconds >= 60:
        raise ValueError(f'"{text}": minutes and seconds are below 60. {EXAMPLE}')
    value = int(found["whole"]) + minutes / 60 + seconds / 3600
    return (-value if found["sign"] == "-" else value), found["unit"]


def size(text: str) -> float:
    """Degrees from "1.5", "1.5d", "30'" or "30arcmin", '20"' or "20arcsec"."""
    found = re.fullmatch(rf"({NUMBER})\s*(\D*)", text.strip())
    if found is None or found[2] not in DEGREES_OF_UNIT:
        raise ValueError(f'"{text}" is no size on the sky. Write 1.5 (degrees), 30\' or 20".')
    degrees = float(found[1]) * DEGREES_OF_UNIT[found[2]]
    if degrees > 180:
        raise ValueError(f'"{text}" is more than the 180 degrees that there are.')
    return degrees


def mjd(text: str, is_end: bool = False) -> float:
    """The Modified Julian Date of a date, a date and time (UTC), or itself; with `is_end` a date's last moment."""
    text = text.strip()
    if PLAIN.fullmatch(text) and "-" not in text[1:]:
        value = float(text)
        return value - 2_400_000.5 if value > 2_400_000 else value
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is no date. Write 2004-03-21, 2004-03-21T05:00 or a Julian date.') from None
    if is_end and len(text) <= len("2004-03-21"):
        moment += timedelta(days=1, microseconds=-1)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - MJD_EPOCH) / timedelta(days=1)


def moment(day: float | None) -> str:
    """A Modified Julian Date for people, UTC; "-" for none."""
    if day is None or not -600_000 < day < 2_900_000:
        return "-"
    return (MJD_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d %H:%M")
