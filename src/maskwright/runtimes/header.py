"""What an exported file says of itself: a JSON text in its metadata, with what a checkpoint's header has and more.

`config`, `classes`, `family` and `architecture` are those of a checkpoint. The config has the input and output specs
that the file was exported with. `limits`: of its rows. `input`: [H, W] where the graph takes inputs of one size alone,
else null. `semantic`: names and ids of the classes of a semantic map, or null. `precision`: "float32" or "int8".
`made_with`: versions. `measured`: how the file differed from PyTorch when it was written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maskwright.codec import decode, encode
from maskwright.errors import MaskwrightError, WeightsError
from maskwright.models import zoo
from maskwright.models.base import Config
from maskwright.types import Classes, Limits, Size

KEY = "maskwright"
"""Of the text in a file's metadata."""


@dataclass(frozen=True)
class Header:
    """See above. facts: everything that was stored."""

    config: Config
    classes: Classes
    limits: Limits
    input: Size | None = None
    semantic: Classes | None = None
    precision: str = "float32"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def text(self, **more: Any) -> str:
        """As JSON. more: further facts, which `parsed` gives back."""
        semantic = self.semantic
        values = {
            **zoo.describe(self.config, self.classes, str(self.facts.get("architecture", ""))),
            "limits": encode(self.limits),
            "input": self.input,
            "semantic": None if semantic is None else {"names": list(semantic.names), "ids": list(semantic.ids)},
            "precision": self.precision,
        }
        return json.dumps({**self.facts, **values, **more}, ensure_ascii=False, allow_nan=False)


def parsed(text: str | None, source: object) -> Header:
    """The header of a file. Raises WeightsError, naming the file, for one that is missing or damaged."""
    if text is None:
        raise WeightsError(
            f"{source} was not written by maskwright export: it does not say how images become its input. Export the "
            "checkpoint that it was made of: maskwright export CHECKPOINT --out FILE."
        )
    try:
        facts = json.loads(text)
        config, classes = zoo.network_of(facts, source)
        side, semantic = facts["input"], facts["semantic"]
        return Header(
            config,
            classes,
            decode(Limits, facts["limits"]),
            None if side is None else (int(side[0]), int(side[1])),
            None if semantic is None else Classes(semantic["names"], semantic["ids"]),
            str(facts["precision"]),
            facts,
        )
    except WeightsError:
        raise
    except (MaskwrightError, ValueError, TypeError, LookupError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise WeightsError(f"{source}: what it says of itself is damaged ({reason}). Export it again.") from error
