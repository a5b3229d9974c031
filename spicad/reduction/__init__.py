"""Our own science programs, run as commands like any other tool; the only users of astropy and numpy."""
