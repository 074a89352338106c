"""A model loaded for one batch: engines are faster when no shape is free; other batches are run by a second load."""

from __future__ import annotations

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
    first = {spec.shape[0] if spec.shape else 0 for spec in inputs}
    others = [size for spec in inputs for size in spec.shape[1:]]
    return len(first) == 1 and all(isinstance(size, str) for size in first) and all(isinstance(s, int) for s in others)


class FixedBatchRunner:
    """Runs inputs of ``batch`` samples by ``fixed``, others by what ``load_general`` loads when the first one comes."""

    def __init__(self, fixed: Runner, load_general: Callable[[], Runner], batch: int) -> None:
        self._fixed, self._infer, self._load_general, self._batch = fixed, fixed.infer, load_general, batch
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
            self._general = self._load_general()
        return self._general.infer(feeds)

    def another(self) -> Runner:
        """Return a runner that shares the model loaded for the batch; it loads the general one for itself."""
        assert isinstance(self._fixed, Sharing), "both engines' runners can be shared"
        return FixedBatchRunner(self._fixed.another(), self._load_general, self._batch)

    def close(self) -> None:
        """Free both."""
        self._fixed.close()
        if self._general is not None:
            self._general.close()
            self._general = None

    def _is_other_batch(self, feeds: object) -> bool:
        if not isinstance(feeds, Mapping):
            return False
        sizes = {array.shape[0] if getattr(array, "ndim", 0) else 0 for array in feeds.values()}
        return len(sizes) == 1 and sizes != {self._batch}
