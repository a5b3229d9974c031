"""Applications: all that Spica knows about a reduction tool, read from its descriptor in etc/applications.

No tool is named in this package: another one is another TOML file, see spica-application(5).
"""
