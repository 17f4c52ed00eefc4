"""What a server counts and times, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""What the text is sent as."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper bounds of the histograms."""


class Figures:
    """The figures of one server. length: gives the requests that have a place."""

    def __init__(self, length: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "maskwright_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "maskwright_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("route",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.stages = Histogram(
            "maskwright_stage_seconds",
            "Seconds of the thread that computes, by stage: predict (with decoding) and encode.",
            ("stage",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.images = Counter("maskwright_images", "Images that were predicted.", registry=self.registry)
        self.instances = Counter("maskwright_instances", "Instances that were found.", registry=self.registry)
        queue = Gauge(
            "maskwright_queue_length", "Requests that are read, wait or are computed.", registry=self.registry
        )
        queue.set_function(length)

    def text(self) -> bytes:
        """All of them, as `CONTENT_TYPE`."""
        return generate_latest(self.registry)
