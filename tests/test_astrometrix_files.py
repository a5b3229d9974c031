"""LDAC catalogues and .head files: what is written is what astropy reads, and what was read is what is written.

Solving is tested in test_astrometrix.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from spicad.fits import FitsProblem
from spicad.reduction import heads, ldac
from spicad.reduction.heads import Card, Head
from spicad.reduction.tangent import NoWcs, Tangent, deprojected, middle_of, projected, tangent_of
from spicad.words import BadInput

CARDS = tuple(
    text.ljust(80).encode()
    for text in ("SIMPLE  =                    T", "NAXIS1  =                 2112", "NAXIS2  =                 4644")
)
TPV = Tangent(
    (359.9, 88.0),
    (1500.5, -200.25),
    np.array([[-5.1e-5, 2e-7], [3e-7, 5.2e-5]]),
    (
        {0: 1e-5, 1: 1.001, 2: -1e-4, 4: 0.02, 5: 0.01, 7: -0.3, 10: 0.1},
        {0: 2e-5, 1: 0.999, 6: 0.03, 8: 0.2, 11: 0.1},
    ),
)


def catalogue(rows: int = 5) -> ldac.CcdCatalogue:
    table = np.zeros(rows, [("NUMBER", "i4"), ("XWIN_IMAGE", "f8"), ("FLUX_APER", "f4", (3,)), ("FLAGS", "i2")])
    table["NUMBER"], table["XWIN_IMAGE"] = np.arange(rows), np.arange(rows) * 1.25
    table["FLUX_APER"] = np.arange(rows)[:, None] + [0.5, 1.5, 2.5]
    return ldac.CcdCatalogue(CARDS, table, {"XWIN_IMAGE": "pixel"})


def test_a_written_catalogue_is_read_back_as_it_was(tmp_path):
    given = [catalogue(5), catalogue(0)]

    ldac.write(tmp_path / "a.cat", given)
    found = ldac.read(tmp_path / "a.cat")

    assert [each.cards for each in found] == [CARDS, CARDS]
    assert [each.size for each in found] == [(2112, 4644)] * 2
    assert found[0].units == {"XWIN_IMAGE": "pixel"}
    for one, other in zip(found, given, strict=True):
        np.testing.assert_array_equal(one.table, other.table)


def test_astropy_reads_a_written_catalogue(tmp_path):
    ldac.write(tmp_path / "a.cat", [catalogue(5)])

    with fits.open(tmp_path / "a.cat") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "LDAC_IMHEAD", "LDAC_OBJECTS"]
        assert hdus[2].data["FLUX_APER"][2].tolist() == [2.5, 3.5, 4.5]
        assert hdus[2].columns["XWIN_IMAGE"].unit == "pixel"


def test_a_ccd_without_a_size_is_as_large_as_its_sources_tell():
    plain = dataclasses.replace(catalogue(5), cards=())
    nothing = dataclasses.replace(plain, table=plain.table.copy())
    nothing.table["XWIN_IMAGE"] = np.nan

    assert plain.size == (6, 1)
    assert nothing.size == (1, 1)


def test_only_the_columns_asked_for_are_read(tmp_path):
    ldac.write(tmp_path / "a.cat", [catalogue()])

    (found,) = ldac.read(tmp_path / "a.cat", ["NUMBER", "FLAGS", "ABSENT"])

    assert found.table.dtype.names == ("NUMBER", "FLAGS")


def test_a_catalogue_cut_short_is_refused(tmp_path):
    ldac.write(tmp_path / "a.cat", [catalogue(400)])
    whole = (tmp_path / "a.cat").read_bytes()
    (tmp_path / "b.cat").write_bytes(whole[: len(whole) - 2880])

    with pytest.raises(FitsProblem, match="ends within the data"):
        ldac.read(tmp_path / "b.cat")


def test_a_plain_image_is_no_catalogue(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.zeros((4, 4)))

    with pytest.raises(FitsProblem, match="no LDAC table"):
        ldac.read(tmp_path / "a.fits")


def test_a_head_is_written_as_fits_cards_that_astropy_understands(tmp_path):
    heads.write(tmp_path / "a.head", [Head((Card("HISTORY", "made in a test"), *heads.wcs_cards(TPV)))] * 2)
    x, y = np.random.default_rng(1).uniform(1, 2000, (2, 200))

    found = heads.read(tmp_path / "a.head")
    lines = (tmp_path / "a.head").read_text().split("END     \n")[0].splitlines()
    wcs = WCS(fits.Header.fromstring("".join(line.ljust(80) for line in lines)))
    ra, dec = found[0].tangent.sky(x, y)
    wanted = wcs.all_pix2world(np.column_stack([x, y]), 1)

    assert len(found) == 2
    assert np.abs((ra - wanted[:, 0] + 180) % 360 - 180).max() * 3600 < 1e-5
    assert np.abs(dec - wanted[:, 1]).max() * 3600 < 1e-6


def test_a_head_keeps_its_cards_and_takes_new_ones(tmp_path):
    given = Head((Card("COMMENT", "a / b"), Card("FLXSCALE", 1.5, "flux scale"), Card("ASTINST", 1, "label")))
    heads.write(tmp_path / "a.head", [given])

    (found,) = heads.read(tmp_path / "a.head")
    changed = found.with_cards([Card("FLXSCALE", 2.0, "flux scale"), Card("PHOTLINK", True, "linked?")])

    assert found == given
    assert [(card.key, card.value) for card in changed.cards[1:]] == [
        ("FLXSCALE", 2.0),
        ("ASTINST", 1),
        ("PHOTLINK", True),
    ]


def test_a_head_cut_short_is_refused(tmp_path):
    (tmp_path / "a.head").write_text("CRVAL1  = 1.0\nEND\nCRVAL1  = 2.0\n")

    with pytest.raises(BadInput, match="no END"):
        heads.read(tmp_path / "a.head")


@pytest.mark.parametrize("centre", [(0.0, 0.0), (359.99, 89.5), (150.0, -60.0)])
def test_the_tangent_plane_leads_to_the_sky_and_back(centre):
    xi, eta = np.random.default_rng(2).uniform(-1, 1, (2, 100))

    back = projected(centre, *deprojected(centre, xi, eta))

    np.testing.assert_allclose(back, (xi, eta), atol=1e-10)


def test_pixels_are_found_again_through_the_polynomial():
    x, y = np.random.default_rng(3).uniform(1, 2000, (2, 100))

    back = TPV.pixels(*TPV.sky(x, y))

    np.testing.assert_allclose(back, (x, y), atol=1e-5)


def test_the_middle_of_places_across_0h_is_there():
    ra, dec = middle_of(np.array([359.9, 0.1]), np.array([1.0, 1.0]))

    assert min(ra, 360 - ra) < 1e-9
    assert abs(dec - 1.0) < 1e-5


def test_a_header_without_wcs_says_so():
    with pytest.raises(NoWcs, match="no WCS"):
        tangent_of({"NAXIS1": 100})
