"""Compares two models in ONNX Runtime on the same invented inputs."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder
from edgepack.graph.captured import leave_out
from edgepack.graph.feeds import random_feeds
from edgepack.graph.input_ranges import input_ranges, narrower
from edgepack.graph.int64_order import ORDERS, order_int64
from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.wire import read_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from edgepack.graph.wire import Named
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

# Sizes tried for symbolic dimensions other than the batch, until the original runs: pictures, then sequences.
SIZES = (64, 224, 16, 512, 1)
_BATCH = 2
# Reordered float32 sums of a deep network differ by some 1e-6 of its largest output; a wrong graph by far more.
TOLERANCE = 1e-4
# Outputs that are whole numbers come from comparisons, where rounding may turn single ties.
_TIES = 0.01


def invent_feeds(model: OnnxModel, *, seed: int = 0, batch: int = _BATCH) -> dict[str, Array] | None:
    """Return random feeds that ``model`` accepts; None when none of the sizes tried is.

    Whole numbers are of the range that the graph gives them a meaning in; 0 and 1 where the model does not take these.
    """
    for ranges, size in itertools.product(narrower(input_ranges(model)), SIZES):
        try:
            feeds = random_feeds(model.inputs, seed=seed, batch=batch, size=size, ranges=ranges)
            run_model(model, feeds, optimize=False)
        except Exception:  # whatever ONNX Runtime raises for a size that the model does not take
            continue
        return feeds
    return None


def differences(expected: Mapping[str, Array], found: Mapping[str, Array]) -> tuple[str, ...]:
    """Return one line for every output in ``found`` that differs from the one expected by more than rounding.

    Another type is a difference, and so are outputs that one of the two has not.
    """
    lines = [line for name, array in expected.items() if name in found and (line := _differs(name, array, found[name]))]
    missing = [f"{name!r} is in one of the two only" for name in expected.keys() ^ found.keys()]
    return (*lines, *sorted(missing))


def run_model(model: OnnxModel, feeds: Mapping[str, Array], *, optimize: bool = True) -> dict[str, Array]:
    """Return the outputs by name, computed by ONNX Runtime in a session of its own, see ``open_model``."""
    return open_model(model, optimize=optimize)(feeds)


def open_model(model: OnnxModel, *, optimize: bool = True) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Return a function from inputs to the outputs by name, in a session of ONNX Runtime.

    Without ``optimize`` each node is computed as it stands: neither the integer kernels that a processor has count, nor
    what the optimizer makes of a graph, which can be wrong (``passes.py``: ``keep_zero_pads``). Where ONNX Runtime does
    not put int64 in order, as ONNX says, either way, the graph is one in which it does (``int64_order.py``).
    """
    import onnxruntime

    named = read_named(model.path)
    options = onnxruntime.SessionOptions()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    leave_out(options, named)
    options.add_session_config_entry("session.disable_prepacking", "1")  # few inferences are not worth a second copy
    with _in_order(model, named) as path:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in model.outputs]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


@contextmanager
def _in_order(model: OnnxModel, named: Named) -> Iterator[Path]:
    """Yield the model's file; where it does not put int64 in order in ONNX Runtime, one that does, for this time."""
    if not named.operators & ORDERS or not order_int64(read_proto(model, weights=False)):
        yield model.path
        return
    proto = read_proto(model)
    order_int64(proto)
    with scratch_folder() as scratch:
        yield save_proto(proto, Path(scratch), durable=False).path


def relative_distance(expected: Array, found: Array) -> float:
    """Return the largest absolute difference over the largest absolute value expected; infinite where shapes differ.

    Equal infinities and NaN in the same places count as equal.
    """
    import numpy as np

    if expected.shape != found.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    first, second = expected.astype(np.float64), found.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        distance = np.abs(first - second)[~same].max()
    largest = np.abs(first[np.isfinite(first)]).max(initial=0.0)
    return float(distance / largest) if np.isfinite(distance) and largest > 0 else float("inf")


def _differs(name: str, expected: Array, found: Array) -> str | None:
    import numpy as np

    if expected.shape != found.shape:
        return f"{name!r} has the shape {found.shape}, not {expected.shape}"
    if expected.dtype != found.dtype:
        return f"{name!r} has the type {found.dtype}, not {expected.dtype}"
    if not np.issubdtype(expected.dtype, np.floating):
        share = float(np.mean(expected != found)) if expected.size else 0.0
        return f"{name!r} differs in {share:.0%} of its values" if share > _TIES else None
    distance = relative_distance(expected, found)
    return f"{name!r} differs by {distance:.1e} of its largest value" if not distance <= TOLERANCE else None
