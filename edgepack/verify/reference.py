"""The fp32 model's outputs on the evaluation samples, by ONNX Runtime: computed once for all targets."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.stage import stage
from edgepack.data.samples import read_samples
from edgepack.engines import REFERENCE, get_backend
from edgepack.specs.data import SampleSet
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress
from edgepack.verify.outputs import OutputWriter, StoredOutputs


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
    runner = backend.load_model(compiled, RunOptions())
    try:
        with OutputWriter(out, tuple(o.name for o in model.outputs)) as writer:
            for i, feeds in enumerate(read_samples(samples, model.inputs)):
                writer.add(runner.infer(feeds))
                progress("reference", i + 1, len(samples.indices))
            return writer.finish()
    finally:
        runner.close()
