"""The video models of the zoo.

Source: YolactEdge's README (its files must be downloaded by hand). AP is not comparable with COCO's: it was measured on
frames of a part of YouTube-VIS 2019's training set.
"""

from maskwright.models.entry import Entry
from maskwright.models.yolact_edge import variants
from maskwright.types import Classes

_NAMES = """\
person · giant_panda · lizard · parrot · skateboard · sedan · ape · dog · snake · monkey · hand · rabbit · duck · cat ·
cow · fish · train · horse · turtle · bear · motorbike · giraffe · leopard · fox · deer · owl · surfboard · airplane ·
truck · zebra · tiger · elephant · snowboard · boat · shark · mouse · frog · eagle · earless_seal · tennis_racket"""

YOUTUBE_VIS = Classes([name.strip() for name in _NAMES.split("·")])
"""The 40 classes of YouTube-VIS 2019 in the order of their ids, 1 to 40."""

_HAND = "its file must be downloaded by hand"

# fmt: off
ENTRIES = (
    Entry("yolact_edge_vid_r50", f"YolactEdge for video, ResNet-50, 550 pixels, 40 classes; {_HAND}",
        variants.published(), YOUTUBE_VIS, 35_269_055, follows="yolact"),
    Entry("yolact_edge_vid_r101", f"YolactEdge for video, ResNet-101, 550 pixels, 40 classes; {_HAND}",
        variants.published(backbone="resnet101"), YOUTUBE_VIS, 54_208_959, follows="yolact"),
)
# fmt: on
