"""Every metric by name. A new one is a file beside this and a row here."""

from collections.abc import Iterable

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.metrics.coco import CocoMetric
from maskwright.metrics.metric import Metric, MetricKind, MetricOptions
from maskwright.metrics.nuclei import NucleiMetric

METRICS: dict[str, MetricKind] = {
    "coco": MetricKind(CocoMetric.make),
    "nuclei": MetricKind(NucleiMetric.make, needs_masks=True, uses_score=True),
}
"""The order is that of tables and pages."""

ALWAYS = ("coco",)
"""Measured whether asked for or not."""


def make(names: Iterable[str], dataset: Dataset, options: MetricOptions) -> dict[str, Metric]:
    """The metrics of these names and those of `ALWAYS`, in the order of the table.

    Raises ConfigError for an unknown name, DataError where a metric needs masks that the data set does not have.
    """
    asked = {*ALWAYS, *names}
    for name in sorted(asked - METRICS.keys()):
        raise ConfigError(f"There is no metric '{name}'.{suggest(name, METRICS)}", options=("metrics",))
    kinds = {name: kind for name, kind in METRICS.items() if name in asked}
    for name, kind in kinds.items():
        if kind.needs_masks and not dataset.has_masks:
            raise DataError(f"{dataset.source}: some annotations have only a box, and the {name} metric needs masks.")
    return {name: kind.make(dataset, options) for name, kind in kinds.items()}
