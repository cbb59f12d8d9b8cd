"""What Prometheus can read of a server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

#: Upper ends of the classes of durations, in seconds.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FRAMES = (1, 2, 4, 8, 16, 32, 64)


class ServingMetrics:
    """The figures of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("axforge_requests", "Answered requests for inference.", ["model", "status"], registry=registry)
        self.frames = Counter("axforge_frames", "Frames that were answered.", ["model"], registry=registry)
        self.seconds = Histogram(
            "axforge_request_seconds", "From the first byte of a request to its answer.", ["model"], buckets=_SECONDS, registry=registry
        )
        self.steps = Histogram(
            "axforge_step_seconds", "Time of a frame in each step.", ["model", "step"], buckets=_SECONDS, registry=registry
        )
        self.at_once = Histogram(
            "axforge_frames_at_once", "Frames that the engine works on when one begins, with it.", buckets=_FRAMES, registry=registry
        )
        self.waiting = Gauge("axforge_waiting_frames", "Frames that wait for the engine.", registry=registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)
