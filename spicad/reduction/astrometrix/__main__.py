"""The command: `astrometrix [-c FILE] [-KEYWORD VALUE]... CATALOGUE... | @LIST`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spicad import __version__
from spicad.reduction.astrometrix import settings
from spicad.reduction.astrometrix.settings import Settings
from spicad.words import BadInput, Problem, SpicaError

if TYPE_CHECKING:
    from spicad.reduction.astrometrix.solve import Solved

USAGE = """\
usage: astrometrix [-c FILE] [-KEYWORD VALUE]... CATALOGUE... | @LIST
       astrometrix -dd | -v | -h

Solves the astrometry of SExtractor's LDAC catalogues together against a reference catalogue, and writes a .head file
for each that can be believed. -dd lists all keywords with their defaults. @LIST names a file of names, one a line.
Exit status: 0 all solved, 1 some exposures were refused, 2 nothing was tried. See astrometrix(1).
"""
SOLVED, SOME_REFUSED, NOT_TRIED = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if words else sys.stderr)
        return SOLVED if words else NOT_TRIED
    if words[0] in ("-v", "--version"):
        print(f"Astrometrix version {__version__} (Spica)")
        return SOLVED
    if words[0] in ("-d", "-dd"):
        print(settings.listed(), end="")
        return SOLVED
    try:
        paths, chosen = _understood(words)
        return _run(paths, chosen)
    except SpicaError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
    except MemoryError:
        print("astrometrix: not enough memory; give it fewer catalogues at once.", file=sys.stderr)
    return NOT_TRIED


def _understood(words: Sequence[str]) -> tuple[list[Path], Settings]:
    names: list[str] = []
    given: list[str] = []
    file: Path | None = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-c":
            file = Path(rest.pop(0)) if rest else Path("")
        elif word.startswith("-") and len(word) > 1:
            given += [word, rest.pop(0) if rest else ""]
        elif word.startswith("@"):
            names += _listed(Path(word[1:]))
        else:
            names.append(word)
    if not names:
        raise BadInput(Problem("the command line", "no catalogue is given."))
    return [Path(name) for name in names], settings.settings_from(file, settings.from_command_line(given))


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise BadInput(Problem(str(path), f"the list cannot be read: {error.strerror}.")) from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _run(paths: Sequence[Path], chosen: Settings) -> int:
    # Imported here, so that -dd answers at once.
    from spicad.reduction import references
    from spicad.reduction.astrometrix import exposures, plots, products
    from spicad.reduction.astrometrix.solve import solved

    for path in paths:  # what an earlier run left is not taken for this one's
        products.head_path(path, chosen).unlink(missing_ok=True)
    stars = references.read(Path(chosen.word("ASTREFCAT_NAME")), references.Keys(**_keys(chosen)))
    _say(f"{chosen.word('ASTREFCAT_NAME')}: {len(stars)} reference stars")
    given = exposures.load(paths, chosen)
    _say(f"{len(given.exposures)} exposures, {len(given.detections.x)} detections that can be used")
    found = solved(given, stars, chosen, _say)
    written = products.write(found, chosen)
    plots.write(found, chosen)
    return _told(found, len(written))


def _keys(chosen: Settings) -> dict[str, Any]:
    def words(name: str) -> list[str]:
        return [] if chosen.word(name) == "AUTO" else chosen.words(name)

    def word(name: str) -> str:
        return "" if chosen.word(name) == "AUTO" else chosen.word(name)

    return {
        "position": words("ASTREFCENT_KEYS"),
        "error": words("ASTREFERR_KEYS"),
        "motion": words("ASTREFPROP_KEYS"),
        "mag": word("ASTREFMAG_KEY"),
        "epoch": word("ASTREFOBSDATE_KEY"),
        "fixed_epoch": chosen.number("ASTREF_EPOCH"),
        "no_error_arcsec": chosen.number("ASTREF_ERROR"),
    }


def _told(found: Solved, written: int) -> int:
    from spicad.reduction.astrometrix import products

    for warning in found.warnings:
        _say(f"WARNING: {warning}")
    for row in products.metrics(found)["cameras"]:
        _say(f"{row['camera']}: {row['exposures']} exposures, {row['ccds']} CCDs, degree {row['degree']}")
    if found.problem is not None:
        internal, external = products.overall(found)
        _say(f'rms of bright stars: {internal[0]:.4f}" {internal[1]:.4f}" among exposures, '
             f'{external[0]:.4f}" {external[1]:.4f}" against the reference')  # fmt: skip
    for each in found.refused:
        print(f"error: {each.exposure}: {each.name}: {each.why}", file=sys.stderr)
    _say(f"{products.verdict_words(found)} {written} .head files written.")
    return SOME_REFUSED if found.refused or not written else SOLVED


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    raise SystemExit(main())
