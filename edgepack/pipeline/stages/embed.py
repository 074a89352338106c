"""Puts parts of the task into the graph of a row's model, when asked, and checks what comes of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgepack.bundle.pack import BundleFacts
from edgepack.embed.check import EmbeddedEvaluation, Side, check_embedded
from edgepack.embed.embed import EmbeddedModel, embed, has, refuse_engine
from edgepack.embed.normalization import fold_normalization
from edgepack.engines import ENGINES
from edgepack.engines.fallback import runs_here
from edgepack.errors import ConfigError
from edgepack.execution.runner import StageRunner
from edgepack.pipeline.stages.compile import compile_for_target
from edgepack.pipeline.targets import how_to_run
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.embed import EmbeddedCheck
from edgepack.specs.model import CompiledModel, OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Part, Precision


@dataclass(frozen=True)
class EmbeddedRow:
    """A compiled model with parts of its task in its graph, and all that its bundle says otherwise for it."""

    compiled: CompiledModel
    made: EmbeddedModel
    evaluation: EmbeddedEvaluation

    @property
    def check(self) -> EmbeddedCheck:
        """What comparing it with the model without these parts found."""
        return self.evaluation.check

    def facts(self, facts: BundleFacts) -> BundleFacts:
        """Return the facts of the bundle, whose input is made and whose outputs are read in another way."""
        done = {str(part): words for part, words in self.check.done.items()}
        return dataclasses.replace(facts, preprocessing=self.made.preprocessing, task=self.made.task, embedded=done)


def fold_for_pixels(
    runner: StageRunner,
    model: OnnxModel,
    made: Preprocessing | None,
    targets: tuple[Target, ...],
    precisions: tuple[Precision, ...],
) -> tuple[OnnxModel, Preprocessing]:
    """Return the model that takes plain pixels, where normalisation can be folded, and how pictures are made for it.

    It is not folded where a target's int8 has no unsigned activations: pixels of 0 to 255 would have half the steps
    there that centred values have. What was done or why not is told. Raises ``ConfigError`` without a preprocessing.
    """
    if made is None:
        raise ConfigError("--embed preprocessing needs to know how pictures become inputs", hint="add --recipe")
    if "int8" in precisions and any(target.quantization.activation_type != "uint8" for target in targets):
        runner.events.note("normalisation is not folded: a target's int8 is signed, and would lose a bit of the pixels")
        return model, made
    folded = runner.run(fold_normalization, model, made, title="normalisation into the first layer")
    if folded.reason:
        runner.events.note(f"normalisation stays as operators: {folded.reason}")
    else:
        runner.events.note(f"folded: {folded.done}")
    return folded.model, folded.preprocessing


def embed_row(
    runner: StageRunner,
    parts: tuple[Part, ...],
    target: Target,
    graph: OnnxModel,
    compiled: CompiledModel,
    golden: Path,
    samples: SampleSet,
) -> EmbeddedRow:
    """Return a row's model with ``parts`` in its graph, compiled, and checked against the one that was evaluated.

    Raises ``ConfigError`` for what the model or the engine does not take, ``VerificationError`` for other answers.
    """
    refuse_engine(parts, target)
    engine = ENGINES.get(target.backend)
    suppresses = has(engine.suppression, target)
    title = f"{target.id} {compiled.precision}, {' and '.join(parts)} in the graph"
    made = runner.run(
        embed, graph, parts, samples.preprocessing, samples.task, golden, suppresses, engine.integer_inputs, title=title
    )  # fmt: skip
    model = dataclasses.replace(made.model, mixes_batch=graph.mixes_batch)
    inner = runner.run(compile_for_target, model, target, compiled.precision, title=title)
    options, _ = how_to_run(target, runner.host)
    assert samples.preprocessing is not None, "embed() asked for it"
    assert made.preprocessing is not None, "so did it"
    outer = Side(runs_here(compiled, options), samples.preprocessing, samples.task)
    own = Side(runs_here(inner, options), made.preprocessing, made.task)
    found = runner.run(
        check_embedded, outer, own, made.done, golden, samples, options,
        title=f"{title}, on {len(samples.indices)} samples",
    )  # fmt: skip
    return EmbeddedRow(inner, made, found)
