"""What photometrix can be told: its keywords, with the defaults of TERAPIX's program where they are recorded.

Light to import, so that `photometrix -dd` answers at once. What the keywords do is in the other modules.
"""

from __future__ import annotations

from spicad.reduction.keywords import Keyword, Program

KEYWORDS = (
    Keyword("HEADER_SUFFIX", ".head", "text", "Suffix of astrometric headers beside the catalogues, and of those made"),
    Keyword("OUTPUT_DIR", ".", "text", "Folder for what is made"),
    Keyword("CENTROID_KEYS", "XWIN_IMAGE,YWIN_IMAGE", "list of texts", "Columns of positions, pixels", count=2),
    Keyword("PHOTFLUX_KEY", "FLUX_APER(3)", "text", "Column of fluxes, with the number of the aperture"),
    Keyword("PHOTFLUXERR_KEY", "FLUXERR_APER(3)", "text", "Column of their errors"),
    Keyword(
        "APERTURES", "5,10,20", "list of numbers", "Diameters of FLUX_APER, pixels, for the light beyond; none: as is"
    ),
    Keyword("PHOTINSTRU_KEY", "FILTER", "list of texts", "Cards: exposures that differ in them are never compared"),
    Keyword("EXPOTIME_KEY", "EXPTIME", "text", "Card of the exposure time, s"),
    Keyword("MAGZERO_KEY", "PHOT_C", "text", "Card of the nominal zero point, mag for 1 ADU/s"),
    Keyword("AIRMASS_KEY", "AIRMASS", "text", "Card of the airmass"),
    Keyword("EXTINCT_KEY", "PHOT_K", "text", "Card of the extinction, mag to add for each airmass above 1"),
    Keyword("PHOTOMFLAG_KEY", "PHOTFLAG", "text", "Card that says whether the sky was photometric"),
    Keyword("FLAGS_MASK", "252", "integer", "Sources with any of these FLAGS are left out", minimum=0, maximum=65535),
    Keyword("WEIGHTFLAGS_MASK", "255", "integer", "The same for FLAGS_WEIGHT", minimum=0, maximum=65535),
    Keyword("IMAFLAGS_MASK", "0", "integer", "The same for IMAFLAGS_ISO", minimum=0, maximum=2147483647),
    Keyword("SN_THRESHOLD", "20", "number", "Least signal-to-noise of a star, the median of its measures", minimum=1),
    Keyword(
        "CROSSID_RADIUS", "0.5", "number", "Most distance of measures of one star, arcsec", minimum=0.001, maximum=600
    ),
    Keyword(
        "MAG_GATE", "2.0", "number", "Most difference of magnitude of measures of one star", minimum=0.01, maximum=20
    ),
    Keyword(
        "OVERLAP_NMIN", "10", "integer", "Fewest common stars of two exposures that count as overlapping", minimum=3
    ),
    Keyword("CLIP_NSIGMA", "3.0", "number", "Measures further off are clipped, sigmas", minimum=1.5, maximum=100),
    Keyword("ITERATIONS_MAX", "50", "integer", "Most rounds of clipping", minimum=1, maximum=1000),
    Keyword("PHOT_ACCURACY", "0.005", "number", "Added in quadrature to each error, mag", minimum=0.0, maximum=1.0),
    Keyword("CCD_TERMS", "Y", "yes or no", "Solve a term for each CCD over the whole set"),
    Keyword("CCD_MAXERR", "0.02", "number", "A CCD's term with a larger error is not applied, mag", minimum=0.0001),
    Keyword("COLOUR_TERMS", "NONE", "choice", "Colour terms", choices=("NONE", "INSTRUMENT", "CCD")),
    Keyword("SOLVE_AIRMASS", "N", "yes or no", "Find the extinction from the exposures themselves"),
    Keyword("PHOTOMETRIC_TOL", "0.02", "number", "Dimmer than expected by more than this: cloud, mag", minimum=0.001),
    Keyword("ANCHOR", "MEAN", "choice", "What fixes the zero of a group", choices=("MEAN", "PHOTOMETRIC", "REFERENCE")),
    Keyword("MAGZERO_OUT", "0.0", "number", "Zero point of the scaled images, mag", minimum=-50, maximum=50),
    Keyword("REFERENCE_NAME", "", "text", "Catalogue of known magnitudes"),
    Keyword("REFMAG_KEYS", "MAG", "list of texts", "Its column of magnitudes, or FILTER:COLUMN for each filter"),
    Keyword("REFMAGERR_KEY", "MAGERR", "text", "Its column of errors"),
    Keyword("REFCOLOUR_KEYS", "", "list of texts", "Its two columns whose difference is the colour"),
    Keyword("CHECKPLOTS", "Y", "yes or no", "Draw plots"),
)

PHOTOMETRIX = Program(
    "photometrix",
    "sets relative photometry in a set of exposures that overlap",
    "CATALOGUE ... [-c FILE] [-KEYWORD VALUE] ...",
    KEYWORDS,
    "CATALOGUE is SExtractor's LDAC; @FILE names a list of them. See photometrix(1).",
)
