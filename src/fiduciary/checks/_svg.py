"""A small pen for SVG: text that fits, axes, legends. No script, no style, nothing from outside.

Only presentation attributes are written, so that a page with a strict content security policy shows the figure.
Widths of text are estimated from above, by kind of letter, so that no label is cut off or runs into another.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import math
from collections.abc import Sequence
from typing import Any

import msgspec

INK, SOFT, RULE, PAPER = "#1b1f24", "#57606a", "#dfe3e8", "#ffffff"
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#a85a8a", "#56b4e9"
"""Okabe and Ito's colours, which people with any common colour blindness tell apart (purple darkened for print)."""
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
WIDTH = 680.0
LEFT, RIGHT = 24.0, 24.0
MAX_LABEL = 120
MAX_SHOWN_ROWS = 5_000

_NARROW = frozenset("iljtfrI.,:;'|!()[] -")
_WIDE = frozenset("mwMW@%—…")


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A drawn figure and the same figures as a table."""

    title: str
    description: str
    svg: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    """JSON values, one list a row."""


class Key(msgspec.Struct, frozen=True):
    """One entry of a legend."""

    label: str
    colour: str
    dash: str = ""
    mark: str = "line"
    """line, disc, diamond, ring or bar."""


def width_of(text: str, size: float) -> float:
    """An upper estimate of the width of a text, in the figure's units."""
    total = 0.0
    for letter in text:
        if letter in _NARROW:
            total += 0.38
        elif letter in _WIDE or ord(letter) > 0x2E80:
            total += 1.0
        elif letter.isupper():
            total += 0.74
        else:
            total += 0.62
    return total * size


def fit(text: str, size: float, room: float) -> str:
    """The text, or its beginning with an ellipsis where there is no room for all of it."""
    text = clean(text)
    if width_of(text, size) <= room:
        return text
    while text and width_of(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, size: float, room: float, most: int = 4) -> list[str]:
    """The text in lines that fit; the last of `most` lines ends in an ellipsis when more would be needed."""
    lines: list[str] = []
    line = ""
    words = clean(text, 2_000).split()
    for i, word in enumerate(words):
        longer = f"{line} {word}".strip()
        if not line or width_of(longer, size) <= room:
            line = longer
        elif len(lines) == most - 1:
            line = " ".join([line, *words[i:]])
            break
        else:
            lines.append(line)
            line = word
    return [fit(part, size, room) for part in [*lines, line] if part]


def clean(text: str, most: int = MAX_LABEL) -> str:
    """Printable characters only, on one line, not too many."""
    kept = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * most])
    kept = " ".join(kept.split())
    return kept if len(kept) <= most else kept[: most - 1] + "…"


class Pen:
    """Collects the elements of one figure; y grows downwards."""

    def __init__(self, width: float = WIDTH) -> None:
        self.width = width
        self.parts: list[str] = []

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str = RULE,
        wide: float = 1.0,
        dash: str = "",
    ) -> None:
        """A straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{colour}" '
            f'stroke-width="{_n(wide)}"{dashed}/>'
        )

    def path(
        self, points: Sequence[tuple[float, float]], colour: str, wide: float = 2.0, dash: str = ""
    ) -> None:
        """A line through points."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        through = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self.parts.append(
            f'<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="{_n(wide)}" '
            f'stroke-linejoin="round" stroke-linecap="round"{dashed}/>'
        )

    def area(self, points: Sequence[tuple[float, float]], colour: str, opacity: float = 0.15) -> None:
        """A filled area."""
        through = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self.parts.append(f'<polygon points="{through}" fill="{colour}" fill-opacity="{_n(opacity)}"/>')

    def box(self, x: float, y: float, wide: float, high: float, colour: str, edge: str = "") -> None:
        """A rectangle."""
        stroke = f' stroke="{edge}"' if edge else ""
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(wide, 0.0))}" height="{_n(max(high, 0.0))}" '
            f'fill="{colour}"{stroke}/>'
        )

    def mark(self, kind: str, x: float, y: float, colour: str, size: float = 4.5) -> None:
        """A disc, dot (a disc without a rim), ring or diamond."""
        if kind == "diamond":
            s = size * 1.35
            points = " ".join(f"{_n(a)},{_n(b)}" for a, b in ((x, y - s), (x + s, y), (x, y + s), (x - s, y)))
            self.parts.append(f'<polygon points="{points}" fill="{colour}" stroke="{PAPER}"/>')
        else:
            fill, edge = (PAPER, colour) if kind == "ring" else (colour, colour if kind == "dot" else PAPER)
            self.parts.append(
                f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(size)}" fill="{fill}" stroke="{edge}" stroke-width="1.2"/>'
            )

    def text(
        self, x: float, y: float, words: str, size: float = 12.0, colour: str = INK, anchor: str = "start",
        bold: bool = False, turn: float = 0.0,
    ) -> None:  # fmt: skip
        """One line of text on the base line y."""
        more = ' font-weight="bold"' if bold else ""
        if turn:
            more += f' transform="rotate({_n(turn)} {_n(x)} {_n(y)})"'
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{colour}" text-anchor="{anchor}"{more}>'
            f"{html.escape(words)}</text>"
        )

    def heading(self, title: str, lines: Sequence[str]) -> float:
        """Title and subtitle; returns the y below them."""
        y = 28.0
        for part in wrap(title, 17.0, self.width - LEFT - RIGHT, 2):
            self.text(LEFT, y, part, 17.0, bold=True)
            y += 21.0
        for line in lines:
            for part in wrap(line, 12.5, self.width - LEFT - RIGHT):
                self.text(LEFT, y, part, 12.5, SOFT)
                y += 17.0
        return y + 2.0

    def legend(self, keys: Sequence[Key], y: float) -> float:
        """A legend in as many lines as it takes; returns the y below it."""
        x, room = LEFT, self.width - RIGHT
        for key in keys:
            label = fit(key.label, 12.0, room - LEFT - 34.0)
            wide = 34.0 + width_of(label, 12.0) + 14.0
            if x > LEFT and x + wide > room:
                x, y = LEFT, y + 19.0
            if key.mark == "bar":
                self.box(x + 6, y - 9, 14, 10, key.colour)
            elif key.mark == "line":
                self.line(x, y - 4, x + 26, y - 4, key.colour, 2.4, key.dash)
            else:
                self.mark(key.mark, x + 13, y - 4, key.colour)
            self.text(x + 34.0, y, label, 12.0)
            x += wide
        return y + 14.0 if keys else y

    def finish(self, height: float, title: str, description: str) -> str:
        """The whole SVG, with its title and description for those who cannot see it."""
        body = "".join(self.parts)
        mark = hashlib.sha256(f"{title}\n{description}\n{body}".encode()).hexdigest()[:12]
        wide, high = _n(self.width), _n(math.ceil(height))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="t{mark} d{mark}" '
            f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" font-family="{html.escape(FONT)}">'
            f'<title id="t{mark}">{html.escape(clean(title))}</title>'
            f'<desc id="d{mark}">{html.escape(clean(description, 2_000))}</desc>'
            f'<rect width="{wide}" height="{high}" fill="{PAPER}"/>{body}</svg>'
        )


class Frame:
    """A plot with two axes inside a figure: maps values to places, draws grid, ticks and labels."""

    def __init__(
        self, pen: Pen, top: float, high: float, x: tuple[float, float], y: tuple[float, float],
        x_label: str, y_label: str, *, percent: tuple[bool, bool] = (False, False), wide: float | None = None,
    ) -> None:  # fmt: skip
        self.pen, self.top, self.bottom = pen, top, top + high
        self.x, self.y = x, y
        self.y_ticks = ticks(*y)
        shown = [shown_tick(t, self.y_ticks, percent[1]) for t in self.y_ticks]
        self.left = LEFT + 22.0 + max(width_of(s, 11.5) for s in shown) + 6.0
        self.right = pen.width - RIGHT - 10.0 if wide is None else self.left + wide
        for t, s in zip(self.y_ticks, shown, strict=True):
            pen.line(self.left, self.at_y(t), self.right, self.at_y(t))
            pen.text(self.left - 7, self.at_y(t) + 4, s, 11.5, SOFT, "end")
        x_ticks = ticks(*x)
        labels = [shown_tick(t, x_ticks, percent[0]) for t in x_ticks]
        step = 1
        while len(x_ticks) > 2 and self._crowded(x_ticks[::step], labels[::step]):
            step += 1
        for t, s in zip(x_ticks[::step], labels[::step], strict=True):
            pen.line(self.at_x(t), self.bottom, self.at_x(t), self.bottom + 5, SOFT)
            pen.text(self.at_x(t), self.bottom + 18, s, 11.5, SOFT, "middle")
        pen.line(self.left, self.bottom, self.right, self.bottom, SOFT)
        middle = (self.left + self.right) / 2
        pen.text(middle, self.bottom + 37, fit(x_label, 12.5, self.right - self.left), 12.5, INK, "middle")
        words = fit(y_label, 12.5, high + 30)
        pen.text(LEFT + 6, (self.top + self.bottom) / 2, words, 12.5, INK, "middle", turn=-90.0)
        self.below = self.bottom + 48.0

    def _crowded(self, at: Sequence[float], labels: Sequence[str]) -> bool:
        spans = [(self.at_x(t), width_of(s, 11.5) / 2 + 5) for t, s in zip(at, labels, strict=True)]
        return any(a + w > b - v for (a, w), (b, v) in itertools.pairwise(spans))

    def at_x(self, value: float) -> float:
        """Place of an x value."""
        low, high = self.x
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def at_y(self, value: float) -> float:
        """Place of a y value."""
        low, high = self.y
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place of a point."""
        return self.at_x(x), self.at_y(y)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most `most` or so."""
    span = high - low
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * s for s in (1.0, 2.0, 2.5, 5.0, 10.0) if power * s >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def shown_tick(value: float, among: Sequence[float], percent: bool) -> str:
    """A tick with as many digits as its neighbours need."""
    step = abs(among[1] - among[0]) if len(among) > 1 else abs(value) or 1.0
    scale = 100.0 if percent else 1.0
    step *= scale
    digits = next((d for d in range(12) if abs(round(step, d) - step) < 1e-5 * step), 2)
    text = f"{value * scale:,.{digits}f}"
    text = text.replace("-0", "0") if float(text.replace(",", "")) == 0 else text
    return text + ("%" if percent else "")


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if value == value else "0"
