"""Spica's site: server-rendered forms over the tables and the spool. It may import spicad, never the reverse."""
