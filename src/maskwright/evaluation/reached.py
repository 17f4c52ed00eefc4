"""What is said of the images of an evaluation beside their numbers: limits that were reached, and tiles."""

from collections import Counter
from dataclasses import dataclass, field

from maskwright.results.prediction import MISSING, Prediction, remedy
from maskwright.wording import counted


@dataclass
class Reached:
    """Of the images so far. usual: the lowest score that predictions show; below it no limit is a loss."""

    usual: float
    limited: int = 0
    limits: set[str] = field(default_factory=set)
    tiles: Counter[str] = field(default_factory=Counter)

    def look(self, found: Prediction) -> None:
        """Take in what was found in an image."""
        reached = {name for name, score in found.limits.items() if score >= self.usual}
        self.limited += bool(reached)
        self.limits |= reached
        if found.tiles:
            self.tiles[found.tiles] += 1

    def notes(self, own: int, most: int | None) -> tuple[str, ...]:
        """A sentence for each. own: the most instances of an image that the model reports; most: how many were asked
        for beyond that, None: none."""
        notes = [f"{text} ({counted(number, 'image')})" for text, number in self.tiles.items()]
        if most:
            notes.append(
                f"{most} instances of an image were asked for (max_instances): the data need more than the {own} that "
                "the model reports."
            )
        if self.limited:
            notes.append(f"{MISSING} in {counted(self.limited, 'image')}. {remedy(self.limits)}")
        return tuple(notes)
