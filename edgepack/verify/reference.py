"""The fp32 model's outputs on the evaluation samples, by ONNX Runtime: computed once for all targets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgepack.base.stage import stage
from edgepack.data.samples import read_samples
from edgepack.engines import REFERENCE, get_backend
from edgepack.specs.data import SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.outputs import OutputWriter, StoredOutputs


def as_written(model: OnnxModel, options: RunOptions) -> RunOptions:
    """Return how the answers are computed that others are compared with: of a quantized model operator by operator.

    What an engine fuses it rounds otherwise, and on processors without VNNI its integer kernels clip.
    """
    from edgepack.graph.load import read_proto
    from edgepack.graph.passes import is_quantized

    return (
        dataclasses.replace(options, optimization="off") if is_quantized(read_proto(model, weights=False)) else options
    )


@stage("reference", host="numbers")
def reference(model: OnnxModel, samples: SampleSet, out: Path, progress: Progress = no_progress) -> StoredOutputs:
    """Run ``model`` on every sample and keep its outputs in ``out``."""
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
    runner = backend.load_model(compiled, as_written(model, RunOptions()))
    try:
        with OutputWriter(out, tuple(o.name for o in model.outputs)) as writer:
            for i, feeds in enumerate(read_samples(samples, model.inputs)):
                writer.add(runner.infer(feeds))
                progress("reference", i + 1, len(samples.indices))
            return writer.finish()
    finally:
        runner.close()
