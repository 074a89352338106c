"""The fp32 model's outputs on the evaluation samples, by ONNX Runtime: computed once for all targets."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import closing
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.data.samples import read_samples
from edgepack.engines import REFERENCE, get_backend
from edgepack.specs.data import SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.answering import Answering
from edgepack.verify.exact_integers import compared
from edgepack.verify.outputs import OutputWriter, StoredOutputs

# So many samples are computed both ways before it is known which one is compared with.
_COMPARED = 2


def as_written(model: OnnxModel, samples: SampleSet, options: RunOptions) -> RunOptions:
    """Return how the answers are computed that others are compared with: operator by operator where that matters.

    It does for a quantized model (what an engine fuses it rounds otherwise, and on processors without VNNI its integer
    kernels clip), and where ONNX Runtime's optimizer changes the answer to one of the first samples by more than
    rounding: what the graph says is right then.
    """
    from edgepack.graph.load import read_proto
    from edgepack.graph.passes import is_quantized

    if is_quantized(read_proto(model, weights=False)) or _optimizer_changes(model, samples):
        return dataclasses.replace(options, optimization="off")
    return options


def _optimizer_changes(model: OnnxModel, samples: SampleSet) -> bool:
    from edgepack.graph.compare import differences, run_model

    for feeds in itertools.islice(read_samples(samples, model.inputs), _COMPARED):
        try:
            written = run_model(model, feeds, optimize=False)
        except Exception:  # ONNX Runtime's errors have no common base; without a kernel there is nothing to compare
            return False
        try:
            if differences(written, run_model(model, feeds)):
                return True
        except Exception:  # as above: the optimizer made a graph that does not run
            return True
    return False


@stage("reference", host="numbers")
def reference(model: OnnxModel, samples: SampleSet, out: Path, progress: Progress = no_progress) -> StoredOutputs:
    """Run ``model`` on every sample and keep its outputs in ``out``. Raises ``ModelError`` for inexact integers."""
    backend = get_backend(REFERENCE)
    compiled = CompiledModel(
        backend=REFERENCE,
        precision="fp32",
        folder=model.path.parent,
        entry=model.path.name,
        files=(model.path.name, *model.external),
        inputs=model.inputs,
        outputs=model.outputs,
        versions=backend.versions(),
    )
    engine, total = Answering(compiled, as_written(model, samples, RunOptions())), len(samples.indices)
    try:
        with (
            OutputWriter(out, tuple(o.name for o in model.outputs)) as writer,
            closing(engine.answers(compared(model, read_samples(samples, model.inputs)), total)) as answers,
        ):
            for i, outputs in enumerate(answers):
                writer.add(outputs)
                progress("reference", i + 1, total)
            return writer.finish()
    finally:
        engine.close()
