"""QualityFITS: judges an exposure or a stack before it is used. The program's folder; see qualityfits(1).

Order of the modules: settings, exposure (what is looked at), cosmics, trails, tools (the children), ccd (one CCD's
whole way), stars, reference, pattern, measure (the figures), mosaic, pictures and plots, tables, stack.
"""
