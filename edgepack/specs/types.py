"""Types that several values share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
    Feeds: TypeAlias = Mapping[str, Array]
else:
    Array = Feeds = Any
# What a user named: a file, a folder, or "module:function" or "file.py:function". A stage that takes it depends on what
# is there, see execution/key.py.
USER_SOURCE = "a user's file, folder or function"
UserSource: TypeAlias = Annotated[str, USER_SOURCE]
# Metadata of a field that the ``sha256`` of its value does not cover, and that counts for a stage's key beside it.
BESIDE_DIGEST: Mapping[str, bool] = {"counts beside the digest": True}
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
# What a build is asked for: "as-is" is a model that came quantized with its own integers, which makes int8 bundles.
Wanted: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "as-is"]
Asked: TypeAlias = Literal["int8", "fp32", "fp16", "bf16"]
Ran: TypeAlias = Literal["int8", "fp32", "fp16", "bf16", "fused", "unknown"]
Observer: TypeAlias = str  # a name in calibrate/observers, checked where it is read
Effort: TypeAlias = Literal["low", "medium", "high"]
Severity: TypeAlias = Literal["note", "warning", "error"]


class Progress(Protocol):
    """Called by long work: ``done`` of ``total`` units of the stage named ``what``; ``total`` 0 means unknown."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Tell how far the work is."""


def no_progress(_what: str, _done: int, _total: int, /) -> None:
    """A ``Progress`` that shows nothing."""


# What of a task the engine's own graph may compute.
Part: TypeAlias = Literal["preprocessing", "postprocessing"]
