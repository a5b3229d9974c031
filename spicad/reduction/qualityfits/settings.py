"""What qualityfits can be told: its keywords.

Light to import, so that `qualityfits -dd` answers at once. What the keywords do is in the other modules.
"""

from __future__ import annotations

from spicad.reduction.keywords import Keyword, Program

KEYWORDS = (
    Keyword("FLAT_NAME", "", "text", "Flat field, about 1: becomes the weight"),
    Keyword("WEIGHT_NAME", "", "text", "Weight map, 0 where a pixel is bad"),
    Keyword("MASK_NAME", "", "text", "Map of bad pixels: 1 good, 0 bad"),
    Keyword("FLAT_LIMITS", "0.3,3.0", "list of numbers", "Least and most of a good pixel in the flat", count=2),
    Keyword("ASTREFCAT_NAME", "", "text", "Reference catalogue: FITS, LDAC, VOTable or CSV"),
    Keyword("STACK", "AUTO", "choice", "Whether it is a stack; AUTO: as the header tells", ("Y", "N", "AUTO")),
    Keyword("ORIGINS_NAME", "", "text", "Of a stack: CSV of the exposures used and dropped"),
    Keyword("EARLIER_NAME", "", "text", "Of a stack: catalogue of an earlier one of the field, LDAC"),
    Keyword("OUTPUT_DIR", ".", "text", "Folder for what is made"),
    Keyword("OUTPUT_NAME", "AUTO", "text", "How its names begin; AUTO: as the exposure's"),
    Keyword("DETECT_THRESH", "2.0", "number", "Low threshold, for counts (sigmas)", minimum=0.5, maximum=100),
    Keyword("PSF_THRESH", "8.0", "number", "High threshold, for the PSF (sigmas)", minimum=2, maximum=1000),
    Keyword("BACK_SIZE", "128", "integer", "Mesh of the background (pixels)", minimum=16, maximum=4096),
    Keyword("PSFVAR_DEGREES", "2", "integer", "Degree of the PSF over a CCD", minimum=0, maximum=4),
    Keyword("COSMIC_RAYS", "Y", "yes or no", "Look for cosmic rays"),
    Keyword("COSMIC_SIGMAS", "4.5", "number", "How far a cosmic ray stands out (sigmas)", minimum=2, maximum=100),
    Keyword("COSMIC_SHARPNESS", "4.0", "number", "How much sharper it is than a star", minimum=0.5, maximum=100),
    Keyword("TRAILS", "Y", "yes or no", "Look for satellite trails"),
    Keyword("MAG_ZEROPOINT", "AUTO", "text", "Magnitude of 1 ADU in the image; AUTO: by the header"),
    Keyword("SATUR_LEVEL", "AUTO", "text", "Saturation (ADU); AUTO: by the header, else 65000"),
    Keyword("PIXEL_SCALE", "AUTO", "text", "Side of a pixel (arcsec); AUTO: by the header"),
    Keyword("MATCH_RADIUS", "30", "number", "Most a CCD is off to be found (arcsec)", minimum=0.1, maximum=600),
    Keyword("INSTRUMENTS_DIR", "AUTO", "text", "Folder of instruments; AUTO: those that came with Spica"),
    Keyword("QUALITY_DIR", "AUTO", "text", "Folder of thresholds; AUTO: those that came with Spica"),
    Keyword("WRITE_PLOTS", "Y", "yes or no", "Draw plots and previews"),
    Keyword("PREVIEW_SIZE", "1200", "integer", "Longer side of the preview (pixels)", minimum=200, maximum=8000),
    Keyword("NTHREADS", "0", "integer", "CCDs at a time; 0: one for each core", minimum=0, maximum=256),
)

QUALITYFITS = Program(
    "qualityfits",
    "judges an exposure or a stack: seeing, background, counts, astrometry, defects, and a grade with its reasons",
    "EXPOSURE [-c FILE] [-KEYWORD VALUE] ...",
    KEYWORDS,
    "EXPOSURE is FITS with one image or many, packed (.fz, .gz, .bz2) or not. See qualityfits(1).",
)
