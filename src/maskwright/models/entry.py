"""What the zoo says of a model: its config, its classes, its published weights and where they come from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError, WeightsError
from maskwright.models.base import Model
from maskwright.models.families import family_of
from maskwright.nn.backbones import OUR_BODIES, check_backbone
from maskwright.types import Classes
from maskwright.weights.fetch import OnBytes, fetch
from maskwright.weights.files import read


@dataclass(frozen=True)
class Published:
    """Trained weights.

    digest: the digits of the hash that the publisher gives, None where none is published. megabytes: None if not said.
    AP in percent on `measured_on`, None if not published.
    """

    publisher: str
    url: str
    digest: str | None
    licence: str
    megabytes: float | None
    box_ap: float | None
    mask_ap: float | None
    data: str = "COCO train2017"
    measured_on: str = "COCO val2017"

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    config: None where it is only known later: from the checkpoint in the package, or when a backbone is named.
    parameters: number of trainable values, without the statistics of norm layers. inside: file in the package.
    over: makes the config for a backbone; `name.BACKBONE` then names a model. follows: whose conventions it has, where
    those did not publish weights of it that can be fetched.
    """

    name: str
    summary: str
    config: Any | None
    classes: Classes
    parameters: int | None = None
    weights: Published | None = None
    inside: str | None = None
    over: Callable[[str], Any] | None = None
    follows: str | None = None

    @property
    def publisher(self) -> str | None:
        """Whose conventions and names the weights have; None if they are ours."""
        return self.weights.publisher if self.weights else self.follows

    def build(self, classes: Classes | None = None) -> Model:
        """The model with random weights, for `classes` or the published ones. ConfigError where a part is not named."""
        if self.config is None:
            raise ConfigError(
                f"'{self.name}' is rebuilt from its checkpoint; it cannot be built without."
                if self.inside
                else f"'{self.name}' needs a backbone: '{self.name}.NAME' with a timm model, e.g. "
                f"'{self.name}.convnext_tiny'."
            )
        return family_of(self.config).model(replace(self.config, num_classes=len(classes or self.classes)))

    def named(self, backbone: str) -> "Entry":
        """The entry over one backbone, timm's but for a few of ours. ConfigError where nobody knows it."""
        assert self.over is not None
        check_backbone(backbone)
        whose = "" if backbone in OUR_BODIES else "timm's "
        what = f"{self.summary.partition(' over ')[0]}, {whose}{backbone}"
        return replace(self, name=f"{self.name}.{backbone}", summary=what, config=self.over(backbone), over=None)

    def path(self, progress: bool | OnBytes = True) -> Path:
        """The file of the weights: in the package, in the cache, or fetched now. WeightsError if there is none."""
        if self.inside:
            place = Path(str(files("maskwright.weights") / self.inside))
            if not place.is_file():
                raise WeightsError(f"The weights of '{self.name}' should be at {place}; install maskwright again.")
            return place
        if self.weights is None:
            raise WeightsError(f"'{self.name}' has no weights that can be fetched. Train it, or give a file of yours.")
        return fetch(self.weights.url, self.weights.digest, check=read, progress=progress)
