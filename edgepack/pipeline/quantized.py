"""Models that come quantized: what a build is asked to make of them, checked against what the model is."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.stage import stage
from edgepack.engines import ENGINES, part_of
from edgepack.errors import ConfigError
from edgepack.execution.runner import StageRunner
from edgepack.graph import passes
from edgepack.graph.load import read_proto
from edgepack.graph.walk import all_nodes
from edgepack.pipeline.plan import BuildPlan
from edgepack.quantize.imported.floats import NOTE, take_float
from edgepack.specs.model import CompiledModel, OnnxModel

WITHOUT_INTEGERS = "--requantize with --precision int8 and --data quantizes its float model for the target"


def as_asked(runner: StageRunner, source: OnnxModel, plan: BuildPlan) -> OnnxModel:
    """Return the model that the rows are made of: the float one of a quantized model where that was asked for.

    Raises ``ConfigError`` when a quantized model is to be built as if it were float, or the other way round.
    """
    if plan.settings.requantize:
        made = runner.run(take_float, source, title="of the quantized model")
        entries = {entry.key: entry.value for entry in read_proto(made, weights=False).metadata_props}
        runner.events.note(f"the float model of {plan.settings.model} is built: {entries.get(NOTE, '')}")
        return made
    marks = sorted(
        {node.op_type for node in all_nodes(read_proto(source, weights=False)) if passes.marks_quantized(node)}
    )
    if marks and not plan.as_is:
        asked = ", ".join(plan.settings.precisions)
        raise ConfigError(
            f"the model is quantized already, it has {', '.join(marks[:3])}: there is no {asked} of it",
            hint="--precision as-is keeps its integers; --requantize takes the float model out of it",
        )
    if plan.as_is and not marks:
        raise ConfigError(
            "the model is not quantized, so there are no integers to keep", hint="build it with --precision int8"
        )
    return source


@stage("roundings", host="numbers")
def unrounded_sums(compiled: CompiledModel, out: Path) -> int:  # noqa: ARG001  a stage's folder
    """Return how many sums the engine computes without rounding first what the model rounds; 0 where nothing tells."""
    reference = ENGINES.get(compiled.backend).unrounded
    return int(part_of(compiled.backend, reference)(compiled)) if reference else 0


def notes_as_is(changes: str, unrounded: int, engine: str) -> dict[str, str]:
    """Return what a row must say of a model that kept its integers; ``unrounded`` sums are computed otherwise."""
    notes = {
        "as it came": changes,
        "reference": "figures compare with the quantized model's own answers, by ONNX Runtime operator by operator",
        "layers": "SQNR of each layer was not measured: there is no float model to compare with",
    }
    if unrounded:
        sums = "1 sum" if unrounded == 1 else f"{unrounded} sums"
        notes["roundings"] = (
            f"in {sums} {engine} adds a convolution's output unrounded, which the model rounds first: its answers "
            "differ from the model's own by that, and nothing is lost"
        )
    return notes
