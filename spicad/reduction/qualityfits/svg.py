"""A canvas for SVG: panels with axes, dots, lines, bars, polygons and a scale of colours. What is drawn: plots.py.

Colours are those of Okabe and Ito, the scale is close to cividis: both can be told apart by the colour-blind, and when
printed in grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLUE, ORANGE, GREEN, RED, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#9a9a9a", "#1a1a1a"
SCALE = ((0, 32, 81), (59, 73, 108), (108, 110, 114), (154, 148, 120), (203, 188, 105), (253, 234, 69))
FONT = 15


@dataclass(frozen=True)
class Axis:
    """One axis of a panel; `low` may be larger than `high`, as for east to the left."""

    low: float
    high: float
    label: str = ""
    is_log: bool = False

    def share(self, values: Array | float) -> Array:
        """Where values lie along it, 0 to 1."""
        values = np.asarray(values, float)
        if self.is_log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (np.log10(np.maximum(values, 1e-300)) - low) / (high - low)
        return (values - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.is_log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 6 + 1))]
        low, high = sorted((self.low, self.high))
        step = 10 ** math.floor(math.log10((high - low) / 4))
        step *= next(each for each in (5, 2, 1) if (high - low) / (step * each) >= 3 or each == 1)
        count = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        return [round(number * step, 10) for number in count]


def axis_of(values: Sequence[float], label: str, margin: float = 0.05) -> Axis:
    """One that holds all the values."""
    low, high = (min(values), max(values)) if len(values) else (0.0, 1.0)
    room = margin * (high - low) or 0.5 * abs(high) or 1.0
    return Axis(low - room, high + room, label)


@dataclass
class Canvas:
    """A whole picture. Give parts to `parts`, or let panels do it."""

    width: float
    height: float
    title: str
    below: str = ""
    parts: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}"'
            f' font-family="sans-serif" font-size="{FONT}" role="img" aria-label="{_plain(self.title)}">',
            '<rect width="100%" height="100%" fill="white"/>',
            text(16, 28, self.title, 19, weight="bold"),
            text(16, 50, self.below, 14, colour="#444"),
        ]
        path.write_text("\n".join([*head, *self.parts, "</svg>", ""]), encoding="utf-8")

    def scale(self, x: float, y: float, height: float, low: float, high: float, label: str) -> None:
        """The scale of colours, standing, with its ends and middle."""
        steps = 40
        for step, fill in enumerate(colours(np.linspace(0, 1, steps))):
            top = y + height * (1 - (step + 1) / steps)
            self.parts.append(
                f'<rect x="{x}" y="{top:.1f}" width="18" height="{height / steps + 0.6:.1f}" fill="{fill}"/>'
            )
        for share in (0.0, 0.5, 1.0):
            value = low + share * (high - low)
            self.parts.append(text(x + 24, y + height * (1 - share) + 5, short(value), FONT))
        self.parts.append(text(x, y - 12, label, FONT))


@dataclass
class Panel:
    """A rectangle of a canvas with two axes."""

    canvas: Canvas
    left: float
    top: float
    width: float
    height: float
    x: Axis
    y: Axis

    def __post_init__(self) -> None:
        add = self.canvas.parts.append
        size = f'width="{self.width}" height="{self.height}"'
        add(f'<rect x="{self.left}" y="{self.top}" {size} fill="none" stroke="{INK}"/>')
        bottom = self.top + self.height
        for value in self.x.ticks():
            at, _ = self.at(value, self.y.low)
            add(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:.1f}" y2="{bottom + 6:.1f}" stroke="{INK}"/>')
            add(text(at, bottom + 22, short(value), FONT - 1, "middle"))
        for value in self.y.ticks():
            _, at = self.at(self.x.low, value)
            add(f'<line x1="{self.left - 6}" x2="{self.left}" y1="{at:.1f}" y2="{at:.1f}" stroke="{INK}"/>')
            add(text(self.left - 9, at + 5, short(value), FONT - 1, "end"))
        add(text(self.left + self.width / 2, bottom + 44, self.x.label, FONT, "middle"))
        if self.y.label:
            middle = self.top + self.height / 2
            turn = f'<g transform="rotate(-90 {self.left - 58:.1f} {middle:.1f})">'
            add(turn + text(self.left - 58, middle, self.y.label, FONT, "middle") + "</g>")

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.left + float(self.x.share(x)) * self.width, self.top + (1 - float(self.y.share(y))) * self.height

    def _inside(self, x: Sequence[float] | Array, y: Sequence[float] | Array) -> Iterable[tuple[float, float]]:
        """Where points that the panel holds lie on the canvas."""
        across, up = self.x.share(np.asarray(x, float)), self.y.share(np.asarray(y, float))
        held = np.maximum(np.abs(across - 0.5), np.abs(up - 0.5)) <= 0.5 + 1e-6
        places = self.left + across[held] * self.width, self.top + (1 - up[held]) * self.height
        return zip(*(each.tolist() for each in places), strict=True)

    def dots(self, x: Sequence[float] | Array, y: Sequence[float] | Array, fill: str, radius: float = 1.8) -> None:
        """Those that lie inside, as one path: thousands of circles would be slow to draw."""
        marks = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in self._inside(x, y))
        if marks:
            self.canvas.parts.append(
                f'<path d="{marks}" stroke="{fill}" stroke-width="{2 * radius:g}" stroke-linecap="round"'
                ' stroke-opacity="0.6"/>'
            )

    def line(self, points: Sequence[tuple[float, float]], stroke: str, dash: str = "", width: float = 2) -> None:
        inside = list(self._inside([x for x, _ in points], [y for _, y in points]))
        if len(inside) > 1:
            text_ = " ".join(f"{a:.1f},{b:.1f}" for a, b in inside)
            dashes = f' stroke-dasharray="{dash}"' if dash else ""
            self.canvas.parts.append(
                f'<polyline points="{text_}" fill="none" stroke="{stroke}" stroke-width="{width:g}"{dashes}/>'
            )

    def bars(self, edges: Sequence[float], heights: Sequence[float], fill: str) -> None:
        floor = self.y.low
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if height <= floor:
                continue
            (a, b), (c, d) = self.at(left, min(height, self.y.high)), self.at(right, floor)
            self.canvas.parts.append(
                f'<rect x="{a:.1f}" y="{b:.1f}" width="{max(c - a - 1, 1):.1f}" height="{d - b:.1f}" fill="{fill}"/>'
            )


def polygon(points: Iterable[tuple[float, float]], fill: str, stroke: str = "none", width: float = 1) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{joined}" fill="{fill}" stroke="{stroke}" stroke-width="{width:g}"/>'


def segment(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 2) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="{width:g}"/>'


def text(
    x: float, y: float, words: str, size: int = FONT, anchor: str = "start", colour: str = INK, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
        f' font-weight="{weight}">{_plain(words)}</text>'
    )


def legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    """Colour and words, one under the other."""
    found = []
    for number, (fill, words) in enumerate(entries):
        at = y + 22 * number
        found += [
            f'<rect x="{x:.1f}" y="{at - 10:.1f}" width="14" height="10" fill="{fill}"/>',
            text(x + 20, at, words),
        ]
    return found


def colours(shares: Array) -> list[str]:
    """From dark blue over grey to yellow."""
    at = np.clip(shares, 0, 1) * (len(SCALE) - 1)
    mixed = np.rint([np.interp(at, range(len(SCALE)), channel) for channel in zip(*SCALE, strict=True)]).astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mixed.T.tolist()]


def short(value: float) -> str:
    return f"{value:.4g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _plain(words: str) -> str:
    return escape("".join(sign if sign.isprintable() else " " for sign in words))
