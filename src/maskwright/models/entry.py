"""What the zoo says of a model: its config, its classes, its published weights and where they come from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from maskwright.errors import WeightsError
from maskwright.models.base import Config
from maskwright.nn.backbones import OUR_BACKBONES, check_backbone
from maskwright.types import Classes
from maskwright.weights.fetch import LARGEST, OnBytes, fetch
from maskwright.weights.files import read


@dataclass(frozen=True)
class Published:
    """Trained weights.

    digest: the digits of the hash that the publisher gives, None where none is published. megabytes: None if not said.
    AP and panoptic quality (`pq`) in percent on `measured_on`, None if not published.
    """

    publisher: str
    url: str
    digest: str | None
    licence: str
    megabytes: float | None
    box_ap: float | None
    mask_ap: float | None = None
    keypoint_ap: float | None = None
    pq: float | None = None
    data: str = "COCO train2017"
    measured_on: str = "COCO val2017"

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def most(self) -> int:
        """Bytes that it has at most; a publisher's megabytes may be of either kind, and rounded."""
        return LARGEST if self.megabytes is None else int((self.megabytes + 1) * 1.1e6)


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    config: None where it is only known later: from the checkpoint in the package, or when a backbone is named.
    parameters: number of trainable values, without the statistics of norm layers. inside: file in the package.
    over: makes the config for a backbone; `name.BACKBONE` then names a model. follows: the publisher whose conventions
    it has, where no weights of it can be fetched. pretrained: it is meant to be trained from a backbone pretrained on
    ImageNet.
    """

    name: str
    summary: str
    config: Config | None
    classes: Classes
    parameters: int | None = None
    weights: Published | None = None
    inside: str | None = None
    over: Callable[[str], Config] | None = None
    follows: str | None = None
    pretrained: bool = False

    @property
    def publisher(self) -> str | None:
        """Whose conventions and names the weights have; None if they are ours."""
        return self.weights.publisher if self.weights else self.follows

    def named(self, backbone: str) -> "Entry":
        """The entry over one backbone, timm's or one of our own. ConfigError where there is none of this name."""
        assert self.over is not None
        check_backbone(backbone)
        whose = "" if backbone in OUR_BACKBONES else "timm's "
        what = f"{self.summary.partition(' over ')[0]}, {whose}{backbone}"
        name, config = f"{self.name}.{backbone}", self.over(backbone)
        return replace(self, name=name, summary=what, config=config, over=None, pretrained=True)

    def path(self, progress: bool | OnBytes = True) -> Path:
        """The file of the weights: in the package, in the cache, or fetched now. WeightsError if there is none."""
        if self.inside:
            place = Path(str(files("maskwright.weights") / self.inside))
            if not place.is_file():
                raise WeightsError(f"The weights of '{self.name}' should be at {place}; install maskwright again.")
            return place
        if self.weights is None:
            raise WeightsError(f"'{self.name}' has no weights that can be fetched. Train it, or give a file of yours.")
        return fetch(self.weights.url, self.weights.digest, check=read, progress=progress, most=self.weights.most)
