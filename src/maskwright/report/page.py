"""The elements of a report page, as HTML in which all text from outside is escaped.

A page is one self-contained file: style, script, charts and images are embedded, and a Content-Security-Policy forbids
the browser to request anything. Without JavaScript it still shows everything.
"""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NewType

Html = NewType("Html", str)
"""Markup that is safe to put into the page; `escape` makes it from plain text."""

_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Column:
    """A column of a table. hint: its tooltip. share: values lie in 0..1 and are drawn over a bar."""

    name: str
    hint: str = ""
    share: bool = False


@dataclass(frozen=True)
class Example:
    """An image of the data set, as two JPEGs: `found` with the predictions, `truth` with the annotations."""

    name: str
    caption: str
    found: bytes
    truth: bytes


def escape(text: object) -> Html:
    """Text as HTML, also for attributes; characters that are not allowed in HTML become U+FFFD."""
    clean = _FORBIDDEN.sub("\ufffd", str(text))
    return Html(html.escape(clean, quote=True))


def joined(parts: Iterable[Html]) -> Html:
    """Concatenate pieces of markup."""
    return Html("".join(parts))


def page(title: str, subtitle: str, content: Sequence[Html]) -> str:
    """The whole HTML file."""
    here = files("maskwright.report")
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    lines = "\n".join(content)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n<p>{escape(subtitle)}</p>\n</header>\n"
        f"<main>\n{lines}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def section(title: str, content: Sequence[Html], lead: str = "") -> Html:
    """A section with a heading, an optional sentence `lead` and its content."""
    words = f"<p>{escape(lead)}</p>" if lead else ""
    return Html(f"<section>\n<h2>{escape(title)}</h2>{words}\n" + "\n".join(content) + "\n</section>")


def grid(parts: Sequence[Html]) -> Html:
    """Charts side by side if the page is wide enough."""
    return Html(f'<div class="charts">{joined(parts)}</div>')


def tiles(values: Sequence[tuple[str, str]]) -> Html:
    """The main figures as large tiles: (name, value)."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values)
    return Html(f'<dl class="tiles">{cells}</dl>')


def facts(title: str, values: Sequence[tuple[str, object]], *, closed: bool = False) -> Html:
    """A collapsible list of names and values; closed: collapsed at first."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values)
    return Html(f"<details{'' if closed else ' open'}><summary>{escape(title)}</summary><dl>{rows}</dl></details>")


def notes(title: str, lines: Sequence[str]) -> Html:
    """A section with a list of sentences; empty without any."""
    if not lines:
        return Html("")
    return section(title, [Html(f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>')])


def table(columns: Sequence[Column], rows: Sequence[Sequence[str | float | None]]) -> Html:
    """A table, sortable by clicking on a column's head. None: no value."""
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" title="{escape(c.hint)}">{escape(c.name)}'
        "</button></th>"
        for c in columns
    )
    body = "\n".join(
        f"<tr>{joined(_cell(column, value) for column, value in zip(columns, row, strict=True))}</tr>" for row in rows
    )
    return Html(f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>')


def _cell(column: Column, value: str | float | None) -> Html:
    if value is None:
        return Html('<td class="number" data-value="-1">–</td>')
    if isinstance(value, str):
        return Html(f'<th scope="row" data-value="{escape(value)}">{escape(value)}</th>')
    if not column.share:
        return Html(f'<td class="number" data-value="{value:g}">{value:g}</td>')
    width = f"{100 * min(max(value, 0.0), 1.0):.1f}%"
    return Html(f'<td class="number share" style="--part:{width}" data-value="{value:.6f}">{value:.3f}</td>')


def examples(rows: Sequence[Example]) -> Html:
    """Images with predictions and annotations side by side."""
    return Html(f'<div class="examples">{joined(_example(row) for row in rows)}</div>')


def _example(row: Example) -> Html:
    name = escape(row.name)
    sides = "".join(
        f'<div><img loading="lazy" alt="{escape(what)}: {name}" src="{data_uri(jpeg, "jpeg")}">'
        f"<small>{escape(what)}</small></div>"
        for what, jpeg in (("found", row.found), ("annotated", row.truth))
    )
    return Html(
        f'<figure><div class="pair">{sides}</div><figcaption><b>{name}</b> {escape(row.caption)}</figcaption></figure>'
    )


def images(rows: Sequence[tuple[str, str, bytes]]) -> Html:
    """Images side by side: (name, caption, JPEG)."""
    figures = (
        f'<figure><img loading="lazy" alt="{escape(name)}" src="{data_uri(jpeg, "jpeg")}">'
        f"<figcaption><b>{escape(name)}</b> {escape(caption)}</figcaption></figure>"
        for name, caption, jpeg in rows
    )
    return Html(f'<div class="examples">{"".join(figures)}</div>')


def swatches(values: Sequence[tuple[str, str]]) -> Html:
    """A colour key: (colour as #rrggbb, meaning)."""
    entries = "".join(f'<li><i style="background:{escape(c)}"></i>{escape(text)}</li>' for c, text in values)
    return Html(f'<ul class="legend">{entries}</ul>')


def data_uri(content: bytes, kind: str) -> str:
    """An image file inside a page. kind: "jpeg" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
