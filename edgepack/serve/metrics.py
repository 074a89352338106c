"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from typing import Any

from edgepack.errors import ToolchainError
from edgepack.serve.queries import Outcome

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server, apart from those of other programs in this process."""

    def __init__(self) -> None:
        """Raises ``ToolchainError`` where prometheus-client is not installed."""
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise ToolchainError(
                f"edgepack serve cannot run here: {error}", hint="pip install 'edgepack[serve]'"
            ) from None
        self._prometheus: Any = prometheus
        self._registry = prometheus.CollectorRegistry()
        self._queries = self._counter("queries", "Queries by how they ended.", "model", "protocol", "outcome")
        self._samples = self._counter("samples", "Samples that were run.", "model")
        self._waiting = self._gauge("waiting", "Queries that wait for their turn.", "model")
        self._waited = self._histogram("wait_seconds", "How long the first query of a batch waited.")
        self._took = self._histogram("inference_seconds", "How long the engine took, a batch.")
        self._sizes = self._histogram("batch_samples", "Samples that were run at once.", _SIZES)
        self._version = self._gauge("version_info", "1 for the version in use.", "model", "version")
        self._problem = self._gauge("version_problem", "1 where a newer version could not be taken up.", "model")
        self._versions: dict[str, str] = {}

    def text(self) -> tuple[bytes, str]:
        """Return the page and its content type."""
        return self._prometheus.generate_latest(self._registry), self._prometheus.CONTENT_TYPE_LATEST

    def ended(self, model: str, protocol: str, outcome: Outcome) -> None:
        """Count a query; ``model`` is one that is served, never what a stranger wrote."""
        self._queries.labels(model, protocol, outcome).inc()

    def in_use(self, model: str, version: str, problem: str | None) -> None:
        """Note which version answers, and whether a newer one could not be taken up."""
        self._problem.labels(model).set(problem is not None)
        before = self._versions.get(model)
        if before == version:
            return
        if before is not None:
            self._version.remove(model, before)
        self._version.labels(model, version).set(1)
        self._versions[model] = version

    def of(self, model: str) -> _OfModel:
        """Return what the queue of one model tells."""
        return _OfModel(
            self._samples.labels(model),
            self._waiting.labels(model),
            self._waited.labels(model),
            self._took.labels(model),
            self._sizes.labels(model),
        )

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._prometheus.Counter(f"edgepack_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return self._prometheus.Gauge(f"edgepack_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] | None = None) -> Any:
        chosen = {} if buckets is None else {"buckets": buckets}
        return self._prometheus.Histogram(f"edgepack_{name}", text, ("model",), registry=self._registry, **chosen)


class _OfModel:
    def __init__(self, samples: Any, waiting: Any, waited: Any, took: Any, sizes: Any) -> None:
        self._samples, self._waiting, self._waited, self._took, self._sizes = samples, waiting, waited, took, sizes

    def waiting(self, queries: int) -> None:
        self._waiting.set(queries)

    def ran(self, samples: int, queries: int, waited_s: float, took_s: float) -> None:  # noqa: ARG002 (a Watcher)
        self._samples.inc(samples)
        self._sizes.observe(samples)
        self._waited.observe(waited_s)
        self._took.observe(took_s)
