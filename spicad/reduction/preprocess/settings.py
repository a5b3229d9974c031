"""What preprocess can be told: its keywords, with defaults for a camera with one amplifier for each CCD.

Light to import, so that `preprocess -dd` answers at once. What the keywords do is in the other modules.
"""

from __future__ import annotations

from spicad.reduction.keywords import Keyword, Program

CALIBRATIONS = ("BIAS", "DARK", "FLAT", "SKYFLAT", "FRINGE", "MASK")
MASTERS = ("BIAS", "DARK", "FLAT")  # those that it makes

KEYWORDS = (
    Keyword("MAKE", "SCIENCE", "choice", "What is made of the files", choices=("SCIENCE", *MASTERS)),
    Keyword("OUTPUT_DIR", ".", "text", "Folder for what is made"),
    Keyword("MASTER_NAME", "master.fits", "text", "Name of the master frame, in OUTPUT_DIR"),
    Keyword("BIAS_NAME", "", "text", "Master bias"),
    Keyword("DARK_NAME", "", "text", "Master dark"),
    Keyword("FLAT_NAME", "", "text", "Master flat"),
    Keyword("SKYFLAT_NAME", "", "text", "Second flat, of what the first leaves on the sky"),
    Keyword("FRINGE_NAME", "", "text", "Pattern of fringes, ADU"),
    Keyword("MASK_NAME", "", "text", "Map of good pixels: 0 bad, else good"),
    Keyword("CROSSTALK_NAME", "", "text", "Table of crosstalk: source, victim, coefficient"),
    Keyword("NEEDED", "BIAS,FLAT", "list of texts", "Calibrations without which no exposure is made"),
    Keyword(
        "DONE_KEYS", "PREPROC,IMRED_FF,CRUNID", "list of texts", "Cards of exposures that are pre-processed already"
    ),
    Keyword("OVERSCAN_KEYS", "BIASSEC", "list of texts", "Cards of the overscan, one for each amplifier"),
    Keyword("DATA_KEYS", "DATASEC", "list of texts", "Cards of the section with light, one for each amplifier"),
    Keyword("GAIN_KEYS", "GAIN", "list of texts", "Cards of the gain, one for each amplifier, e-/ADU"),
    Keyword("RDNOISE_KEYS", "RDNOISE", "list of texts", "Cards of the read noise, one for each amplifier, e-"),
    Keyword("SATUR_KEY", "SATURATE", "text", "Card of the saturation level, ADU"),
    Keyword("EXPOTIME_KEY", "EXPTIME", "text", "Card of the exposure time, s"),
    Keyword("MAGZERO_KEY", "PHOT_C", "text", "Card of the zero point of pre-processed exposures, mag"),
    Keyword("OVERSCAN_SMOOTH", "31", "integer", "Rows that the overscan is averaged over; 0: all", minimum=0),
    Keyword(
        "CLIP_NSIGMA", "4.0", "number", "Pixels of one frame further off are clipped, sigmas", minimum=1.5, maximum=100
    ),
    Keyword(
        "FLAT_LEVELS", "500,60000", "list of numbers", "Least and largest level of a flat that is used, ADU", count=2
    ),
    Keyword("FLAT_NORM", "MOSAIC", "choice", "What is 1 in a master flat", choices=("MOSAIC", "CCD")),
    Keyword("FLAT_RANGE", "0.4,1.6", "list of numbers", "Response of a good pixel beside its CCD's", count=2),
    Keyword("DARK_MAX", "1.0", "number", "Dark current of a good pixel at most, ADU/s", minimum=0),
    Keyword("COSMIC_RAYS", "Y", "yes or no", "Look for cosmic rays"),
    Keyword("COSMIC_SIGMAS", "4.5", "number", "How far one stands out from its noise", minimum=1, maximum=100),
    Keyword("COSMIC_SHARPNESS", "4.0", "number", "How much sharper than the image around", minimum=0.1, maximum=100),
)

PREPROCESS = Program(
    "preprocess",
    "takes the instrument's signature off raw exposures, and makes master frames",
    "EXPOSURE ... [-c FILE] [-KEYWORD VALUE] ...",
    KEYWORDS,
    "-MAKE BIAS, DARK or FLAT combines the files into a master frame. @FILE names a list of files. See preprocess(1).",
)
