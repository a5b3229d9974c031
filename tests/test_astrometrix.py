"""Astrometrix: rough headers are mended, impossible cases are refused by name, and true stars lie where they should.

Catalogues are made from the made sky's truth; figures beside SCAMP's are in benchmarks/astrometrix.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from made_catalogues import MadeSet, Rough, make, miss_of_true_stars, write_csv_reference

from spicad.reduction import heads, ldac, references
from spicad.reduction.astrometrix import fit, products
from spicad.reduction.astrometrix.__main__ import main
from spicad.reduction.astrometrix.settings import ASTROMETRIX, KEYWORDS
from spicad.reduction.astrometrix.verdict import FAILURES
from spicad.reduction.keywords import read_orders
from spicad.reduction.sky_options import SkyOptions
from spicad.words import BadInput

ROOT = Path(__file__).parent.parent
SKY = SkyOptions(exposures=2, ccds=4, size=720, scale=0.4, stars=110, filters=("r",), seed=4)
QUICK = ("-WRITE_PLOTS", "N", "-RESIDUALS_NAME", "NONE")
ROUGH = {
    "moved 2 arcmin": Rough(east_arcmin=1.4, north_arcmin=-1.4),
    "turned 3 degrees": Rough(angle_deg=2.95),
    "2 % too large": Rough(scale=1.0195),
    "mirrored": Rough(mirrored=True),
    "all at once": Rough(-1.3, 1.3, -2.9, 0.9805, True),
}


def run(made: MadeSet, folder: Path, *words: str) -> tuple[int, dict]:
    """Exit status, and the figures."""
    status = main(
        [*map(str, made.catalogues), "-ASTREFCAT_NAME", str(made.reference), "-OUTPUT_DIR", str(folder), *words]
    )
    return status, json.loads((folder / "astrometrix.json").read_text())


def misses(made: MadeSet, folder: Path) -> np.ndarray:
    """arcsec, of all true stars of all exposures."""
    parts = []
    for exposure, path in zip(made.truth.exposures, made.catalogues, strict=True):
        tangents = [head.tangent for head in heads.read(folder / f"{path.stem}.head")]
        parts.append(miss_of_true_stars(made, exposure, tangents))
    return np.concatenate(parts)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sky"), SKY)


@pytest.fixture(scope="module")
def solved(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("solved")
    status, told = run(made, folder)
    assert status == 0
    return folder, told


# What is solved


def test_true_stars_lie_where_the_head_says(made, solved):
    folder, _ = solved

    assert rms(misses(made, folder)) < 0.02


@pytest.mark.slow
def test_with_a_perfect_catalogue_bright_stars_are_good_to_three_hundredths_of_a_pixel(tmp_path):
    made = make(tmp_path / "sky", SKY, reference_error=0.0)

    run(made, tmp_path, *QUICK)

    assert rms(misses(made, tmp_path)) < 0.03 * SKY.scale


@pytest.mark.slow
@pytest.mark.parametrize("how", ROUGH)
def test_a_rough_header_within_the_limits_is_solved(how, tmp_path):
    made = make(tmp_path / "sky", SKY, ROUGH[how])

    status, told = run(made, tmp_path, *QUICK)

    assert status == 0
    assert all(("mirrored" in row["match_side"]) == ROUGH[how].mirrored for row in told["exposures"])
    assert all(row["match_sure"] > 6 and row["match_contrast"] > 2 for row in told["exposures"])
    assert rms(misses(made, tmp_path)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("field", [4, 5])
def test_fields_across_0h_and_at_the_pole_are_solved(field, tmp_path):
    made = make(tmp_path / "sky", dataclasses.replace(SKY, fields=field + 1, exposures=1, ccds=1, stars=150))

    status, _ = run(made, tmp_path, *QUICK)

    assert status == 0
    assert rms(misses(made, tmp_path)) < 0.03


@pytest.mark.slow
def test_a_ccd_that_its_header_mirrors_is_found_and_named(tmp_path):
    made = make(tmp_path / "sky", SKY, Rough(ccds=(2,)))

    status, told = run(made, tmp_path, *QUICK)

    assert status == 0
    assert any("ccd02 is" in warning and "mirrored" in warning for warning in told["warnings"])
    assert rms(misses(made, tmp_path)) < 0.02


def test_a_ccd_with_few_stars_takes_the_mean_and_is_flagged(made, tmp_path):
    paths = []
    for path in made.catalogues:
        ccds = ldac.read(path)
        ccds[1] = dataclasses.replace(ccds[1], table=ccds[1].table[:2])
        paths.append(tmp_path / path.name)
        ldac.write(paths[-1], ccds)
    thin = dataclasses.replace(made, catalogues=tuple(paths))

    status, told = run(thin, tmp_path, *QUICK)

    found = heads.read(tmp_path / f"{paths[0].stem}.head")
    assert status == 0
    assert [head.header["ASTBAD"] for head in found] == [False, True, False, False]
    assert any("ccd01" in warning and "takes the mean" in warning for warning in told["warnings"])
    on_mean = miss_of_true_stars(made, made.truth.exposures[0], [head.tangent for head in found])
    assert np.abs(on_mean).max() < 10 * SKY.scale  # CCDs are some pixels off their nominal places


def test_all_ccds_of_an_exposure_share_a_tangent_point_near_its_middle(made, solved):
    for exposure, path in zip(made.truth.exposures, made.catalogues, strict=True):
        crvals = {head.tangent.crval for head in heads.read(solved[0] / f"{path.stem}.head")}

        assert len(crvals) == 1
        ((ra, dec),) = crvals
        assert abs(ra - exposure.ra) < 0.01
        assert abs(dec - exposure.dec) < 0.01


def test_sip_says_the_same_as_tpv(made, solved, tmp_path):
    run(made, tmp_path, *QUICK, "-PROJECTION_TYPE", "SIP")
    x, y = np.random.default_rng(1).uniform(1, 720, (2, 50))

    for path in made.catalogues:
        pairs = zip(
            heads.read(solved[0] / f"{path.stem}.head"), heads.read(tmp_path / f"{path.stem}.head"), strict=True
        )
        for tpv, sip in pairs:
            cards = "".join(str(card).ljust(80) for card in sip.cards if card.key != "HISTORY")
            ra, dec = tpv.tangent.sky(x, y)
            found = WCS(fits.Header.fromstring(cards)).all_pix2world(np.column_stack([x, y]), 1)

            assert np.abs(found - np.column_stack([ra, dec])).max() * 3600 < 1e-3 * SKY.scale * 10


def test_the_same_catalogues_give_the_same_heads(made, solved, tmp_path):
    run(made, tmp_path, *QUICK)

    for path in made.catalogues:
        assert (tmp_path / f"{path.stem}.head").read_bytes() == (solved[0] / f"{path.stem}.head").read_bytes()


# What is refused


def refusals(told: dict) -> dict[str, str]:
    return {each["exposure"]: each["name"] for each in told["blamed"]}


def test_no_overlap_with_the_catalogue_is_named(made, tmp_path):
    away = make(tmp_path / "sky", dataclasses.replace(SKY, fields=2))
    elsewhere = dataclasses.replace(made, reference=away.reference)
    stars = references.read(away.reference)
    far = np.column_stack([stars.ra + 3.0, stars.dec])
    (tmp_path / "far.csv").write_text("ra,dec\n" + "\n".join(f"{ra:.6f},{dec:.6f}" for ra, dec in far))
    elsewhere = dataclasses.replace(made, reference=tmp_path / "far.csv")

    status, told = run(elsewhere, tmp_path, *QUICK)

    assert status == 1
    assert set(refusals(told).values()) == {"no overlap with the catalogue"}
    assert list(tmp_path.glob("*.head")) == []


@pytest.mark.slow
def test_a_wrong_field_is_named(made, tmp_path):
    stars = references.read(made.reference)
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(stars.ra.min(), stars.ra.max(), 300), rng.uniform(stars.dec.min(), stars.dec.max(), 300)
    (tmp_path / "other.csv").write_text(
        "ra,dec\n" + "\n".join(f"{a:.6f},{d:.6f}" for a, d in zip(ra, dec, strict=True))
    )

    status, told = run(dataclasses.replace(made, reference=tmp_path / "other.csv"), tmp_path, *QUICK)

    assert status == 1
    assert set(refusals(told).values()) == {"wrong field"}
    assert not told["converged"]
    assert list(tmp_path.glob("*.head")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rough", "name"),
    [(Rough(scale=1.3), "wrong scale"), (Rough(angle_deg=25), "wrong angle"), (Rough(4.5, 4.5), "wrong pointing")],
)
def test_what_lies_beyond_the_limits_is_refused_and_measured(rough, name, tmp_path):
    made = make(tmp_path / "sky", dataclasses.replace(SKY, exposures=1), rough)

    status, told = run(made, tmp_path, *QUICK)

    assert status == 1
    assert set(refusals(told).values()) == {name}
    assert list(tmp_path.glob("*.head")) == []


def test_too_few_stars_are_named_and_the_other_exposure_is_solved(made, tmp_path):
    ccds = ldac.read(made.catalogues[1])
    poor = tmp_path / made.catalogues[1].name
    ldac.write(poor, [dataclasses.replace(ccd, table=ccd.table[:1]) for ccd in ccds])

    status, told = run(dataclasses.replace(made, catalogues=(made.catalogues[0], poor)), tmp_path, *QUICK)

    assert status == 1
    assert refusals(told) == {poor.stem: "too few stars"}
    assert [path.stem for path in tmp_path.glob("*.head")] == [made.catalogues[0].stem]


@pytest.mark.slow
def test_a_single_bad_ccd_is_named(made, tmp_path):
    ccds = ldac.read(made.catalogues[0])
    table = ccds[3].table.copy()
    rng = np.random.default_rng(5)
    table["XWIN_IMAGE"], table["YWIN_IMAGE"] = rng.uniform(1, 720, (2, len(table)))
    bad = tmp_path / made.catalogues[0].name
    ldac.write(bad, [*ccds[:3], dataclasses.replace(ccds[3], table=table)])

    status, told = run(dataclasses.replace(made, catalogues=(bad, made.catalogues[1])), tmp_path, *QUICK)

    assert status == 1
    assert refusals(told) == {bad.stem: "bad CCD"}
    assert "ccd03" in told["blamed"][0]["why"]
    assert [path.stem for path in tmp_path.glob("*.head")] == [made.catalogues[1].stem]


def test_a_head_of_an_earlier_run_does_not_outlive_a_refusal(made, tmp_path):
    old = tmp_path / f"{made.catalogues[0].stem}.head"
    old.write_text("CRVAL1  = 1.0\nEND\n")
    (tmp_path / "far.csv").write_text("ra,dec\n1,1\n1.1,1\n1,1.2\n1.3,1.1\n1.4,1.0\n1.2,1.3\n")

    run(dataclasses.replace(made, reference=tmp_path / "far.csv"), tmp_path, *QUICK)

    assert not old.exists()


def test_an_unreadable_catalogue_is_refused_alone(made, tmp_path):
    cut = tmp_path / "cut.cat"
    cut.write_bytes(made.catalogues[0].read_bytes()[:20000])

    status, told = run(dataclasses.replace(made, catalogues=(*made.catalogues, cut)), tmp_path, *QUICK)

    assert status == 1
    assert refusals(told) == {"cut": "unreadable"}
    assert len(list(tmp_path.glob("*.head"))) == 2


# What is told


def test_the_figures_stand_in_json_and_votable(solved):
    folder, told = solved
    root = ElementTree.fromstring((folder / "astrometrix.xml").read_text())
    names = [table.get("ID") for table in root.iter("{http://www.ivoa.net/xml/VOTable/v1.3}TABLE")]

    assert told["converged"]
    assert names == ["Exposures", "Cameras", "Ccds"]
    assert len(told["exposures"]) == 2
    assert len(told["ccds"]) == 8
    assert all(0.005 < value < 0.03 for row in told["exposures"] for value in row["rms_internal_arcsec"])
    assert all(0.01 < value < 0.08 for row in told["exposures"] for value in row["rms_reference_arcsec"])
    assert all(0 < row["uncertainty"] < 0.02 for row in told["ccds"])


def test_residuals_are_a_table_and_plots_are_drawn(solved):
    folder, _ = solved

    with fits.open(folder / "astrometrix.residuals.fits") as hdus:
        table = hdus["RESIDUALS"].data
        used = table[table["USED"] & np.isfinite(table["DEAST_REF"])]
    assert len(used) > 200
    assert np.sqrt(np.mean(used["DEAST_REF"] ** 2)) < 0.08
    assert {path.name.split("-")[-1] for path in folder.glob("*.svg")} == {
        "residuals.svg",
        "magnitude.svg",
        "scale.svg",
        "distortion.svg",
    }
    assert all(ElementTree.parse(path) for path in folder.glob("*.svg"))


@pytest.mark.slow
def test_the_command_lists_its_keywords_and_refuses_others(tmp_path):
    command = [sys.executable, str(ROOT / "bin/astrometrix")]

    listed = subprocess.run([*command, "-dd"], capture_output=True, text=True, check=True)
    refused = subprocess.run([*command, "a.cat", "-CROSSID_RADUS", "2"], capture_output=True, text=True, cwd=tmp_path)

    (tmp_path / "a.conf").write_text(listed.stdout)
    read, plain = (
        read_orders(ASTROMETRIX, ["a.cat", "-c", str(tmp_path / "a.conf")]),
        read_orders(ASTROMETRIX, ["a.cat"]),
    )
    assert read == plain
    assert read is not None
    assert refused.returncode == 2
    assert 'Did you mean "CROSSID_RADIUS"?' in refused.stderr


def test_a_wrong_value_names_its_line(tmp_path):
    (tmp_path / "a.conf").write_text("# mine\nDISTORT_DEGREE 9\nMATCH_FLIPPED maybe\n")

    with pytest.raises(BadInput) as caught:
        read_orders(ASTROMETRIX, ["a.cat", "-c", str(tmp_path / "a.conf")])

    assert sorted(problem.line for problem in caught.value.problems) == [2, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-HEADER_SUFFIX", ".cat"), "this is a FITS file, and a .head file would replace it."),
        (("-HEADER_SUFFIX", ""), "HEADER_SUFFIX is empty."),
        (("-XML_NAME", ""), "XML_NAME is empty."),
        (("-CENTROID_KEYS", "XWIN_IMAGE"), "CENTROID_KEYS is XWIN_IMAGE but needs 2 items"),
        (("-ASTREFCAT_NAME", "nowhere.cat"), "nowhere.cat: cannot be read"),
        (("-ASTREFMAG_KEY", "NOSUCH"), "has no column NOSUCH. It has "),
        (("-ASTREFOBSDATE_KEY", "NOSUCH"), "has no column NOSUCH. It has "),
        (("-OUTPUT_DIR", "/dev/null/x"), "/dev/null/x: Not a directory."),
        (("{catalogue}",), "two catalogues have this name"),
    ],
)
def test_a_wrong_wish_is_named_and_nothing_is_touched(options, words, made, tmp_path, capsys):
    catalogue = tmp_path / "a.cat"
    catalogue.write_bytes(made.catalogues[0].read_bytes())
    (tmp_path / "a.head").write_text("CRVAL1  = 1.0\nEND\n")
    before = catalogue.read_bytes()

    status = main(
        [str(catalogue), "-ASTREFCAT_NAME", str(made.reference), *(o.format(catalogue=catalogue) for o in options)]
    )

    assert status == 2
    assert words in capsys.readouterr().err
    assert catalogue.read_bytes() == before


def test_columns_of_several_numbers_are_refused_by_name(made, tmp_path):
    catalogue = tmp_path / "vectors.cat"
    ccds = []
    for ccd in ldac.read(made.catalogues[0]):
        wide = np.empty(
            len(ccd.table), [*((n, ccd.table.dtype[n]) for n in ccd.table.dtype.names), ("APER", "f4", (3,))]
        )
        for name in ccd.table.dtype.names:
            wide[name] = ccd.table[name]
        wide["APER"] = 1
        ccds.append(dataclasses.replace(ccd, table=wide))
    ldac.write(catalogue, ccds)

    status, told = run(dataclasses.replace(made, catalogues=(catalogue,)), tmp_path, *QUICK, "-PHOTFLUX_KEY", "APER")

    assert status == 1
    assert refusals(told) == {"vectors": "unreadable"}
    assert "column APER is not one number for each source. Name another" in told["blamed"][0]["why"]


def test_a_catalogue_without_errors_is_solved_and_said_to_be_guessed(made, tmp_path):
    status, told = run(made, tmp_path, *QUICK, "-CENTROIDERR_KEYS", "ERRX,ERRY")

    assert status == 0
    names = ", ".join(path.stem for path in made.catalogues)
    assert f"{names}: no column of CENTROIDERR_KEYS: errors are guessed from FWHM and S/N." in told["warnings"]


def test_equations_without_a_solution_refuse_by_name(made, tmp_path, monkeypatch):
    def singular(matrix, lower):
        raise np.linalg.LinAlgError("leading minor")

    monkeypatch.setattr(fit, "cho_factor", singular)

    status, told = run(made, tmp_path, *QUICK)

    assert status == 1
    assert set(refusals(told).values()) == {"not converged"}
    assert not list(tmp_path.glob("*.head"))


def test_when_one_head_cannot_be_made_none_is_written(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(products, "SIP_WORST_PIXELS", -1.0)
    words = ["-ASTREFCAT_NAME", str(made.reference), "-OUTPUT_DIR", str(tmp_path), *QUICK, "-PROJECTION_TYPE", "SIP"]

    status = main([*map(str, made.catalogues), *words])

    assert status == 1
    assert "use PROJECTION_TYPE TPV" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.head"))


def test_what_cannot_be_written_after_solving_is_named(made, tmp_path, capsys):
    words = ["-ASTREFCAT_NAME", str(made.reference), "-OUTPUT_DIR", str(tmp_path), *QUICK, "-METRICS_NAME", "no/m.json"]

    status = main([str(made.catalogues[0]), *words])

    assert status == 1
    assert "No such file or directory" in capsys.readouterr().err


# Reference catalogues


def test_a_table_of_gaias_archive_serves_as_reference(made, tmp_path):
    write_csv_reference(made, tmp_path / "gaia.csv")

    found = references.read(tmp_path / "gaia.csv")
    wanted = references.read(made.reference)

    np.testing.assert_allclose(found.ra, wanted.ra)
    np.testing.assert_allclose(found.error, wanted.error, rtol=1e-5)
    assert set(found.epoch) == {2016.0}


def test_proper_motions_take_stars_to_the_epoch(tmp_path):
    (tmp_path / "a.csv").write_text("ra,dec,pmra,pmdec,ref_epoch,ra_error,dec_error\n10,60,1000,-500,2016,0.1,0.1\n")

    star = references.read(tmp_path / "a.csv").at(2006.0)

    assert abs((star.ra[0] - 10) * 3600 * np.cos(np.radians(60)) + 10) < 1e-6
    assert abs((star.dec[0] - 60) * 3600 - 5) < 1e-6


def test_a_votable_of_2mass_is_understood(tmp_path):
    from astropy.table import Table

    table = Table({"RAJ2000": [10.0, 11.0], "DEJ2000": [1.0, 2.0], "errMaj": [0.1, 0.2], "errMin": [0.1, 0.1]})
    table["Jmag"] = [12.0, 13.0]
    table.write(tmp_path / "2mass.vot", format="votable")

    found = references.read(tmp_path / "2mass.vot")

    assert found.mag.tolist() == [12.0, 13.0]
    np.testing.assert_allclose(found.error, [0.1, np.sqrt(0.025)])
    assert set(found.epoch) == {2000.0}


def test_a_catalogue_without_positions_says_which_columns_it_looked_for(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")

    with pytest.raises(BadInput, match="ASTREFCENT_KEYS"):
        references.read(tmp_path / "a.csv")


# The manual


def test_the_manual_tells_every_keyword_with_its_default():
    text = (ROOT / "man/astrometrix.1").read_text()

    told = dict(re.findall(r"^\.It Ic (\w+) Ns \\ =(.*)$", text, re.MULTILINE))

    assert told == {keyword.name: keyword.default for keyword in KEYWORDS}


def test_the_manual_tells_every_failure():
    text = " ".join((ROOT / "man/astrometrix.1").read_text().split())

    assert [name for name in FAILURES if name not in text] == []


def test_the_command_answers_without_numpy():
    program = "import sys; from spicad.reduction.astrometrix.__main__ import main; main(['-dd']);"

    done = subprocess.run(
        [sys.executable, "-c", program + "print('numpy' in sys.modules)"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.splitlines()[-1] == "False"


def test_other_columns_of_a_reference_belong_to_the_stars_that_have_a_position(tmp_path):
    (tmp_path / "mine.csv").write_text("ra,dec,V,B\n10,1,15.5,16\n,2,16.5,17\n12,3,17.5,18\n")

    stars, columns = references.read_with(tmp_path / "mine.csv", ["V", "B"])

    assert stars.ra.tolist() == [10, 12]
    assert {name: values.tolist() for name, values in columns.items()} == {"V": [15.5, 17.5], "B": [16, 18]}
