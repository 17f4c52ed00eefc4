"""Line and bar charts as inline SVG in the page's light or dark colours; values are shown as tooltips.

Coordinates inside a chart are SVG units, y downwards. All text is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from maskwright.report.page import Html, escape, joined

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 76, 22, 12, 46
COLORS = 8
"""Number of series colours that the page's style defines; further series reuse them."""

MOST_POINTS = 200
"""A longer line is drawn through the means of this many intervals."""

DOTS = 30
"""Up to this many points of a line are marked with dots."""

LEGEND = 12
"""With more series than this, their names are shown as tooltips only."""

ChartPoint = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line. points: (x, y) with rising x; a y that is not finite leaves a gap. thin: one of very many lines."""

    name: str
    points: Sequence[ChartPoint]
    thin: bool = False


@dataclass(frozen=True)
class Bars:
    """One group of bars: its name and a value per bar, None where there is no value."""

    name: str
    values: Sequence[float | None]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: ChartPoint | None = None,
    y_range: ChartPoint | None = None,
) -> Html:
    """Lines over a common x axis. Without ranges the axes fit the values, y from 0. Without values, a placeholder."""
    lines = [Series(s.name, shortened(s.points), s.thin) for s in series]
    known = [p for s in lines for p in s.points if math.isfinite(p[1])]
    if not known:
        return _figure(title, Html('<p class="none">Nothing to draw yet.</p>'), [])
    xs, ys = [x for x, _ in known], [y for _, y in known]
    across = _Axis(x_range or (min(xs), max(xs)), LEFT, WIDTH - RIGHT)
    up = _Axis(y_range or (min(0.0, *ys), max(ys) * 1.05), HEIGHT - BOTTOM, TOP)
    parts = [_grid(across, up, x_label, y_label), _bands(lines, across, x_label)]
    order = sorted(range(len(lines)), key=lambda i: not lines[i].thin)
    parts += [_line(lines[i], i, across, up) for i in order]
    named = [(i, s.name) for i, s in enumerate(lines) if not s.thin]
    return _figure(title, _svg(title, joined(parts)), named if 1 < len(named) <= LEGEND else [])


def bar_chart(title: str, names: Sequence[str], groups: Sequence[Bars], *, y_label: str, most: float = 1.0) -> Html:
    """Grouped bars of values in 0..`most`: `names` label the x axis, and each group has one value per name."""
    up = _Axis((0.0, most), HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(len(names), 1)
    width = min(46.0, step * 0.8 / max(len(groups), 1))
    parts = [_rows(up, y_label)]
    for k, name in enumerate(names):
        middle = LEFT + (k + 0.5) * step
        parts.append(Html(f'<text class="tick" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
                          f"{escape(name)}</text>"))  # fmt: skip
        for g, group in enumerate(groups):
            parts.append(_bar(group, k, g, middle + (g - len(groups) / 2) * width, width, up))
    legend = [(g, group.name) for g, group in enumerate(groups)] if len(groups) > 1 else []
    return _figure(title, _svg(title, joined(parts)), legend)


def _bar(group: Bars, k: int, color: int, x: float, width: float, up: "_Axis") -> Html:
    value = group.values[k]
    middle, base = x + width / 2, up(0.0)
    if value is None:
        return Html(f'<text class="value" x="{middle:.1f}" y="{base - 5:.1f}" text-anchor="middle">none</text>')
    top = up(value)
    return Html(
        f'<g><title>{escape(group.name)}: {value:.3f}</title><rect class="b{color % COLORS}" x="{x + 1.5:.1f}" '
        f'y="{top:.1f}" width="{width - 3:.1f}" height="{base - top:.1f}" rx="2"/>'
        f'<text class="value" x="{middle:.1f}" y="{top - 5:.1f}" text-anchor="middle">{_short(value)}</text></g>'
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def shortened(points: Sequence[ChartPoint], most: int = MOST_POINTS) -> list[ChartPoint]:
    """At most `most` points: the means of intervals with equally many points, ignoring gaps."""
    if len(points) <= most:
        return list(points)
    out = []
    for k in range(most):
        part = points[k * len(points) // most : (k + 1) * len(points) // most]
        values = [y for _, y in part if math.isfinite(y)]
        out.append((part[-1][0], sum(values) / len(values) if values else math.nan))
    return out


# ---- axes -------------------------------------------------------------------------------------------------------


class _Axis:
    """Maps a range of values to a range of SVG units."""

    def __init__(self, values: ChartPoint, start: float, stop: float) -> None:
        low, high = values
        if not high > low:
            low, high = low - 0.5, low + 0.5
        self.low, self.high, self.start, self.stop = low, high, start, stop

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, most: int) -> list[float]:
        """At most `most` + 1 round numbers inside the range, at steps of 1, 2 or 5 times a power of ten."""
        span = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(span))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= span * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def number(value: float) -> str:
    """A number in at most four digits, thousands as k, very small ones with a power of ten."""
    if 0 < abs(value) < 1e-2:
        digits, power = f"{value:.3e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value / 1000:.4g}k" if abs(value) >= 10000 else f"{value:.4g}"


def _rows(up: _Axis, label: str) -> Html:
    parts = []
    for value in up.ticks(6):
        y = up(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="label" transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
                 f"{escape(label)}</text>")  # fmt: skip
    return Html("".join(parts))


def _grid(across: _Axis, up: _Axis, x_label: str, y_label: str) -> Html:
    parts = [str(_rows(up, y_label))]
    bottom = HEIGHT - BOTTOM
    for value in across.ticks(6):
        x = across(value)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{number(value)}</text>'
        )
    parts.append(f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f"{escape(x_label)}</text>")  # fmt: skip
    return Html("".join(parts))


# ---- lines ------------------------------------------------------------------------------------------------------


def _line(series: Series, color: int, across: _Axis, up: _Axis) -> Html:
    name, kind = escape(series.name), "thin" if series.thin else f"s{color % COLORS}"
    parts = []
    for drawn, run in groupby(series.points, key=lambda p: math.isfinite(p[1])):
        spots = [(across(x), up(min(max(y, up.low), up.high))) for x, y in run] if drawn else []
        if len(spots) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            parts.append(f'<polyline class="{kind}" points="{path}"/>')
        if len(spots) == 1 or (len(series.points) <= DOTS and not series.thin):
            parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
    return Html(f"<g><title>{name}</title>{''.join(parts)}</g>")


def _bands(series: Sequence[Series], across: _Axis, x_label: str) -> Html:
    """Invisible vertical bands, one for each x, whose tooltips show all values there."""
    shown = [s for s in series if not s.thin]
    values: dict[float, list[str]] = {}
    for s in shown:
        for x, y in s.points:
            if math.isfinite(y):
                values.setdefault(x, []).append(f"{s.name}: {number(y)}" if len(shown) > 1 else number(y))
    xs = sorted(x for x in values if across.low <= x <= across.high)
    edges = [across(x) for x in xs]
    middles = [LEFT, *((a + b) / 2 for a, b in pairwise(edges)), WIDTH - RIGHT]
    return Html(
        "".join(
            f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{max(right - left, 0.1):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}" data-x="{edge:.1f}"><title>{escape(x_label)} {number(x)}\n'
            + escape("\n".join(values[x][:LEGEND]))
            + "</title></rect>"
            for x, edge, left, right in zip(xs, edges, middles[:-1], middles[1:], strict=True)
        )
    )


def _svg(title: str, content: Html) -> Html:
    return Html(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{content}</svg>')


def _figure(title: str, content: Html, legend: Sequence[tuple[int, str]]) -> Html:
    entries = "".join(f'<li><i class="b{k % COLORS}"></i>{escape(name)}</li>' for k, name in legend)
    below = f'<ul class="legend">{entries}</ul>' if entries else ""
    return Html(f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{content}{below}</figure>')
