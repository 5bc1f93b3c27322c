"""Figures drawn as SVG: panels of lines or of bars. The one place that draws; who calls says what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10

BLUE, ORANGE, GREEN, VIOLET, GREY = "#1d4ed8", "#c2410c", "#047857", "#7c3aed", "#6b7280"
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 44, 42
"""Around what is drawn of a panel, in pixels."""
BAR, LABEL = 24, 150
TICKS = 5


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points; *dots*: each point alone."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over one axis. *spans*: name, begin and end of stretches of it."""

    title: str
    along: str
    curves: Sequence[Curve]
    log: bool = False
    least: float = 0.0
    most: float | None = None
    """None: what the curves need."""
    along_most: float | None = None
    """None: as far as the curves reach."""
    along_ticks: Sequence[tuple[float, str]] = ()
    spans: Sequence[tuple[str, float, float]] = ()
    width: int = 320
    height: int = 220

    def size(self) -> tuple[int, int]:
        return self.width + LEFT + RIGHT, self.height + TOP + BOTTOM

    def drawn(self, left: float, top: float) -> Iterable[str]:
        frame = _Frame(self, left + LEFT, top + TOP)
        yield _text(frame.left, top + 16, self.title, bold=True)
        yield from frame.spans()
        yield from frame.grid()
        for number, curve in enumerate(self.curves):
            apart = min(95.0, self.width / len(self.curves))
            yield _text(frame.left + number * apart, top + 34, curve.name, curve.colour)
            yield frame.dots(curve) if curve.dots else frame.line(curve)


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars that lie below each other: name, figure, what is written beside it."""

    title: str
    bars: Sequence[tuple[str, float, str]]
    colours: Sequence[str]
    width: int = 600

    def size(self) -> tuple[int, int]:
        return LABEL + self.width + RIGHT, len(self.bars) * BAR + TOP

    def drawn(self, left: float, top: float) -> Iterable[str]:
        most = max(figure for _, figure, _ in self.bars)
        yield _text(left + 10, top + 16, self.title, bold=True)
        for number, ((name, figure, beside), colour) in enumerate(zip(self.bars, self.colours, strict=True)):
            y = top + TOP - 16 + number * BAR
            long = max(1.0, figure / most * self.width / 2)
            yield _text(left + LABEL - 8, y + 13, name, anchor="end")
            yield _rectangle(left + LABEL, y, long, BAR - 7, colour)
            yield _text(left + LABEL + long + 6, y + 13, beside)


Panel = Lines | Bars


def drawn(panels: Sequence[Panel], columns: int = 2, notes: Sequence[str] = ()) -> str:
    """The panels row by row, and lines of text below them."""
    parts: list[str] = []
    wide = top = 0
    for start in range(0, len(panels), columns):
        left = high = 0
        for panel in panels[start : start + columns]:
            parts += panel.drawn(left, top)
            left, high = left + panel.size()[0], max(high, panel.size()[1])
        wide, top = max(wide, left), top + high
    for note in notes:
        parts.append(_text(10, top + 10, note, GREY))
        top += 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {top}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="{wide}" height="{top}" fill="white"/>\n{"".join(parts)}</svg>\n'
    )


@dataclass(slots=True)
class _Frame:
    """Where figures of a panel are."""

    of: Lines
    left: float
    top: float
    along: tuple[float, float] = field(init=False)
    up: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        points = [point for curve in self.of.curves for point in curve.points]
        self.along = 0.0, self.of.along_most or max((x for x, _ in points), default=1.0) * 1.02 or 1.0
        most = self.of.most or max((y for _, y in points), default=1.0) or 1.0
        if self.of.log:
            least = max(self.of.least, 1e-9)
            self.up = log10(least), max(log10(least) + 1, ceil(log10(max(most, least)) * 2) / 2)
        else:
            self.up = self.of.least, max(_rounded(most), self.of.least + 1e-9)

    def x(self, figure: float) -> float:
        low, high = self.along
        return round(self.left + (figure - low) / (high - low) * self.of.width, 1)

    def y(self, figure: float) -> float:
        low, high = self.up
        place = (log10(max(figure, 1e-9)) if self.of.log else figure) - low
        return round(self.top + self.of.height * (1 - min(max(place / (high - low), 0.0), 1.0)), 1)

    def line(self, curve: Curve) -> str:
        points = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in curve.points)
        dashes = ' stroke-dasharray="5 4"' if curve.dashed else ""
        return f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="2"{dashes}/>\n'

    def dots(self, curve: Curve) -> str:
        """One path for all of them: each a line of no length with round ends."""
        places = "".join(f"M{self.x(x)} {self.y(y)}h0" for x, y in curve.points)
        return f'<path d="{places}" stroke="{curve.colour}" stroke-width="3" stroke-linecap="round"/>\n'

    def grid(self) -> Iterable[str]:
        width, bottom = self.of.width, self.top + self.of.height
        for tick in self._ticks():
            y = self.y(tick)
            yield f'<path d="M{self.left} {y}h{width}" stroke="#e5e7eb"/>\n'
            yield _text(self.left - 6, y + 4, f"{tick:,.10g}", anchor="end")
        for tick, name in self.of.along_ticks or self._along_ticks():
            yield _text(self.x(tick), bottom + 16, name, anchor="middle")
        yield _text(self.left + width / 2, bottom + 32, self.of.along, anchor="middle")

    def spans(self) -> Iterable[str]:
        for number, (name, begin, end) in enumerate(self.of.spans):
            x, width = self.x(begin), self.x(end) - self.x(begin)
            fill = "#f3f4f6" if number % 2 else "#ffffff"
            yield _rectangle(x, self.top, width, self.of.height, fill)
            yield _text(x + 3, self.top + 11, name, GREY)

    def _ticks(self) -> list[float]:
        low, high = self.up
        if self.of.log:
            return [10.0**power for power in range(ceil(low), floor(high) + 1)]
        return [low + (high - low) * number / (TICKS - 1) for number in range(TICKS)]

    def _along_ticks(self) -> list[tuple[float, str]]:
        step = _rounded(self.along[1] / TICKS)
        return [(number * step, f"{number * step:,.10g}") for number in range(int(self.along[1] / step) + 1)]


def _rounded(figure: float) -> float:
    """Up to a number that divides well by four."""
    power = 10.0 ** floor(log10(figure))
    steps = (step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10))
    return next(step for step in steps if step >= figure * 0.999)


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" fill="{colour}"/>\n'


def _text(
    x: float, y: float, words: str, colour: str = "black", *, anchor: str = "start", bold: bool = False
) -> str:
    how = f'fill="{colour}" text-anchor="{anchor}"' + ' font-weight="bold"' * bold
    return f'<text x="{x:g}" y="{y:g}" {how}>{escape(words)}</text>\n'
