"""The YOLACT family: YOLACT and YOLACT++. Start reading at `network`."""

from maskwright.models.yolact.config import LossConfig as LossConfig
from maskwright.models.yolact.config import NMSConfig as NMSConfig
from maskwright.models.yolact.config import NMSKind as NMSKind
from maskwright.models.yolact.config import YolactConfig as YolactConfig
from maskwright.models.yolact.explanation import best_score as best_score
from maskwright.models.yolact.explanation import explain as explain
from maskwright.models.yolact.fast import FAST as FAST
from maskwright.models.yolact.keys import CLASS_ROWS as CLASS_ROWS
from maskwright.models.yolact.keys import NAMES as NAMES
from maskwright.models.yolact.network import Yolact as Yolact
from maskwright.models.yolact.variants import compact as compact
from maskwright.models.yolact.variants import plus as plus
from maskwright.models.yolact.variants import published as published
from maskwright.models.yolact.variants import timm_yolact as timm_yolact
from maskwright.models.yolact.variants import tiny as tiny
from maskwright.models.yolact.variants import tiny_variants as tiny_variants
from maskwright.models.yolact.zoo import ENTRIES as ENTRIES
