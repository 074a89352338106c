"""The kernels of a model, as code generation will meet them."""

from __future__ import annotations

from collections import Counter

from edgepack.engines.tvm.batching import batch_kind
from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.workload import Choice, Workload, rule
from edgepack.engines.tvm.compile import processor_of
from edgepack.engines.tvm.import_onnx import import_graph, ready
from edgepack.engines.tvm.tuning.search import Used
from edgepack.errors import CompileError
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision


def kernels_of(model: OnnxModel, target: Target, precision: Precision) -> tuple[Used, ...]:
    """Return the kernels of a model and how often it calls each. Raises ``CompileError``."""
    if batch_kind(model) == "free":
        raise CompileError(
            f"samples of a batch of {model.path.name} depend on each other: it is run by TVM's own loops, which "
            "have no tiles",
            hint="fix the batch with --shape, as --shape NAME=1x3x224x224",
        )
    machine = processor_of(target)
    found: Counter[Workload] = Counter()

    def note(workload: Workload) -> Choice:
        found[workload] += 1
        return Choice(rule(workload, machine))

    lower(import_graph(model, ready(model)), machine, precision, note)
    return tuple(Used(workload, count) for workload, count in found.items())
