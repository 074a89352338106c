"""The bundles that a server answers with: loaded, checked and watched, each with its queue."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.bundle.archive import read_member
from edgepack.engines.common.inputs import check_feeds
from edgepack.errors import ConfigError, DataError
from edgepack.runtime.watch import WatchedModel
from edgepack.serve.batcher import Batcher
from edgepack.serve.batching import why_not_batched
from edgepack.serve.queries import Answer, Limits, Query, Served, UnknownModelError
from edgepack.serve.tensors import datatype, shape_of
from edgepack.verify.golden import GOLDEN, read_golden

if TYPE_CHECKING:
    from types import TracebackType

    from edgepack.runtime.load import LoadedModel
    from edgepack.serve.metrics import Metrics
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.run import RunOptions

_LOOK_S = 0.5


class ServedModel:
    """One bundle; it follows its file as ``load(..., watch=True)`` does."""

    def __init__(self, served: Served, limits: Limits, options: RunOptions | None, metrics: Metrics) -> None:
        """Load it and run it once. Raises what ``load`` raises, and ``BundleError`` for types that cannot be sent."""
        self._limits, self._metrics = limits, metrics
        self._reasons: dict[str, str | None] = {}
        self._model = WatchedModel(Path(served.path), options, prepare=self._prepare)
        self.name = served.name or str(self._model.manifest.name)
        try:
            if limits.workers > 1:
                self._model.another().close()  # refuses where an engine runs one inference at a time
            self._batcher = Batcher(self.name, self, limits, metrics.of(self.name))
        except BaseException:
            self._model.close()
            raise

    @contextmanager
    def using(self) -> Iterator[LoadedModel]:
        """Lend the version in use now."""
        with self._model.using() as model:
            yield model

    def may_batch(self, model: LoadedModel) -> bool:
        """Say whether samples of a version may be run at once."""
        return self._reasons.get(model.bundle.manifest_sha256, "") is None

    @property
    def version(self) -> str:
        """Return the version in use now."""
        return str(self._model.manifest.version)

    @property
    def problem(self) -> str | None:
        """Return why the newest version is not in use; None where it is."""
        return self._model.problem

    def describe(self) -> tuple[str, ...]:
        """Return lines for people: what is served, by which engine, and whether queries are run together."""
        with self.using() as model:
            reason = self._reasons.get(model.bundle.manifest_sha256)
            many = f"up to {self._limits.batch} samples at once" if reason is None else f"one query at a time: {reason}"
            engine = model.backend if model.device == "CPU" else f"{model.backend} {model.device}"
            return f"{self.name} {model.manifest.version} by {engine}, {many}", *model.notes

    def metadata(self) -> dict[str, Any]:
        """Return the protocol's description of the version in use."""
        with self.using() as model:
            return {
                "name": self.name,
                "versions": [model.manifest.version],
                "platform": f"edgepack_{model.backend}",
                "inputs": [_described(spec) for spec in model.inputs],
                "outputs": [_described(spec) for spec in model.outputs],
            }

    def refuse_full(self) -> None:
        """Raise ``BusyError`` when a query would be refused whatever it is."""
        self._batcher.refuse_full()

    def submit(self, query: Query, since: float) -> Future[Answer]:
        """Check a query that came at ``since``, by ``time.monotonic``, and return the answer to come.

        Raises ``DataError`` for one that the model does not take.
        """
        with self.using() as model:
            check_feeds(query.feeds, model.inputs)
            names = {spec.name for spec in model.outputs}
        if any(not array.size for array in query.feeds.values()):
            raise DataError("an input holds no values", hint="send at least one sample")
        if unknown := next((wanted.name for wanted in query.outputs if wanted.name not in names), None):
            raise DataError(f"unknown output {unknown[:80]!r}", hint=f"the model gives {', '.join(sorted(names))}")
        if len({wanted.name for wanted in query.outputs}) < len(query.outputs):
            raise DataError("an output is asked for twice", hint="ask for each output once")
        return self._batcher.submit(query.feeds, since)

    def sent(self, answer: Answer) -> None:
        """Note that an answer is on its way to who asked."""
        self._batcher.sent(answer)

    def look(self) -> None:
        """Take up a version that was installed."""
        self._model.look()
        self._metrics.in_use(self.name, self.version, self.problem)

    def close(self) -> None:
        """Answer what was taken, then free the engine."""
        self._batcher.close()
        self._model.close()

    def _prepare(self, model: LoadedModel) -> None:
        for spec in (*model.inputs, *model.outputs):
            datatype(spec)
        model.infer(read_golden(read_member(model.bundle, GOLDEN)).inputs[0])
        self._reasons[model.bundle.manifest_sha256] = why_not_batched(model, self._limits.batch)


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype(spec), "shape": shape_of(spec)}


class Models:
    """All that one server answers with, by name; a context manager that frees them."""

    def __init__(
        self, served: Iterable[Served], limits: Limits, options: RunOptions | None, metrics: Metrics
    ) -> None:  # fmt: skip
        """Load them. Raises what ``ServedModel`` does, and ``ConfigError`` for two of one name."""
        self._models: dict[str, ServedModel] = {}
        self._ready, self._stop = True, threading.Event()
        try:
            for each in served:
                model = ServedModel(each, limits, options, metrics)
                if model.name in self._models:
                    model.close()
                    raise ConfigError(f"two bundles are named {model.name}", hint="name one of them: other=PATH")
                self._models[model.name] = model
                model.look()
        except BaseException:
            self.close()
            raise
        self._looker = threading.Thread(target=self._look, name="edgepack-serve-look", daemon=True)
        self._looker.start()

    @property
    def ready(self) -> bool:
        """Say whether queries are taken."""
        return self._ready

    def names(self) -> tuple[str, ...]:
        """Return the names of the models."""
        return tuple(self._models)

    def get(self, name: str, version: str = "") -> ServedModel:
        """Return a model. Raises ``UnknownModelError`` for one that is not here, or not in that version."""
        found = self._models.get(name)
        if found is None:
            raise UnknownModelError(f"there is no model {name[:80]!r}")
        if version and version != found.version:
            raise UnknownModelError(f"{name} is served in version {found.version}, not {version[:80]!r}")
        return found

    def index(self) -> list[Mapping[str, str]]:
        """Return what the protocol's index lists; ``reason`` says why a newer version is not in use."""
        return [
            {"name": name, "version": model.version, "state": "READY", "reason": model.problem or ""}
            for name, model in self._models.items()
        ]

    def drain(self) -> None:
        """Say from now on that the server is not ready."""
        self._ready = False

    def close(self) -> None:
        """Answer what was taken, then free everything."""
        self.drain()
        self._stop.set()
        for model in self._models.values():
            model.close()

    def __enter__(self) -> Models:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self) -> None:
        while not self._stop.wait(_LOOK_S):
            for model in self._models.values():
                model.look()
