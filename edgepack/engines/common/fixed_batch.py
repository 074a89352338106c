"""A model loaded for one batch: engines are faster when no shape is free; other batches are run by a second load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edgepack.engines import Runner, Sharing
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array, Feeds


def free_batch(inputs: Sequence[TensorSpec]) -> bool:
    """Say whether the first dimension of every input, and no other, is free and has one name."""
    first = {spec.shape[0] if spec.batched else 0 for spec in inputs}
    others = [size for spec in inputs for size in spec.shape[1:]]
    return len(first) == 1 and all(isinstance(size, str) for size in first) and all(isinstance(s, int) for s in others)


class FixedBatchRunner:
    """Runs inputs of ``batch`` samples by ``fixed``, others by what ``load_general`` loads when the first one comes."""

    def __init__(
        self, fixed: Runner, load_general: Callable[[], Runner], batch: int, shared: _General | None = None
    ) -> None:
        self._fixed, self._infer, self._batch = fixed, fixed.infer, batch
        self._own = _General(load_general) if shared is None else None
        self._shared = self._own or shared
        self._load_general = load_general
        self._general: Runner | None = None

    def infer(self, feeds: Feeds, /) -> Mapping[str, Array]:
        """Return the outputs by name. Raises ``DataError`` for inputs that do not fit the model."""
        if self._general is not None and self._is_other_batch(feeds):
            return self._general.infer(feeds)  # without the refusal of the first, which takes longer than small models
        try:
            return self._infer(feeds)
        except DataError:
            if not self._is_other_batch(feeds):
                raise
        if self._general is None:
            assert self._shared is not None
            self._general = self._shared.another()
        return self._general.infer(feeds)

    def another(self) -> Runner:
        """Return a runner that shares both models, that for other batches too, which is loaded once."""
        assert isinstance(self._fixed, Sharing), "both engines' runners can be shared"
        return FixedBatchRunner(self._fixed.another(), self._load_general, self._batch, self._shared)

    def close(self) -> None:
        """Free both."""
        self._fixed.close()
        if self._general is not None:
            self._general.close()
            self._general = None
        if self._own is not None:
            self._own.close()

    def _is_other_batch(self, feeds: object) -> bool:
        if not isinstance(feeds, Mapping):
            return False
        sizes = {array.shape[0] if getattr(array, "ndim", 0) else 0 for array in feeds.values()}
        return len(sizes) == 1 and sizes != {self._batch}


class _General:
    """The model loaded for all other batches, once for all runners of one model."""

    def __init__(self, load: Callable[[], Runner]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._loaded: Runner | None = None

    def another(self) -> Runner:
        """Return a runner of it for one thread; the first one loads it, and others wait."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            assert isinstance(self._loaded, Sharing), "both engines' runners can be shared"
            return self._loaded.another()

    def close(self) -> None:
        """Free it."""
        with self._lock:
            if self._loaded is not None:
                self._loaded.close()
                self._loaded = None
