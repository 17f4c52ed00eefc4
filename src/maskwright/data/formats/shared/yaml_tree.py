"""YAML files, read safely: every value stays the text it is, and nothing in a file can grow.

A few letters, an alias, may stand for a whole list or table, so that a small file means billions of values, or itself:
only aliases of texts are read. Depth and size are limited, as the parser is slow and calls itself for each level.
"""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from maskwright.data.formats.shared.fields import MOST_LEVELS, read_text
from maskwright.errors import DataError

MOST_CHARACTERS = 1_000_000
"""Of a file that is read: a hundred times what the longest lists of classes take."""


def read_yaml(source: Path) -> Any:
    """The lists, tables and texts of a file. Raises DataError, naming the line, where it is not plain YAML."""
    text = read_text(source)
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"{source}: {len(text)} characters, at most {MOST_CHARACTERS} are read. Is it another file?")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise DataError(f"{source}: not valid YAML{line} ({problem}).") from error


class _Loader(yaml.BaseLoader):  # no conversion: a class may be called "no"
    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event, self.level = self.peek_event(), self.level + 1
        if self.level > MOST_LEVELS:
            text = f"lists and tables lie in each other on more than {MOST_LEVELS} levels"
            raise yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        if isinstance(event, yaml.AliasEvent) and not isinstance(node, yaml.ScalarNode):
            text = f"the alias *{event.anchor} stands for a list or table: write it out"
            raise yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)
        return node
