"""The page /metrics for Prometheus: for the addresses of [web] metrics in spica.conf, and for Administrators.

To all others it does not exist. The figures are gathered in spicad/metrics.py.
"""

from __future__ import annotations

import ipaddress

from spicad import metrics
from spicad.words import Rank
from spicaweb.answers import Answer, NotThere
from spicaweb.visit import Visit


def page(visit: Visit) -> Answer:
    is_administrator = visit.actor is not None and visit.actor.rank >= Rank.ADMINISTRATOR
    if not is_administrator and not is_among(visit.address, visit.settings.web.metrics):
        raise NotThere
    return Answer(metrics.text(visit.settings, visit.now), kind=metrics.KIND)


def is_among(address: str, networks: list[str]) -> bool:
    """Whether the visitor's address lies in one of the networks; ::ffff:10.0.0.1 is 10.0.0.1."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in ipaddress.ip_network(each, strict=False) for each in networks)
