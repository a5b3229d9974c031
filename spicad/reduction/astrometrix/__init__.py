"""Astrometrix: solves the astrometry of many exposures together against a reference catalogue.

`python -m spicad.reduction.astrometrix`, installed as `astrometrix`. In the order of a run: settings.py, exposures.py
(catalogues read), match.py (first match), layout.py (CCD by CCD), identify.py (which detections are one star), fit.py
(global least squares), solve.py (the whole), verdict.py (what is believed), products.py and plots.py (what is written).
"""
