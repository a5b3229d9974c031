"""Pre-processing: takes the instrument's signature off raw exposures, and makes the master frames that it needs.

`python -m spicad.reduction.preprocess`, installed as `preprocess`. In the order of a run: settings.py, frames.py (raw
CCDs, overscan and trim), masters.py (biases, darks, flats combined), science.py (an exposure), products.py (files).
"""
