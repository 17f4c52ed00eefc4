"""Pages and charts: everything is escaped, and lines are where their values are."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from tests.reference.page_checker import EVIL, checked

from maskwright.report import charts, page
from maskwright.report.charts import Bars, Series, line_chart, shortened


def test_everything_is_escaped() -> None:
    text = page.page(
        EVIL,
        EVIL,
        [
            page.tiles([(EVIL, EVIL)]),
            page.facts(EVIL, [(EVIL, EVIL)]),
            page.notes(EVIL, [EVIL]),
            page.table([page.Column(EVIL, EVIL), page.Column("AP", share=True)], [[EVIL, 0.5], [EVIL, None]]),
            page.swatches([("#fff", EVIL)]),
            page.section(EVIL, [page.examples([page.Example(EVIL, EVIL, b"1", b"2")])], EVIL),
            line_chart(EVIL, [Series(EVIL, [(0, 1), (1, 2)]), Series(EVIL, [(0, 1)])], x_label=EVIL, y_label=EVIL),
            charts.bar_chart(EVIL, [EVIL], [Bars(EVIL, [0.5]), Bars(EVIL, [None])], y_label=EVIL),
        ],
    )
    checker = checked(text)
    shown = EVIL.replace("\x00", "\ufffd")
    assert "".join(checker.words).count(shown) > 20
    assert "\x00" not in text
    text.encode("utf-8")
    page.page("\ud800", "", []).encode("utf-8")


def test_a_page_without_anything() -> None:
    assert checked(page.page("", "", [])).count("section") == 0
    assert page.notes("Notes", []) == ""


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(3.0, 0.5)],
        [(0.0, float("nan")), (1.0, float("inf"))],
        [(0.0, 1.0), (1.0, float("nan")), (2.0, 3.0), (3.0, 4.0)],
        [(k, 0.0) for k in range(3)],
        [(k, -1e6 * k) for k in range(1000)],
        [(k * 1e9, 1e-7) for k in range(5)],
    ],
)
def test_lines_of_any_values(points: Sequence[tuple[float, float]]) -> None:
    svg = line_chart("a", [Series("b", points), Series("c", points[:1])], x_label="x", y_label="y")
    checker = checked(page.page("", "", [svg]))
    finite = [p for p in points if np.isfinite(p[1])]
    assert (checker.count("svg") == 1) == bool(finite)
    numbers = [float(v) for v in re.findall(r'(?:cx|cy|x1|y1|x2|y2)="([-0-9.]+)"', svg)]
    numbers += [float(v) for points in re.findall(r'points="([^"]*)"', svg) for v in re.split("[ ,]", points)]
    assert all(-1 <= v <= charts.WIDTH + 1 for v in numbers)
    assert len(svg) < 60_000


def test_the_line_is_where_its_values_are() -> None:
    svg = line_chart("", [Series("a", [(0, 0), (10, 1)])], x_label="", y_label="", x_range=(0, 10), y_range=(0, 1))
    bottom, right = charts.HEIGHT - charts.BOTTOM, charts.WIDTH - charts.RIGHT
    assert f'points="{charts.LEFT:.1f},{bottom:.1f} {right:.1f},{charts.TOP:.1f}"' in svg
    assert "10\n1</title>" in svg


def test_long_lines_keep_their_means_and_gaps() -> None:
    points = [(float(k), float(k % 2)) for k in range(1000)]
    short = shortened(points, 100)
    assert len(short) == 100
    assert {y for _, y in short} == {0.5}
    assert short[-1][0] == 999
    assert np.isnan(shortened([(k, float("nan")) for k in range(300)], 10)[0][1])
    assert shortened(points[:5]) == points[:5]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.5, "0.5"), (2e-4, "2e-4"), (123456.0, "123.5k"), (-0.25, "-0.25"), (9999, "9999"), (1, "1")],
)
def test_numbers(value: float, text: str) -> None:
    assert charts.number(value) == text
