"""A plot of two columns as SVG, drawn by hand: axes with round ticks, one path for all points.

It takes numbers and gives text for a page; colours come from the style sheet by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 14, 54
MOST_POINTS = 8000


@dataclass(frozen=True)
class Axis:
    """From values to pixels, with its ticks."""

    label: str
    low: float
    high: float
    is_log: bool

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        low, high, at = (math.log10(v) for v in (self.low, self.high, value)) if self.is_log else (
            self.low, self.high, value,
        )  # fmt: skip
        return (at - low) / (high - low)

    def ticks(self) -> list[float]:
        return _log_ticks(self.low, self.high) if self.is_log else _ticks(self.low, self.high)


def scatter(
    x: Sequence[float],
    y: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    x_log: bool = False,
    y_log: bool = False,
    y_turned: bool = False,
) -> str:
    """The plot; values that cannot stand on its axes are left out and counted below it. '' when none can."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if _fits(a, x_log) and _fits(b, y_log)]
    if not points:
        return ""
    across = _axis([a for a, _ in points], x_label, x_log)
    up = _axis([b for _, b in points], y_label, y_log)
    to_x = _scale(across, LEFT, WIDTH - RIGHT)
    ends = (TOP, HEIGHT - BOTTOM) if y_turned else (HEIGHT - BOTTOM, TOP)
    to_y = _scale(up, *ends)
    dots = "".join(f"M{to_x(a):.1f} {to_y(b):.1f}h0" for a, b in points)
    words = f"{y_label} against {x_label}, {len(points)} points"
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{_frame(across, up, to_x, to_y)}"
        f'<path class="dots" d="{dots}"/></svg>'
    )


def _frame(across: Axis, up: Axis, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path class="frame" d="M{LEFT} {TOP}H{right}V{bottom}H{LEFT}Z"/>']
    for value in across.ticks():
        at = to_x(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text class="x" x="{at:.1f}" y="{bottom + 18}">{_words(value)}</text>')
    for value in up.ticks():
        at = to_y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text class="y" x="{LEFT - 7}" y="{at + 4:.1f}">{_words(value)}</text>')
    middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
    parts.append(f'<text class="x label" x="{middle_x}" y="{HEIGHT - 12}">{escape(across.label)}</text>')
    turned = f'transform="rotate(-90 16 {middle_y})"'
    parts.append(f'<text class="x label" x="16" y="{middle_y}" {turned}>{escape(up.label)}</text>')
    return "".join(parts)


def _fits(value: float, is_log: bool) -> bool:
    return math.isfinite(value) and abs(value) < 1e30 and (value > 0 or not is_log)


def _axis(values: Sequence[float], label: str, is_log: bool) -> Axis:
    low, high = min(values), max(values)
    if is_log:
        low, high = (low / 2, high * 2) if low == high else (low / 1.1, high * 1.1)
        return Axis(label, low, high, True)
    margin = (high - low) * 0.03 or abs(low) * 0.1 or 1.0
    return Axis(label, low - margin, high + margin, False)


def _scale(axis: Axis, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + axis.place(value) * (end - start)


def _ticks(low: float, high: float, about: int = 6) -> list[float]:
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next((power * each for each in (1, 2, 5, 10) if power * each >= rough), rough)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    thin = max(1, len(powers) // 8)
    found = [10.0**power for power in powers[::thin] if low <= 10.0**power <= high]
    return found if len(found) > 1 else _ticks(low, high)


def _words(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-300 else value:.6g}".replace("-", "−")
