"""Photometrix: sets relative photometry in a set of exposures that overlap.

`python -m spicad.reduction.photometrix`, installed as `photometrix`. In the order of a run: settings.py, set.py and
apertures.py (catalogues read), reference.py, match.py (which sources are one star), solve.py (least squares),
clouds.py, result.py (the whole), report.py and plots.py (what is written).
"""
