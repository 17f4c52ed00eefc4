"""The YOLACT family: YOLACT and YOLACT++. `network` is the place to begin to read."""

from maskwright.models.yolact.config import LossConfig, NMSConfig, NMSKind, YolactConfig
from maskwright.models.yolact.explanation import best_score, explain
from maskwright.models.yolact.fast import FAST
from maskwright.models.yolact.keys import CLASS_ROWS, NAMES
from maskwright.models.yolact.network import Yolact
from maskwright.models.yolact.variants import compact, plus, published, timm_yolact, tiny, tiny_variants
from maskwright.models.yolact.zoo import ENTRIES

__all__ = [
    "CLASS_ROWS",
    "ENTRIES",
    "FAST",
    "NAMES",
    "LossConfig",
    "NMSConfig",
    "NMSKind",
    "Yolact",
    "YolactConfig",
    "best_score",
    "compact",
    "explain",
    "plus",
    "published",
    "timm_yolact",
    "tiny",
    "tiny_variants",
]
