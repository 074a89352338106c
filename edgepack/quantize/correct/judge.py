"""Judges int8 models: by the balanced SQNR of their outputs, on the engine that will run them where that is quick.

What ONNX Runtime makes of a file says little of another engine: a correction may bring one to 38 dB and another, by a
pass that the first does not have, to 13. So corrections are judged where they will run, as far as the engine compiles a
model about as fast as it loads one; the others are judged by ONNX Runtime.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.engines import ENGINES, REFERENCE, get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import ToolchainError
from edgepack.quantize.correct.shown import FEWEST_BOXES, find_shown
from edgepack.quantize.output_parts import parts_of
from edgepack.quantize.sensitivity import balanced_noise, run_model
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.verify.parts import noise_db

if TYPE_CHECKING:
    from edgepack.specs.task import Frame, Task
    from edgepack.specs.types import Array

    Outputs = Mapping[str, Array]

# The same inputs are run twice on so many samples: answers that differ are no answers.
_TWICE = 2
UNSTABLE_DB = -200.0
# From so many samples on it is known well what varies between them.
_KNOWN = 16


def judging_versions(engine: str) -> Mapping[str, str]:
    """Return the engine that judges for ``engine`` here, with its versions."""
    name = _judging(engine)
    return {"engine": name, **get_backend(name).versions()}


def _judging(engine: str) -> str:
    if engine == REFERENCE or not ENGINES.get(engine).judges:
        return REFERENCE
    try:
        get_backend(engine).versions()
    except ToolchainError:  # not installed where another one's bundles are built
        return REFERENCE
    return engine


class Judge:
    """Returns the balanced SQNR in dB that an int8 model gives on the samples set apart.

    Where these are so few that it is not known what varies between samples, the fp32 outputs of ``more`` say that too.
    With a ``task``, whose ``frames`` are of ``feeds`` and then of ``more``, it can tell what is shown of all of these.
    """

    def __init__(
        self,
        model: OnnxModel,
        feeds: Sequence[dict[str, Any]],
        engine: str,
        out: Path,
        more: Sequence[dict[str, Any]] = (),
        task: Task | None = None,
        frames: Sequence[Frame] = (),
    ) -> None:
        self.feeds, self.engine = list(feeds), _judging(engine)
        self._everything = [*feeds, *more] if task is not None else []
        self._folder = out / "judged"
        self._expected = run_model(model, self.feeds)
        self._more = run_model(model, list(more[: max(_KNOWN - len(self.feeds), 0)]))
        self._parts = parts_of(model, self.feeds[0])
        self._shown = find_shown(task, frames, run_model(model, self._everything))

    def __call__(self, model: OnnxModel) -> float:
        """Return the level of ``model`` on the engine that judges; -200 where two runs of it differ."""
        if self.engine == REFERENCE:
            return self._level(run_model(model, self.feeds))
        found, stable = self._on_engine(model, self.feeds)
        return self._level(found) if stable else UNSTABLE_DB

    def shown(self, model: OnnxModel) -> float | None:
        """Return the share of the boxes of fp32 that ``model`` shows again; None where fp32 shows none, or too few."""
        if self._shown is None or self._shown.count < FEWEST_BOXES:
            return None
        if self.engine == REFERENCE:
            return self._shown.share(run_model(model, self._everything))
        return self._shown.share(self._on_engine(model, self._everything)[0])

    @property
    def boxes(self) -> int | None:
        """How many boxes fp32 shows in all samples; None where its answers are not boxes."""
        return None if self._shown is None else self._shown.count

    def as_written(self, model: OnnxModel) -> float:
        """Return the level of what the model's Q/DQ stand for: ONNX Runtime without its optimizations."""
        from edgepack.graph.load import read_proto
        from edgepack.quantize.graph.sessions import open_session

        names = [spec.name for spec in model.outputs]
        run = open_session(read_proto(model), names, optimized=False)
        return self._level([dict(run(feed)) for feed in self.feeds])

    def _level(self, found: list[dict[str, Any]]) -> float:
        return noise_db(balanced_noise(self._expected, found, self._parts, self._more))

    def _on_engine(self, model: OnnxModel, feeds: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
        """Return the outputs on the engine that judges, and whether two runs of it give the same."""
        backend = get_backend(self.engine)
        try:
            compiled = backend.compile_model(model, load_target(f"host-{self.engine}"), "int8", self._folder)
            runner = backend.load_model(compiled, RunOptions(device="CPU"))
            try:
                found = [_copied(runner.infer(feed)) for feed in feeds]
                again = [_copied(runner.infer(feed)) for feed in feeds[:_TWICE]]
            finally:
                runner.close()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return found, all(_same(one, other) for one, other in zip(found, again, strict=False))


def _copied(outputs: Outputs) -> dict[str, Any]:
    return {name: value.copy() for name, value in outputs.items()}


def _same(first: Outputs, second: Outputs) -> bool:
    import numpy as np

    return all(np.array_equal(value, second[name], equal_nan=value.dtype.kind == "f") for name, value in first.items())
