"""Run in the sandbox by `spica doctor`: tries what no step may do, and prints what it could do, one thing a line.

Needs Python's own library alone. The last line is `ready` when the step's folder could be written and its input read.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

FORBIDDEN_FILES = ("/etc/passwd", "/etc/shadow", "/root", "/home", "/var/lib", "/proc/1/root/etc/passwd")
FORBIDDEN_PLACES = ("/usr/spica-probe", "/in/spica-probe", "/spica-probe", "/cfg/spica-probe")
ADDRESS = ("192.0.2.1", 9)  # of no machine (RFC 5737): where there is a network, it is tried at least


def main() -> None:
    for path in FORBIDDEN_FILES:
        if os.path.exists(path):
            print(f"see {path}")
    for path in FORBIDDEN_PLACES:
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
            print(f"write {path}")
    with suppress(OSError):
        os.close(os.open("/in/probe.txt", os.O_WRONLY))
        print("write its input")
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.connect(ADDRESS)  # sends nothing: asks for a way there
        print("use the network")
    with open("/in/probe.txt", encoding="ascii") as given, open("/job/probe.txt", "w", encoding="ascii") as taken:
        taken.write(given.read())
    print("ready")


if __name__ == "__main__":
    main()
