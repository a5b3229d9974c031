"""Draws photometrix's plots as SVG: residuals against magnitude and position, zero points by exposure.

Written directly: three plain drawings need no plotting library, and the same figures give the same bytes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from spicad.reduction.photometrix.report import CELLS, CellRow, Report

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 34, 46
INK, FAINT, GOOD, BAD = "#222222", "#cccccc", "#1f5fa8", "#c0392b"
MOST_LABELS = 40


def write_plots(folder: Path, report: Report) -> None:
    """photometrix_magnitude.svg, photometrix_position.svg, photometrix_zeropoint.svg."""
    (folder / "photometrix_magnitude.svg").write_text(_magnitudes(report))
    (folder / "photometrix_position.svg").write_text(_positions(report))
    (folder / "photometrix_zeropoint.svg").write_text(_zero_points(report))


class _Axes:
    """A frame with linear scales; y grows upwards."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], top: float = 0) -> None:
        self.x0, self.x1 = _widened(*x)
        self.y0, self.y1 = _widened(*y)
        self.top = top

    def at(self, x: float, y: float) -> tuple[float, float]:
        right = LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)
        down = self.top + HEIGHT - BOTTOM - (y - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)
        return right, down

    def frame(self, title: str, x_label: str, y_label: str, x_ticks: bool = True) -> list[str]:
        left, low = self.at(self.x0, self.y0)
        right, high = self.at(self.x1, self.y1)
        parts = [
            f'<rect x="{left:.1f}" y="{high:.1f}" width="{right - left:.1f}" height="{low - high:.1f}" '
            f'fill="none" stroke="{INK}"/>',
            _text(WIDTH / 2, self.top + 20, title, size=14),
            _text((left + right) / 2, self.top + HEIGHT - 8, x_label),
            _text(16, (low + high) / 2, y_label, turned=True),
        ]
        for value in _ticks(self.y0, self.y1):
            x, y = self.at(self.x0, value)
            parts += [_line(x - 4, y, x, y), _text(x - 7, y + 4, f"{value:.4g}", anchor="end")]
        for value in _ticks(self.x0, self.x1) if x_ticks else ():
            x, y = self.at(value, self.y0)
            parts += [_line(x, y, x, y + 4), _text(x, y + 17, f"{value:.6g}")]
        if self.y0 < 0 < self.y1:
            parts.append(_line(left, self.at(0, 0)[1], right, self.at(0, 0)[1], FAINT))
        return parts


def _magnitudes(report: Report) -> str:
    """Residuals of measures against the magnitude of their stars, one frame for each instrument."""
    parts: list[str] = []
    for number, (name, mags, residuals, clipped) in enumerate(report.points):
        if not len(mags):
            continue
        shown = [abs(float(value)) for value, is_out in zip(residuals, clipped, strict=True) if not is_out] or [0.01]
        reach = min(1.3 * max(shown), 1.0)
        axes = _Axes((float(mags.min()), float(mags.max())), (-reach, reach), number * HEIGHT)
        parts += axes.frame(f"Residuals, {name or 'all'}", "magnitude", "residual (mag)")
        for mag, residual, is_out in zip(mags, residuals, clipped, strict=True):
            if abs(residual) <= reach:
                x, y = axes.at(float(mag), float(residual))
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.1" fill="{BAD if is_out else GOOD}"/>')
    return _svg(parts, HEIGHT * max(len(report.points), 1))


def _zero_points(report: Report) -> str:
    rows = report.rows
    values = [row.relative_mag for row in rows]
    errors = [row.error_mag or 0.0 for row in rows]
    low = min(value - error for value, error in zip(values, errors, strict=True))
    high = max(value + error for value, error in zip(values, errors, strict=True))
    axes = _Axes((0.5, len(rows) + 0.5), (min(low, 0.0), max(high, 0.0)))
    parts = axes.frame("Relative zero points (red: not photometric)", "exposure", "zero point (mag)", x_ticks=False)
    for number, (row, error) in enumerate(zip(rows, errors, strict=True), 1):
        x, y = axes.at(number, row.relative_mag)
        colour = GOOD if row.photometric else BAD
        parts.append(
            _line(x, axes.at(0, row.relative_mag - error)[1], x, axes.at(0, row.relative_mag + error)[1], colour)
        )
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{html.escape(row.name)}</title></circle>'
        )
        if len(rows) <= MOST_LABELS:
            parts.append(_text(x, HEIGHT - BOTTOM + 16, row.name if len(rows) <= 12 else str(number), size=9))
    return _svg(parts, HEIGHT)


def _positions(report: Report) -> str:
    """Mean residuals over each CCD, a square for each cell, CCDs side by side in rows."""
    ccds = sorted({(cell.instrument, cell.ccd) for cell in report.cells})
    if not ccds:
        return _svg([_text(WIDTH / 2, 40, "No residuals by position")], HEIGHT)
    columns = min(max(math.ceil(math.sqrt(len(ccds))), 1), 9)
    side = (WIDTH - 40) / columns - 12
    worst = max(sorted(abs(cell.mean_mag) for cell in report.cells)[int(0.95 * (len(report.cells) - 1))], 1e-3)
    parts = [_text(WIDTH / 2, 20, f"Mean residuals over each CCD, blue -{worst:.3f} to red +{worst:.3f} mag", size=14)]
    for number, (instrument, ccd) in enumerate(ccds):
        left, top = 20 + number % columns * (side + 12), 48 + number // columns * (side + 24)
        cells = [cell for cell in report.cells if (cell.instrument, cell.ccd) == (instrument, ccd)]
        parts += _ccd(cells, left, top, side, worst)
        parts.append(_text(left + side / 2, top - 4, f"{instrument} CCD {ccd}".strip(), size=9))
    rows = math.ceil(len(ccds) / columns)
    return _svg(parts, int(60 + rows * (side + 24)))


def _ccd(cells: Sequence[CellRow], left: float, top: float, side: float, worst: float) -> list[str]:
    step = side / CELLS
    parts = [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" stroke="{FAINT}"/>'
    ]
    for cell in cells:
        strength = max(-1.0, min(1.0, cell.mean_mag / worst))
        faded = int(255 * (1 - abs(strength)))
        colour = f"#ff{faded:02x}{faded:02x}" if strength > 0 else f"#{faded:02x}{faded:02x}ff"
        x, y = left + cell.column * step, top + side - (cell.row + 1) * step
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{step:.1f}" height="{step:.1f}" fill="{colour}"/>')
    return parts


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _line(x0: float, y0: float, x1: float, y1: float, colour: str = INK) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, size: int = 11, anchor: str = "middle", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{INK}"{turn}>'
        f"{html.escape(words)}</text>"
    )


def _svg(parts: Sequence[str], height: int) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"
