"""Spica: reduces archived FITS images on an observatory's machines. This package is the daemon and all it shares."""

__version__ = "1.0.dev0"
