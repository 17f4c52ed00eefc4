"""XML annotation files, read safely and with the line of every element, and written as text.

A document type declaration is refused before anything in it is expanded: entities can grow without bound or name other
files, and no annotation tool writes one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from maskwright.data.formats.shared.fields import MOST_LEVELS, read_bytes
from maskwright.errors import DataError

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LINE = " line"  # no attribute of a file can have a space in its name


def read_xml(path: Path) -> Element:
    """The root element of a file. Raises DataError, with line and column, for what is not whole, plain XML."""
    return parse_xml(read_bytes(path), str(path))


def parse_xml(content: bytes, name: str) -> Element:
    """The root element of `content`; `name` is what messages call it."""
    builder, parser, level = TreeBuilder(), expat.ParserCreate(), 0
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal level
        level += 1
        if level > MOST_LEVELS:
            text = f"elements lie in each other on more than {MOST_LEVELS} levels; no annotation tool writes this."
            raise DataError(f"{name}: line {parser.CurrentLineNumber}: {text}")
        builder.start(tag, {**attributes, _LINE: str(parser.CurrentLineNumber)})

    def end(tag: str) -> None:
        nonlocal level
        level -= 1
        builder.end(tag)

    def declared(*_: Any) -> None:
        raise DataError(
            f"{name}: line {parser.CurrentLineNumber}: document type declarations (<!DOCTYPE) are refused: they can "
            f"make a file grow without bound or include others. Remove it."
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = declared
    parser.EntityDeclHandler = declared
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(
            f"{name}: not valid XML at line {error.lineno}, column {error.offset + 1} "
            f"({expat.ErrorString(error.code)}). Was the file cut off or edited by hand?"
        ) from error
    except DataError:
        raise
    except (ValueError, LookupError) as error:
        raise DataError(f"{name}: not XML text ({error}).") from error
    return builder.close()


def line(element: Element) -> int:
    """The line of the file on which the element begins."""
    return int(element.attrib[_LINE])


def text_of(element: Element, path: str) -> str | None:
    """The text of the element at `path` below, without spaces around it; None where there is none."""
    found = element.findtext(path)
    return None if found is None or not found.strip() else found.strip()


def tag(name: str, values: Mapping[str, object], end: str = ">") -> str:
    """`<name key="value" ...>` with everything escaped; end "/>" closes it. Raises DataError for control characters."""
    return f"<{name}{''.join(f' {k}={quoteattr(_clean(str(v)))}' for k, v in values.items())}{end}"


def node(name: str, text: object) -> str:
    """`<name>text</name>`, escaped."""
    return f"<{name}>{plain(text)}</{name}>"


def plain(text: object) -> str:
    """Text for between two tags, escaped."""
    return escape(_clean(str(text)))


def _clean(text: str) -> str:
    bad = _FORBIDDEN.search(text)
    if bad:
        raise DataError(f"{text!r} holds the character {bad[0]!r}, which XML cannot. Rename it.")
    return text
