"""A pie of grades as SVG, drawn by hand: the share of A to D by persons, of what is proposed, of what has none.

It takes numbers and gives text for a page; colours come from the style sheet by class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RADIUS = 50.0


def pie(slices: Sequence[tuple[str, str, int]], is_small: bool = False) -> str:
    """Of (class, words, count), clockwise from the top; '' when there is nothing. Small for a line of a table."""
    total = sum(count for _, _, count in slices)
    if not total:
        return ""
    parts, at = [], 0
    for name, _, count in slices:
        if count:
            parts.append(_slice(name, at / total, (at + count) / total))
            at += count
    words = ", ".join(f"{words} {count}" for _, words, count in slices if count)
    return (
        f'<svg class="pie{" small" if is_small else ""}" viewBox="0 0 100 100" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>"
    )


def _slice(name: str, start: float, end: float) -> str:
    if end - start > 1 - 1e-9:
        return f'<circle class="{name}" cx="50" cy="50" r="{RADIUS:g}"/>'
    (x0, y0), (x1, y1) = _point(start), _point(end)
    is_large = int(end - start > 0.5)
    return f'<path class="{name}" d="M50 50L{x0:.2f} {y0:.2f}A50 50 0 {is_large} 1 {x1:.2f} {y1:.2f}Z"/>'


def _point(share: float) -> tuple[float, float]:
    angle = math.tau * share
    return 50 + RADIUS * math.sin(angle), 50 - RADIUS * math.cos(angle)
