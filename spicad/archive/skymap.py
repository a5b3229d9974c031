"""A map of exposures on the sky as SVG: footprints in the colours of their filters, how often each part was covered.

Pure text, no plotting library. Up to 60 degrees across the map is a tangent plane (great circles are straight in it),
beyond that the whole sky in Hammer's equal-area projection; north is up, east to the left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from xml.sax.saxutils import escape

from spicad.archive import cells
from spicad.archive.cells import Position, Vector, cross, dot, vector
from spicad.archive.overlaps import Footprint, footprint_of

# Okabe and Ito 2008, "Color Universal Design": told apart with any colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#000000")
USUAL = {"u": 3, "g": 2, "r": 1, "i": 4, "y": 4, "z": 6, "J": 5, "H": 0, "K": 7, "V": 2, "B": 0, "R": 1, "I": 4}
DEPTH_GREYS = ("#eeeeee", "#dcdcdc", "#c6c6c6", "#adadad", "#919191", "#767676")
WIDTH, HEIGHT = 760, 620
LEFT, RIGHT, TOP, BOTTOM = 74, 150, 30, 52
GRID = 110  # squares across, of the depth
WIDEST_TANGENT_DEG = 60.0
MOST_OUTLINES = 20_000  # CCDs; of more only the depth is drawn
STEPS_DEG = (90, 60, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
LEAST_SHOWN = 5.0  # pixels of the page: a smaller exposure is drawn as a diamond

Point = tuple[float, float]


def colours_of(filters: Iterable[str]) -> dict[str, str]:
    """A colour for each filter: the usual one of its band where that is free."""
    found: dict[str, str] = {}
    for name in sorted(set(filters)):
        usual = USUAL.get(name[:1])
        free = [colour for colour in COLOURS if colour not in found.values()]
        wished = COLOURS[usual] if usual is not None else COLOURS[len(found) % len(COLOURS)]
        found[name] = wished if wished in free or not free else free[0]
    return found


class Projection(Protocol):
    def plane(self, v: Vector) -> Point | None: ...


@dataclass(frozen=True)
class Tangent:
    """Gnomonic, degrees at the middle; x grows to the west, y to the south, as a page has them."""

    middle: Vector

    def plane(self, v: Vector) -> Point | None:
        east, north = _frame(self.middle)
        along = dot(self.middle, v)
        if along <= 0.05:
            return None
        return -math.degrees(dot(east, v) / along), -math.degrees(dot(north, v) / along)

    def sky(self, point: Point) -> Position:
        east, north = _frame(self.middle)
        x, y = -math.radians(point[0]), -math.radians(point[1])
        return cells.position(tuple(m + x * e + y * n for m, e, n in zip(self.middle, east, north, strict=True)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Hammer:
    """The whole sky, with `middle` degrees of right ascension in the middle."""

    middle: float

    def plane(self, v: Vector) -> Point | None:
        ra, dec = cells.position(v)
        return self.of(math.remainder(ra - self.middle, 360), dec)

    def of(self, away: float, dec: float) -> Point:
        half, d = math.radians(away) / 2, math.radians(dec)
        scale = math.degrees(math.sqrt(2 / (1 + math.cos(d) * math.cos(half))))
        return -2 * scale * math.cos(d) * math.sin(half), -scale * math.sin(d)


def _frame(v: Vector) -> tuple[Vector, Vector]:
    flat = math.hypot(v[0], v[1])
    east = (-v[1] / flat, v[0] / flat, 0.0) if flat > 1e-9 else (0.0, 1.0, 0.0)
    return east, cross(v, east)


@dataclass(frozen=True)
class Frame:
    """From the plane to the page."""

    x: float
    y: float
    scale: float
    wide: float
    high: float

    def page(self, point: Point) -> Point:
        return LEFT + (point[0] - self.x) * self.scale, TOP + (point[1] - self.y) * self.scale

    def holds(self, page: Point) -> bool:
        return LEFT - 0.5 <= page[0] <= LEFT + self.wide + 0.5 and TOP - 0.5 <= page[1] <= TOP + self.high + 0.5


def skymap(rows: Iterable[Mapping[str, Any]], title: str = "") -> str:
    """`rows` have name, filter and s_region, as tables.Exposure does."""
    placed = [(row, each) for row in rows if (each := footprint_of(row["s_region"])).polygons]
    if not placed:
        return _page([f'<text x="{LEFT}" y="{TOP + 40}">No exposure has a place on the sky.</text>'], title)
    shapes = [corner for _, footprint in placed for shape in footprint.shapes for corner in shape]
    cap = cells.enclosing(shapes)
    across = math.degrees(2 * cap.radius)
    projection: Projection = Tangent(cap.centre) if across <= WIDEST_TANGENT_DEG else Hammer(_middle_ra(shapes))
    drawn = [(row, _outlines(footprint, projection)) for row, footprint in placed]
    points = [point for _, outlines in drawn for outline in outlines for point in outline]
    frame = _whole_sky() if isinstance(projection, Hammer) else _framed(points)
    parts = _depth([outlines for _, outlines in drawn], frame)
    parts += _graticule(projection, frame)
    parts += _footprints(drawn, frame)
    parts += _legend([row["filter"] for row, _ in drawn], len(drawn))
    return _page(parts, title)


def _middle_ra(vectors: Sequence[Vector]) -> float:
    x, y = sum(v[0] for v in vectors), sum(v[1] for v in vectors)
    return round(math.degrees(math.atan2(y, x)) / 30) * 30 % 360 if math.hypot(x, y) > 0.3 * len(vectors) else 180.0


def _outlines(footprint: Footprint, projection: Projection) -> list[list[Point]]:
    """Each CCD in the plane; in the whole sky long edges are bent, and what crosses its rim is left in halves."""
    if isinstance(projection, Hammer):
        return [outline for shape in footprint.shapes for outline in _in_hammer(shape, projection)]
    outlines = [[projection.plane(corner) for corner in shape] for shape in footprint.shapes]
    return [[p for p in outline if p] for outline in outlines if all(outline)]


def _in_hammer(shape: Sequence[Vector], projection: Hammer) -> list[list[Point]]:
    places = []
    before = math.remainder(cells.position(shape[0])[0] - projection.middle, 360)
    for a, b in zip(shape, (*shape[1:], shape[0]), strict=True):
        for part in range(8):
            mixed = tuple((8 - part) * p + part * q for p, q in zip(a, b, strict=True))
            ra, dec = cells.position(mixed)  # type: ignore[arg-type]
            before += math.remainder(ra - projection.middle - before, 360)
            places.append((before, dec))
    if abs(math.remainder(places[-1][0] - places[0][0], 360) - (places[-1][0] - places[0][0])) > 180:
        return _round_a_pole(places, projection)
    found = []
    for shift in (-360, 0, 360):
        if any(-180 <= away + shift <= 180 for away, _ in places):
            found.append([projection.of(max(-180.0, min(180.0, away + shift)), dec) for away, dec in places])
    return found


def _round_a_pole(places: Sequence[tuple[float, float]], projection: Hammer) -> list[list[Point]]:
    pole = math.copysign(90, sum(dec for _, dec in places))
    ordered = sorted((math.remainder(away, 360), dec) for away, dec in places)
    ends = [(180.0, ordered[-1][1]), (180.0, pole), (-180.0, pole), (-180.0, ordered[0][1])]
    return [[projection.of(*place) for place in (*ordered, *ends)]]


def _framed(points: Sequence[Point]) -> Frame:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    margin = 0.06 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-4)
    west, east, north, south = min(xs) - margin, max(xs) + margin, min(ys) - margin, max(ys) + margin
    room_x, room_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    scale = min(room_x / (east - west), room_y / (south - north))
    x = (west + east) / 2 - room_x / scale / 2
    y = (north + south) / 2 - room_y / scale / 2
    return Frame(x, y, scale, room_x, room_y)


def _whole_sky() -> Frame:
    limit = math.degrees(2 * math.sqrt(2))
    room_x, room_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    scale = room_x / (2 * limit)
    return Frame(-limit, -room_y / scale / 2, scale, room_x, room_y)


# How often


def _depth(drawn: Sequence[Sequence[Sequence[Point]]], frame: Frame) -> list[str]:
    """Squares in greys: the more exposures hold the middle of a square, the darker."""
    side = frame.wide / GRID
    rows = math.ceil(frame.high / side)
    counts = [[0] * GRID for _ in range(rows)]
    for outlines in drawn:
        for row, column in {square for outline in outlines for square in _squares(outline, frame, side, rows)}:
            counts[row][column] += 1
    most = max(max(line) for line in counts)
    parts = [f'<g data-most="{most}" shape-rendering="crispEdges">']
    for number, line in enumerate(counts):
        parts += _bars(line, number, side, most)
    return [*parts, "</g>", *(_depth_legend(most) if most else ())]


def _squares(outline: Sequence[Point], frame: Frame, side: float, rows: int) -> Iterable[tuple[int, int]]:
    corners = [frame.page(point) for point in outline]
    ys = [y for _, y in corners]
    first, last = int((min(ys) - TOP) / side), int((max(ys) - TOP) / side)
    for row in range(max(first, 0), min(last, rows - 1) + 1):
        y = TOP + (row + 0.5) * side
        crossings = sorted(
            x1 + (y - y1) * (x2 - x1) / (y2 - y1)
            for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True)
            if (y1 <= y) != (y2 <= y)
        )
        for west, east in zip(crossings[::2], crossings[1::2], strict=False):
            begin, end = math.ceil((west - LEFT) / side - 0.5), math.floor((east - LEFT) / side - 0.5)
            for column in range(max(begin, 0), min(end, GRID - 1) + 1):
                yield row, column


def _bars(line: Sequence[int], number: int, side: float, most: int) -> list[str]:
    """One rectangle for each stretch of equal greys."""
    parts, start = [], 0
    greys = [_grey(count, most) for count in line]
    for column in range(1, len(line) + 1):
        if column == len(line) or greys[column] != greys[start]:
            if greys[start]:
                x, y = LEFT + start * side, TOP + number * side
                wide = (column - start) * side
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide + 0.3:.1f}" height="{side + 0.3:.1f}" '
                    f'fill="{greys[start]}"/>'
                )
            start = column
    return parts


def _grey(count: int, most: int) -> str:
    return DEPTH_GREYS[min(_class(count, most), len(DEPTH_GREYS) - 1)] if count else ""


def _class(count: int, most: int) -> int:
    """0 for one exposure, the last for the most, by the logarithm."""
    return round(math.log(count) / math.log(most) * (len(DEPTH_GREYS) - 1)) if most > 1 else 0


def _depth_legend(most: int) -> list[str]:
    x, y = WIDTH - RIGHT + 18, HEIGHT - BOTTOM - 18 * (len(DEPTH_GREYS) + 1)
    parts = [f'<text x="{x}" y="{y}">exposures deep</text>']
    ranges: dict[int, list[int]] = {}
    for count in range(1, most + 1):
        ranges.setdefault(_class(count, most), []).append(count)
    for line, (shade, counts) in enumerate(sorted(ranges.items()), 1):
        words = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        parts.append(
            f'<rect x="{x}" y="{y + 18 * line - 11}" width="14" height="14" fill="{DEPTH_GREYS[shade]}" stroke="#999"/>'
            f'<text x="{x + 20}" y="{y + 18 * line + 1}">{words}</text>'
        )
    return parts


# Lines and words


def _footprints(drawn: Sequence[tuple[Mapping[str, Any], list[list[Point]]]], frame: Frame) -> list[str]:
    if sum(len(outlines) for _, outlines in drawn) > MOST_OUTLINES:
        return []
    colours = colours_of([row["filter"] for row, _ in drawn])
    parts = ['<g fill="none" stroke-width="1" stroke-opacity="0.85">']
    for row, outlines in drawn:
        path = _path([[frame.page(point) for point in outline] for outline in outlines])
        words = escape(_plain(f"{row['name']} {row['filter']}".strip()))
        parts.append(f'<path d="{path}" stroke="{colours[row["filter"]]}"><title>{words}</title></path>')
    return [*parts, "</g>"]


def _path(outlines: Sequence[Sequence[Point]]) -> str:
    xs, ys = [x for each in outlines for x, _ in each], [y for each in outlines for _, y in each]
    if xs and max(max(xs) - min(xs), max(ys) - min(ys)) < LEAST_SHOWN:
        x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
        outlines = [[(x + e * LEAST_SHOWN, y + n * LEAST_SHOWN) for e, n in ((1, 0), (0, 1), (-1, 0), (0, -1))]]
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in outline) + "Z" for outline in outlines)


def _legend(filters: Sequence[str], count: int) -> list[str]:
    x = WIDTH - RIGHT + 18
    parts = [f'<text x="{x}" y="{TOP + 12}">{count} exposure{"" if count == 1 else "s"}</text>']
    for line, (name, colour) in enumerate(colours_of(filters).items(), 1):
        if line > 16:
            parts.append(f'<text x="{x}" y="{TOP + 16 + 18 * line}">and more</text>')
            break
        y = TOP + 16 + 18 * line
        words = escape(_plain(name)[:14]) or "no filter"
        parts.append(
            f'<path d="M{x} {y - 4}h16" stroke="{colour}" stroke-width="3"/><text x="{x + 22}" y="{y}">{words}</text>'
        )
    return parts


def _graticule(projection: Projection, frame: Frame) -> list[str]:
    parts = ['<g fill="none" stroke="#bbb" stroke-width="0.6">']
    labels: list[str] = []
    if isinstance(projection, Hammer):
        lines = _whole_lines(projection, frame, labels)
    else:
        assert isinstance(projection, Tangent)
        lines = _tangent_lines(projection, frame, labels)
    parts += [
        f'<path d="{_broken(line, frame)}"/>'
        for line in lines
        if sum(frame.holds(frame.page(p)) for p in line if p) > 1
    ]
    rim = [] if isinstance(projection, Hammer) else [_box(frame)]
    names = (
        f'<text x="{LEFT + frame.wide / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">Right ascension (ICRS)</text>'
        f'<text transform="translate(16 {TOP + frame.high / 2:.0f}) rotate(-90)" text-anchor="middle">'
        "Declination (ICRS)</text>"
    )
    return [*parts, "</g>", *rim, *labels, names]


def _box(frame: Frame) -> str:
    size = f'width="{frame.wide:.1f}" height="{frame.high:.1f}"'
    return f'<rect x="{LEFT}" y="{TOP}" {size} fill="none" stroke="#333"/>'


def _broken(line: Sequence[Point | None], frame: Frame) -> str:
    """A path with gaps where the line leaves the frame."""
    path, is_on = [], False
    for point in line:
        page = frame.page(point) if point else None
        if page is None or not frame.holds(page):
            is_on = False
            continue
        path.append(f"{'L' if is_on else 'M'}{page[0]:.1f} {page[1]:.1f}")
        is_on = True
    return "".join(path)


def _whole_lines(projection: Hammer, frame: Frame, labels: list[str]) -> list[list[Point | None]]:
    lines: list[list[Point | None]] = []
    for dec in range(-60, 90, 30):
        lines.append([projection.of(away, dec) for away in range(-180, 181, 5)])
        x, y = frame.page(projection.of(180, dec))
        labels.append(
            f'<text x="{max(x - 4, LEFT - 4):.0f}" y="{y + 4:.0f}" text-anchor="end">{dec:+d}°</text>'.replace(
                "+0", "0"
            )
        )
    for step in range(-180, 181, 30):
        lines.append([projection.of(step, dec) for dec in range(-90, 91, 5)])
        if abs(step) < 180 and step % 60 == 0:
            x, y = frame.page(projection.of(step, 0))
            ra = (projection.middle + step) % 360
            labels.append(f'<text x="{x + 2:.0f}" y="{y - 3:.0f}" fill="#666">{ra:.0f}°</text>')
    return lines


def _tangent_lines(projection: Tangent, frame: Frame, labels: list[str]) -> list[list[Point | None]]:
    """Meridians and parallels through round numbers, labelled where they meet the lower and the left border."""
    lower = _border(projection, frame, [(frame.wide * k / 400, frame.high) for k in range(401)])
    left = _border(projection, frame, [(0.0, frame.high * k / 400) for k in range(401)])
    ring = [(frame.wide * k / 40, y) for k in range(41) for y in (0.0, frame.high)]
    ring += [(x, frame.high * k / 40) for k in range(41) for x in (0.0, frame.wide)]
    places = [place for _, place in _border(projection, frame, ring)]
    decs = [dec for _, dec in places]
    low, high = min(decs), max(decs)
    for pole in (90.0, -90.0):
        point = projection.plane((0.0, 0.0, pole / 90))
        if point and frame.holds(frame.page(point)):
            low, high = min(low, pole), max(high, pole)
    across = high - low
    dec_step = _step(across / 4)
    cosine = max(math.cos(math.radians(max(abs(low), abs(high)))), 0.02)
    ra_step = _step(min(across / cosine / 4, 360 / 8))
    span = 180.0 if cosine <= 0.02 else min(180.0, across / cosine)
    middle = cells.position(projection.middle)[0]
    lines: list[list[Point | None]] = []
    for k in range(math.ceil(low / dec_step), math.floor(high / dec_step) + 1):
        dec = k * dec_step
        lines.append([projection.plane(vector(middle + span * t / 100, dec)) for t in range(-100, 101)])
    meridians = range(math.ceil((middle - span) / ra_step), math.floor((middle + span) / ra_step) + 1)
    for k in meridians[: round(360 / ra_step)]:
        lines.append([projection.plane(vector(k * ra_step, low + across * t / 100)) for t in range(101)])
    labels += _ra_labels(lower, ra_step)
    labels += _dec_labels(left, dec_step)
    return lines


def _border(projection: Tangent, frame: Frame, offsets: Iterable[Point]) -> list[tuple[Point, Position]]:
    return [
        ((LEFT + x, TOP + y), projection.sky((frame.x + x / frame.scale, frame.y + y / frame.scale)))
        for x, y in offsets
    ]


def _step(wish: float) -> float:
    return next((step for step in STEPS_DEG if step <= wish * 1.01), STEPS_DEG[-1])


def _ra_labels(border: Sequence[tuple[Point, Position]], step: float) -> list[str]:
    found: list[str] = []
    last = -math.inf
    for ((x1, y), (ra1, _)), ((x2, _), (ra2, _)) in itertools.pairwise(border):
        turn = math.remainder(ra2 - ra1, 360)
        crossed = _crossed(ra1, ra1 + turn, step)
        if crossed is not None and x1 - last > 62:
            x = x1 + (x2 - x1) * (crossed - ra1) / turn
            found.append(
                f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle">{_degrees(crossed % 360, step)}</text>'
            )
            last = x
    return found


def _dec_labels(border: Sequence[tuple[Point, Position]], step: float) -> list[str]:
    found: list[str] = []
    last = -math.inf
    for ((x, y1), (_, dec1)), ((_, y2), (_, dec2)) in itertools.pairwise(border):
        crossed = _crossed(dec1, dec2, step)
        if crossed is not None and y1 - last > 16:
            y = y1 + (y2 - y1) * (crossed - dec1) / (dec2 - dec1)
            sign = "+" if crossed > 0 else ""
            found.append(
                f'<text x="{x - 5:.0f}" y="{y + 4:.0f}" text-anchor="end">{sign}{_degrees(crossed, step)}</text>'
            )
            last = y
    return found


def _crossed(one: float, other: float, step: float) -> float | None:
    """A whole multiple of the step between the two."""
    low, high = min(one, other), max(one, other)
    multiple = math.ceil(low / step) * step
    return multiple if low < high and multiple <= high else None


def _degrees(value: float, step: float) -> str:
    digits = max(0, math.ceil(-math.log10(step)))
    text = f"{value:.{digits}f}"
    return ("0" if float(text) == 0 and not digits else text) + "°"


def _page(parts: Sequence[str], title: str) -> str:
    words = escape(_plain(title)) or "Exposures on the sky"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img"><title>{words}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    )
    shown = f'<text x="{LEFT}" y="19" font-size="14">{words}</text>'
    return "\n".join([head, shown, *parts, "</svg>\n"])


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
