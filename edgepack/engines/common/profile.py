"""What an engine ran: the nodes of its own execution graph, with their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgepack.specs.types import Ran

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.engines.common.requested import AskedLayer
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.run import RunOptions
    from edgepack.specs.types import Feeds, Precision

_LEAST_RUNS, _MOST_RUNS = 5, 100
_DURATION_S = 1.0


@dataclass(frozen=True)
class EngineNode:
    """One node of an engine's execution graph.

    ``originals`` are names of the model's nodes and tensors that it computes, the best known first. ``time_ns`` is of
    one inference. ``moved_bytes`` is the size of all inputs, weights and outputs, None where it is not known;
    ``weight_bytes`` are those of it that are stored in the model.
    ``conversion``: it only changes how values are stored (quantize, dequantize, cast, reorder). ``before`` names the
    nodes whose outputs it reads.
    """

    name: str
    originals: tuple[str, ...]
    kernel: str
    executed: Ran
    time_ns: int
    moved_bytes: int | None
    conversion: bool
    before: tuple[str, ...]
    weight_bytes: int = 0


@dataclass(frozen=True)
class Profile:
    """The nodes in the order of execution; ``runs`` inferences were timed after one that was not."""

    nodes: tuple[EngineNode, ...]
    runs: int

    @property
    def time_ns(self) -> int:
        """The time of all nodes in one inference."""
        return sum(node.time_ns for node in self.nodes)


class LayerProfiler(Protocol):
    """What a module offers that tells what an engine executes (``Engine.layers``)."""

    def profile(
        self,
        path: Path,
        feeds: Sequence[Feeds],
        inputs: tuple[TensorSpec, ...],
        precision: Precision,
        options: RunOptions,
        device: str,
    ) -> Profile:
        """Run the compiled model in ``path`` with the engine's profiler on. Raises ``CompileError``."""
        ...

    def asked_of(self, path: Path) -> list[AskedLayer]:
        """Return the operators that the file has, in graph order; not asked for ONNX files."""
        ...

    def macs_of(self, path: Path) -> dict[str, int | None]:
        """Return the multiply-adds of the operators that have any, by name; not asked for ONNX files."""
        ...


def repeat(infer: Callable[[Feeds], Any], feeds: Sequence[Feeds]) -> int:
    """Call ``infer`` with the feeds in turn for about a second, 5 to 100 times; return how often."""
    end = time.monotonic() + _DURATION_S
    runs = 0
    while runs < _LEAST_RUNS or (runs < _MOST_RUNS and time.monotonic() < end):
        infer(feeds[runs % len(feeds)])
        runs += 1
    return runs
