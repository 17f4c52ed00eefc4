"""Rules from the names of YolactEdge's video files to ours; what they share with YOLACT is in `yolact.keys`.

Ours: `flow.pre`, `flow.encoder.L.K`, `flow.predictors.L.{flow,scale,bias}`, `flow.{enlarge,enlarge_flow}.L` of level L
(0 the finest; theirs are counted from 1), `refine.L` of the carried levels.

Letters: L level, K layer.
"""

from collections.abc import Mapping

from torch import Tensor

from maskwright.models.yolact.keys import rules
from maskwright.weights.keyrules import END, Converted, NameRule, NamingScheme, apply, unwrapped

SIGN = r"(module\.)?(net\.)?flow_net(_pre_convs)?\."
"""Matches the beginning of names that only these files have."""

_KINDS = {"conv": "flow", "scale": "scale", "bias": "bias"}

_CARRY: tuple[NameRule, ...] = (
    NameRule(r"flow_net_pre_convs\.convs\.0\.0\." + END, r"flow.pre.0.\1"),
    NameRule(r"flow_net\.conv([1-9])\.([01])\.0\." + END, lambda m: f"flow.encoder.{int(m[1]) - 1}.{m[2]}.0.{m[3]}"),
    # of the finest level, which is not carried: never used there
    NameRule(r"flow_net\.pred1\.(scale|bias)\." + END, None),
    NameRule(
        r"flow_net\.pred([1-9])\.(conv|scale|bias)\." + END,
        lambda m: f"flow.predictors.{int(m[1]) - 1}.{_KINDS[m[2]]}.{m[3]}",
    ),
    NameRule(r"flow_net\.upfeat([2-9])\." + END, lambda m: f"flow.enlarge.{int(m[1]) - 2}.{m[2]}"),
    NameRule(r"flow_net\.upflow([2-9])\." + END, lambda m: f"flow.enlarge_flow.{int(m[1]) - 2}.{m[2]}"),
    NameRule(r"spa\.refine_convs\.(\d+)\.0\." + END, r"refine.\1.conv.0.\2"),
)


def from_yolact_edge(state: Mapping[str, Tensor]) -> Converted:
    """Weights of YolactEdge's video models, published or trained by users."""
    state = unwrapped(state)
    return apply((*_CARRY, *rules(state)), state, "yolact")


NAMES = (NamingScheme("yolact", SIGN, from_yolact_edge),)
