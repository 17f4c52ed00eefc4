"""The page of a comparison: a table and a chart of the stages."""

import platform

from maskwright.benchmark.compare import STAGES, Comparison
from maskwright.report import charts
from maskwright.report import page as html
from maskwright.report.charts import Bars
from maskwright.report.page import Column
from maskwright.wording import counted


def page(comparison: Comparison) -> str:
    """One HTML file."""
    rows, best = comparison.rows, min(comparison.rows, key=lambda row: row.p50)
    stages = [name for name in STAGES if any(name in row.stages for row in rows)]
    columns = [
        Column("model"),
        Column("p50 ms", "of an image, from its file to the drawn overlay"),
        Column("p95 ms"),
        Column("images a second", "at the median"),
        Column("times", "as fast as the first"),
        Column("instances", "mean of an image"),
        Column("memory MB", "peak of a process of its own, with Python and what it imports"),
        *(Column(f"{name} ms", "median") for name in stages),
    ]
    values = [
        [
            row.name,
            *(round(v, 2) for v in (row.p50, row.p95, row.per_second, row.times, row.instances)),
            None if row.memory is None else round(row.memory),
            *(round(row.stages[name], 2) if name in row.stages else None for name in stages),
        ]
        for row in rows
    ]
    groups = [Bars(row.name, [row.stages.get(name) for name in stages]) for row in rows]
    most = max(value for row in rows for value in row.stages.values())
    lead = (
        f"{counted(comparison.images, 'image')}, {counted(comparison.turns, 'turn')}, "
        f"{counted(comparison.threads, 'thread')}; the models took turns in one process."
    )
    tiles = [
        ("fastest", best.name),
        ("images a second", f"{best.per_second:.2f}"),
        ("times the first", f"{best.times:.2f}"),
    ]
    chart = charts.bar_chart("Where the time goes", stages, groups, y_label="ms", most=most * 1.08)
    totals = [Bars(row.name, [row.p50, row.p95]) for row in rows]
    whole = charts.bar_chart("An image", ["p50", "p95"], totals, y_label="ms", most=max(row.p95 for row in rows) * 1.08)
    content = [
        html.tiles(tiles),
        html.section("Models", [html.table(columns, values)], lead),
        html.grid([whole, chart]),
    ]
    return html.page("Benchmark", f"maskwright, {platform.processor() or platform.machine()}", content)
