"""Adding an instrument is one file; what is wrong in such a file is named with its line and the mend.

How headers are read with them is in test_exposure_headers.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from broken import WCS as WCS_KEYS
from broken import card, exposure, header, primary
from test_commands import spica
from test_exposure_headers import mosaic
from test_fits import written
from test_manual import ROOT, displays, page, told

from spicad.archive.headers import Exposure, read_exposure
from spicad.archive.instruments import (
    FIELDS,
    FILTER_KEYS,
    INSTRUMENT_KEYS,
    UNITS,
    ZEROS,
    Instruments,
    ahead_text,
    instruments_in,
    load_instruments,
    parse_instrument,
    shipped,
)
from spicad.words import BadInput

BARE = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
SAINT_JOHN = card("DAY", "2003-12-27")
START = 'title = "T"\nsummary = "S"\n[[recognise]]\nINSTRUME = "T"\n'
OMEGACAM = displays(page("spica-instrument.5"))[0]


def with_one_more(folder: Path, text: str, name: str = "omegacam") -> Instruments:
    """The shipped instruments and one file."""
    for path in (ROOT / "etc/instruments").glob("*.toml"):
        (folder / path.name).write_text(path.read_text())
    (folder / f"{name}.toml").write_text(text)
    return load_instruments(folder)


def read(folder: Path, instruments: Instruments, *cards: bytes) -> Exposure:
    return read_exposure(written(folder, header(BARE, *cards) + mosaic(BARE, EXTNAME=None)[2880:]), instruments)


def hierarch(name: str, value: object) -> bytes:
    return f"HIERARCH {name} = {value!r}".encode()


def test_adding_an_instrument_is_one_file(tmp_path: Path) -> None:
    cards = (
        card("INSTRUME", "OMEGACAM"),
        hierarch("ESO INS FILT1 NAME", "r_SDSS"),
        hierarch("ESO OBS PROG ID", "177.A-3011(A)"),
        hierarch("ESO DPR TYPE", "OBJECT"),
        hierarch("ESO TEL AIRM START", 1.25),
        card("EXPTIME", 360.0),
        card("MJD-OBS", 55900.25),
        card("OBJECT", "KIDS_1.0"),
    )

    found = read(tmp_path, with_one_more(tmp_path, OMEGACAM), *cards)

    assert (found.known_as, found.instrument, found.telescope) == ("omegacam", "OmegaCAM", "VST")
    assert (found.filter, found.runid, found.object, found.kind) == ("r", "177.A-3011(A)", "KIDS_1.0", "science")
    assert (found.t_exptime, found.airmass, found.mjd) == (360.0, 1.25, 55900.25)
    assert (found.em_min, found.em_max) == (pytest.approx(550e-9), pytest.approx(700e-9))


def test_what_no_file_recognises_is_the_generic_ones(tmp_path: Path) -> None:
    found = read(tmp_path, shipped(), card("INSTRUME", "NOBODY'S"), card("FILTER", "V"))

    assert (found.known_as, found.instrument, found.filter) == ("generic", "NOBODY'S", "V")


DECAM = (card("INSTRUME", "DECam"), card("FILTER", "g DECam SDSS c0001 4720.0 1520.0"), card("OBSTYPE", "object"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("c4d_181214_050844_ooi_g_ls9", "science"), ("c4d_181214_050844_oow_g_ls9", "weight"),
     ("c4d_181214_050844_ood_g_ls9", "flag"), ("DECam_00802955", "science")],
)  # fmt: skip
def test_the_maps_of_decam_are_known_by_their_names_alone(tmp_path: Path, name: str, kind: str) -> None:
    raw = header(BARE, *DECAM) + mosaic(BARE, EXTNAME=None)[2880:]

    found = read_exposure(written(tmp_path, raw, f"{name}.fits.fz"), shipped())

    assert (found.known_as, found.instrument, found.filter, found.kind) == ("decam", "DECam", "g", kind)


def test_a_map_and_its_exposure_have_each_others_names() -> None:
    decam = shipped().named("decam")

    assert decam.companion("c4d_1_2_oow_g_v1") == ("c4d_1_2_ooi_g_v1", "weight")
    assert decam.companion("c4d_1_2_ooi_g_v1") == shipped().companion("1p") == ("", "")
    assert decam.map_of("c4d_1_2_ooi_g_v1", "flag") == "c4d_1_2_ood_g_v1"
    assert decam.map_of("c4d_1_2_ooi_g_v1", "mask") == decam.map_of("1p", "weight") == ""
    assert shipped().named("nobody's") is shipped().generic


def test_names_of_maps_must_share_what_the_exposures_name_has(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match='"weight" must have as many'):
        with_one_more(tmp_path, OMEGACAM + '[companions]\nexposure = "a_*_i_*"\nweight = "a_*_w"\n')


def test_the_file_that_recognises_most_has_it(tmp_path: Path) -> None:
    raw = read(tmp_path, shipped(), card("DETECTOR", "MegaCam"), card("FILTER", "i.MP9702"))
    elixir = read(
        tmp_path, shipped(), card("DETECTOR", "MegaCam"), card("CRUNID", "13Am03"), card("FILTER", "i.MP9701")
    )

    assert (raw.known_as, elixir.known_as) == ("megacam-raw", "megacam")
    assert (elixir.instrument, elixir.filter) == ("MegaCam", "i")
    assert (raw.instrument, raw.filter) == ("MegaCam", "i.MP9702")  # another glass: not to be gathered with i.MP9701


@pytest.mark.parametrize(
    ("lines", "cards", "field", "expected"),
    [
        ('[cards]\nt_exptime = "TINT"\n[units]\nt_exptime = "ms"', [card("TINT", 1500)], "t_exptime", 1.5),
        ('[cards]\nmjd = "JD"\n[units]\nmjd = "jd"', [card("JD", 2453000.75)], "mjd", 53000.25),
        ('[cards]\nmjd = "CTIME"\n[units]\nmjd = "unix"', [card("CTIME", 86400)], "mjd", 40588.0),
        ('[cards]\nseeing = "FWHM"\n[units]\nseeing = "deg"', [card("FWHM", 0.00025)], "seeing", 0.9),
        ('[cards]\nobject = ["A", "B"]', [card("B", "second")], "object", "second"),
        ('[cards]\n[otherwise]\ngain = 2.5', [], "gain", 2.5),
        ('[cards]\ndate = "DAY"\ntime = "UT"', [SAINT_JOHN, card("UT", "06:00:00")], "mjd", 53000.25),
        ('[cards]\ndate = "DAY"\ntime = "UT"', [SAINT_JOHN, card("UT", "8:45:29.17")], "mjd", 53000.36492),
        ('[cards]\nkind = "MODE"\n[types]\ndark = "*shut*"', [card("MODE", "SHUTTERED")], "kind", "dark"),
        ('[cards]\nkind = "MODE"', [card("MODE", "PLAY")], "kind", "other"),
    ],
)  # fmt: skip
def test_units_fallbacks_literals_and_words(tmp_path: Path, lines: str, cards: list, field: str, expected) -> None:
    text = START + lines

    found = read(tmp_path, with_one_more(tmp_path, text), card("INSTRUME", "T"), *cards)

    assert getattr(found, field) == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(
    ("ra", "dec", "units", "place"),
    [
        (card("RA", "10:00:00.0"), card("DEC", "-02:30:00"), "", (150.0, -2.5)),
        (card("RA", 10.0), card("DEC", -2.5), 'ra = "h"', (150.0, -2.5)),
        (card("RA", "150:30:00"), card("DEC", "-00:30:00"), 'ra = "deg"', (150.5, -0.5)),
        (card("RA", 1.5707963267948966), card("DEC", 0.0), 'ra = "rad"', (90.0, 0.0)),
    ],
)
def test_a_pointing_in_degrees_hours_or_sexagesimal(
    tmp_path: Path, ra: bytes, dec: bytes, units: str, place: tuple
) -> None:
    text = (
        f'title = "T"\nsummary = "S"\n[[recognise]]\nINSTRUME = "T"\n[cards]\nra = "RA"\ndec = "DEC"\n[units]\n{units}'
    )
    raw = header(BARE, card("INSTRUME", "T"), ra, dec) + mosaic(BARE, **dict.fromkeys(WCS_KEYS))[2880:]

    found = read_exposure(written(tmp_path, raw), with_one_more(tmp_path, text))

    assert (found.s_ra, found.s_dec) == pytest.approx(place)


def test_a_ccd_without_extname_is_called_by_the_instruments_card(tmp_path: Path) -> None:
    raw = header(primary()) + exposure(EXTNAME=None, DETECTOR="chip 7")[2880:]

    assert [ccd.name for ccd in read_exposure(written(tmp_path, raw), shipped()).ccds] == ["chip 7"] * 2


@pytest.mark.parametrize("kind", ["weight", "flag", "mask"])
def test_a_companion_says_by_its_name_what_it_is(tmp_path: Path, kind: str) -> None:
    found = read_exposure(written(tmp_path, exposure(), f"900001p.{kind}.fits.fz"), shipped())

    assert found.kind == kind


def test_scamp_is_given_what_the_catalogues_lack(tmp_path: Path) -> None:
    cards = (card("DETECTOR", "MegaCam"), card("CRUNID", "13Am03"), card("RUNID", "13AP05"), card("FILTER", "r.MP9601"))

    found = read(tmp_path, shipped(), *cards)

    assert found.ahead == "QRUNID  = '13AP05  '\nFILTER  = 'r       '\nEND     \n" * 2
    assert ahead_text(shipped().generic, lambda name: "", 2) == ""


WRONG = [
    ('title = "T"\nsummary = "S"\n[card]\n', "line 3", 'unknown key "card"', 'Did you mean "cards"?'),
    ('title = "T"\nsummary = "S"\n[cards]\nfiltre = "FILTER"\n', "line 4", "filtre", 'Did you mean "filter"?'),
    ('title = "T"\nsummary = "S"\n[cards]\nfilter = "filter"\n', "line 4", "no name of a FITS card", '"FILTER"?'),
    ('title = "T"\nsummary = "S"\n[cards]\nfilter = "NINELETTERS"\n', "line 4", "NINELETTERS", "Eight capitals"),
    ('title = "T"\nsummary = "S"\n[cards]\n[units]\nra = "hours"\n', "line 5", '"hours"', "deg, h, rad"),
    ('title = "T"\nsummary = "S"\n[cards]\n[otherwise]\ngain = "1"\n', "line 5", "must be a number", "gain"),
    ('title = "T"\nsummary = "S"\n[cards]\n[otherwise]\nkind = "scince"\n', "line 5", "must be one of", '"science"?'),
    ('title = "T"\nsummary = "S"\n[cards]\n[types]\nsky = "x"\n', "line 5", 'unknown key "sky"', "science"),
    ('title = "T"\nsummary = "S"\n[cards]\n[filters.r]\nfrom_nm = 700\nto_nm = 600\n', "line 4", "smaller first", ""),
    ('title = "T"\nsummary = "S"\n[cards]\n[[recognise]]\nINSTRUME = 3\n', "line 5", "must be a text or list", ""),
    ('title = "T"\nsummary = "S"\n[cards]\n[ahead]\nQRUNID = "{run}"\n', "line 5", "{run}", '"runid"?'),
]


@pytest.mark.parametrize(("text", "line", "what", "mend"), WRONG, ids=lambda each: each[-20:])
def test_what_is_wrong_is_named_with_its_line_and_the_mend(text: str, line: str, what: str, mend: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_instrument(text, "t.toml", "t")

    said = str(refusal.value)
    assert [part for part in (f"t.toml, {line}:", what, mend) if part not in said] == [], said


def test_there_is_exactly_one_file_for_what_no_other_recognises(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exactly one instrument"):
        with_one_more(tmp_path, 'title = "T"\nsummary = "S"\n[cards]\n')


def test_without_a_folder_of_instruments_those_that_came_with_spica_are_used(tmp_path: Path) -> None:
    assert instruments_in(tmp_path / "nowhere") is shipped()


def test_the_manual_tells_every_key_field_and_unit() -> None:
    text = page("spica-instrument.5")

    assert {key.name for key in (*INSTRUMENT_KEYS, *FILTER_KEYS)} | set(FIELDS) <= told(text)
    assert told(text) <= {key.name for key in (*INSTRUMENT_KEYS, *FILTER_KEYS)} | set(FIELDS)
    units = {unit for each in UNITS.values() for unit in each if unit != "day"} | set(ZEROS)
    assert [unit for unit in units if f".Ql {unit}" not in text] == []


def test_spica_headers_shows_values_cards_what_lacks_and_what_the_archive_thinks(tmp_path: Path) -> None:
    good = written(tmp_path, exposure(primary(RUNID="20A")), "good.fits")
    blind = written(tmp_path, exposure(**dict.fromkeys(WCS_KEYS)), "blind.fits")

    done = spica(tmp_path, "headers", str(good), str(blind))
    as_json = json.loads(spica(tmp_path, "headers", "--json", str(good)).stdout)

    assert done.returncode == 2
    assert "The made sky (made-sky.toml), 2 CCDs of 160 x 128 pixels, TAN, fits" in done.stdout
    assert re.search(r"^t_exptime +40 +EXPTIME +40$", done.stdout, re.M)
    assert re.search(r"^lacks telescope: the telescope's name \(TELESCOP\)$", done.stdout, re.M)
    assert done.stdout.count("the archive refuses it: does not say where it is on the sky") == 1
    assert as_json[0]["archive"] == ""
    assert {"what": "runid", "value": "20AS01", "card": "QRUNID", "raw": "20AS01"} in as_json[0]["known"]


def test_a_night_is_called_by_the_date_of_its_evening_where_the_telescope_stands(tmp_path: Path) -> None:
    """09:45 UTC on 9 April is before midnight in Hawaii; Elixir's exposures are known to be processed."""
    cards = (card("DETECTOR", "MegaCam"), card("CRUNID", "13AQ05"), card("MJD-OBS", 56391.40625))

    seen = read(tmp_path, shipped(), *cards)

    assert (seen.known_as, seen.night, seen.is_processed) == ("megacam", "2013-04-08", True)
