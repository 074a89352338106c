"""Runs seeded models through edgepack's own stages in every engine; prints how each compares, a JSON line a way.

Started by ``tests/engines/test_differential.py``, which begins another one behind a model that crashed an engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from operator_maker import plain_session
from operator_models import OperatorModel, floats, make, one_node, with_all_values

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import EdgepackError
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.prepare import prepare
from edgepack.pipeline.stages.compile import compile_for_target
from edgepack.quantize import quantize
from edgepack.specs.run import RunOptions
from edgepack.verify.distance import distances, is_decision
from edgepack.verify.evaluate import evaluate
from edgepack.verify.golden import read_golden, refuse_wrong, with_tolerance
from edgepack.verify.make_golden import make_golden, mixes_batch
from edgepack.verify.metrics import default_metric
from edgepack.verify.reference import reference
from edgepack.verify.tolerance import tolerance

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.data import SampleSet
    from edgepack.specs.model import CompiledModel, OnnxModel
    from edgepack.specs.types import Array, Precision
    from edgepack.verify.outputs import StoredOutputs

ENGINES = ("onnxruntime", "openvino", "tvm")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_SAMPLES = 16
# A model that answers otherwise when its inputs change in their last bits says little of an engine's rounding: what an
# engine may be off is what such changes bring, times this.
_CONDITION = 10.0
_LAST_BITS = 1e-6
# Steps of 8 bits that fall the other way: no more noise than quantization itself brings, or this SQNR.
_INT8_DB = 30.0
# What 8 bits make of NaN and of infinity is not said by ONNX.
_NOT_IN_INT8 = ("infinite",)
# Inputs unlike the samples: 8 bits may round what is divided by to 0 there, as ranges of samples have it.
_UNLIKE_SAMPLES = ("zeros", "large", "huge", "tiny", "ties")
# Logarithms and roots near their zeros are as exact as numbers near 1 are.
_LEAST_ABS = 1e-6


@dataclasses.dataclass(frozen=True)
class Way:
    """A model in an engine and precision: "agrees", "refused", "differs" or "bug", and what was said or seen.

    ``inputs`` names the inputs that it was seen on, ``culprit`` the operator that differs alone as well.
    """

    seed: int
    engine: str
    precision: str
    outcome: str
    words: str = ""
    inputs: str = ""
    operators: tuple[str, ...] = ()
    culprit: str = ""


def run_seed(seed: int, folder: Path, engines: tuple[str, ...] = ENGINES) -> Iterator[Way]:
    """Yield how the model of a seed does in every engine and precision."""
    print("next", seed, "edgepack", "", flush=True)
    model = make(seed)
    path = folder / "model.onnx"
    path.write_bytes(model.proto.SerializeToString())
    try:
        prepared = prepare(load_model(path), _new(folder, "prepared"))
    except EdgepackError as error:
        yield Way(seed, "", "", "refused", f"prepare: {error.message}", operators=model.operators)
        return
    try:
        job = _job(model, prepared, folder)
    except EdgepackError as error:
        yield Way(seed, "", "", "refused", f"golden vectors: {error.message}", operators=model.operators)
        return
    for precision in PRECISIONS:
        for engine in engines:
            print("next", seed, engine, precision, flush=True)
            yield run_way(job, engine, precision, _new(folder, f"{engine}-{precision}"))


@dataclasses.dataclass(frozen=True)
class Job:
    """A model as a build has it: prepared, with samples, golden vectors and its own answers to the samples.

    ``skipped`` names inputs of which the model makes NaN somewhere: what comes of that, as of a maximum over NaN, is
    another thing even in ONNX Runtime, by the order of values. ``test_contract.py`` asks each engine about NaN.
    """

    model: OperatorModel
    prepared: OnnxModel
    samples: SampleSet
    golden: Path
    reference: StoredOutputs
    answers: Answers
    skipped: frozenset[str]


def _job(model: OperatorModel, prepared: OnnxModel, folder: Path) -> Job:
    samples = _samples(model, prepared, folder)
    golden = make_golden(prepared, samples, 4, _new(folder, "golden"))
    prepared = dataclasses.replace(prepared, mixes_batch=mixes_batch(read_golden(golden)))
    own = reference(prepared, samples, _new(folder, "reference"))
    return Job(model, prepared, samples, golden, own, Answers(model), frozenset(_with_nan(model.proto, model.feeds)))


def _with_nan(proto: onnx.ModelProto, inputs: Mapping[str, Mapping[str, Array]]) -> Iterator[str]:
    session = plain_session(with_all_values(proto).SerializeToString())
    for name, feeds in inputs.items():
        if any(array.dtype.kind == "f" and np.isnan(array).any() for array in session.run(None, dict(feeds))):
            yield name


def run_way(job: Job, engine: str, precision: Precision, folder: Path) -> Way:
    """Return how a model does in one engine: whatever is not an error of edgepack's own is a bug."""
    way = Way(job.model.seed, engine, precision, "agrees", operators=job.model.operators)
    target, given, wanted = load_target(f"host-{engine}"), job.prepared, job.answers
    skipped = job.skipped
    stage = "quantize"
    try:
        if precision == "int8":
            ranges = calibrate(given, job.samples, "minmax", 99.99, _new(folder, "ranges"))
            given = quantize(given, ranges, target.quantization, _new(folder, "quantized"))
            given = dataclasses.replace(given, mixes_batch=job.prepared.mixes_batch)
            wanted = Answers(job.model, given.path.read_bytes(), exact=job.answers)
            unlike = {name: feeds for name, feeds in job.model.feeds.items() if name in _UNLIKE_SAMPLES}
            skipped |= frozenset(_with_nan(read_proto(given), unlike))
        stage = "compile"
        compiled = compile_for_target(given, target, precision, _new(folder, "compiled"))
        stage = "verify"
        _verify(job, compiled, precision, _new(folder, "verified"))
        stage = "run"
        with contextlib.closing(get_backend(engine).load_model(compiled, RunOptions(threads=1))) as runner:
            for name, feeds in job.model.feeds.items():
                if name in skipped or (precision == "int8" and name in _NOT_IN_INT8):
                    continue
                found = {key: np.array(value) for key, value in runner.infer(feeds).items()}
                if problem := wanted.problem(name, found, precision):
                    culprit = _culprit(job.model, engine, name, folder) if precision == "fp32" else ""
                    return dataclasses.replace(way, outcome="differs", words=problem, inputs=name, culprit=culprit)
    except EdgepackError as error:
        return dataclasses.replace(way, outcome="refused", words=f"{error.message} (hint: {error.hint})", inputs=stage)
    except Exception:  # a traceback is what a user would see
        return dataclasses.replace(way, outcome="bug", words=traceback.format_exc()[-900:], inputs=stage)
    return way


def _verify(job: Job, compiled: CompiledModel, precision: Precision, folder: Path) -> None:
    """Raise what a build would fail with for what it compiled."""
    metric = default_metric(job.prepared.outputs, labelled=False)
    found = evaluate(
        compiled, job.golden, job.reference, None, job.samples, metric, None, 0, RunOptions(threads=1), folder
    ).verification
    refuse_wrong(found, precision)
    with_tolerance(job.golden, found, precision, folder)


def _culprit(model: OperatorModel, engine: str, inputs: str, folder: Path) -> str:
    """Return the first operator that differs when it is alone in a model and given what ONNX Runtime gives it."""
    nodes = list(model.proto.graph.node)
    if len(nodes) == 1:
        return str(nodes[0].op_type)
    everything = with_all_values(model.proto)
    session = plain_session(everything.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    feeds = model.feeds[inputs]
    values = {**feeds, **dict(zip(names, session.run(names, dict(feeds)), strict=True))}
    for number, node in enumerate(nodes):
        alone = one_node(model, node, values, inputs)
        place = _new(folder, f"alone-{number}")
        path = place / "model.onnx"
        path.write_bytes(alone.proto.SerializeToString())
        try:
            compiled = compile_for_target(load_model(path), load_target(f"host-{engine}"), "fp32", _new(place, "out"))
            runner = get_backend(engine).load_model(compiled, RunOptions(threads=1))
            found = {key: np.array(value) for key, value in runner.infer(alone.feeds[inputs]).items()}
            runner.close()
        except EdgepackError:
            continue
        if Answers(alone).problem(inputs, found, "fp32"):
            return str(node.op_type)
    return ""


class Answers:
    """What ONNX Runtime without optimizations makes of a model's inputs, and how far another answer may be."""

    def __init__(self, model: OperatorModel, proto: bytes | None = None, exact: Answers | None = None) -> None:
        self.session = plain_session(proto if proto is not None else model.proto.SerializeToString())
        self.names = [output.name for output in self.session.get_outputs()]
        self.feeds = model.feeds
        self.answers = {name: self.run(feeds) for name, feeds in model.feeds.items()}
        self.exact = exact

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name."""
        return dict(zip(self.names, self.session.run(self.names, dict(feeds)), strict=True))

    def problem(self, inputs: str, found: Mapping[str, Array], precision: Precision) -> str | None:
        """Return how an answer to the inputs of that name differs by more than it may; None where it agrees."""
        expected = self.answers[inputs]
        if list(found) != self.names:
            return f"returns {list(found)}, not {self.names}"
        if inputs == "infinite":
            found = {name: _alarms_taken(expected[name], array) for name, array in found.items()}
        allowed = {name: tolerance("fp32", elements=array.size) for name, array in expected.items()}
        for seen in distances([expected], [found], allowed):
            if not seen.passed and not self._excused(inputs, seen.name, found[seen.name], precision):
                sqnr = "" if seen.sqnr_db is None else f", {seen.sqnr_db:.1f} dB"
                return f"{seen.name}: {seen.note or ''}{sqnr}, largest difference {seen.max_abs:.3g}"
        return None

    def _excused(self, inputs: str, name: str, found: Array, precision: Precision) -> bool:
        """Say whether a difference is as large as the model's own noise: of last bits of its inputs, or of 8 bits."""
        expected = self.answers[inputs][name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            return False
        others = [self.run(_shaken(self.feeds[inputs], turn))[name] for turn in range(6)]
        if self.exact is not None and precision == "int8":
            others.append(self.exact.answers[inputs][name])
        return _within(expected, found, others, precision)


def _within(expected: Array, found: Array, others: list[Array], precision: Precision) -> bool:
    """Say whether an answer is as near as the others are: by value where both are finite, by place for the rest."""
    first, second = expected.astype(np.float64), found.astype(np.float64)
    near = [other.astype(np.float64) for other in others if other.shape == expected.shape]
    if len(near) < len(others):
        return True  # even its shape turns with the last bits
    unsure = np.any([~_same_kind(first, other) for other in near], axis=0)
    if (~_same_kind(first, second) & ~unsure).any():
        return False
    finite = np.isfinite(first) & np.isfinite(second) & ~unsure
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(first - second)[finite]
        spread = np.max([np.abs(first - other)[finite] for other in near], axis=0, initial=0.0)
    if not gap.size:
        return True
    if is_decision(expected):
        turned = np.count_nonzero(spread)
        return int(np.count_nonzero(gap)) <= 2 * turned + (1 if precision == "int8" and turned else 0)
    largest = np.abs(first[finite]).max()
    least = 10 ** (-(_INT8_DB if precision == "int8" else 60.0) / 20) * largest
    return bool(
        gap.max() <= max(_CONDITION * spread.max() if precision == "fp32" else 3 * spread.max(), least, _LEAST_ABS)
    )


def _alarms_taken(expected: Array, found: Array) -> Array:
    """Return an answer with numbers where it is NaN: that tells of infinite inputs as well as what was expected."""
    if found.dtype.kind != "f" or found.shape != expected.shape or found.dtype != expected.dtype:
        return found
    return np.where(np.isnan(found), expected, found)


def _same_kind(first: Array, second: Array) -> Array:
    """Say where both are finite, or the same infinity, or both NaN."""
    with np.errstate(invalid="ignore"):
        both = np.isfinite(first) & np.isfinite(second)
        return np.asarray(both | (first == second) | (np.isnan(first) & np.isnan(second)))


def _shaken(feeds: Mapping[str, Array], turn: int) -> dict[str, Array]:
    random = np.random.default_rng(turn)
    return {
        name: np.asarray(array * (1 + _LAST_BITS * random.choice([-1, 1], array.shape)), array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in feeds.items()
    }


def _samples(model: OperatorModel, prepared: OnnxModel, folder: Path) -> Any:
    random = np.random.default_rng([model.seed, 1])
    arrays = {}
    for spec in prepared.inputs:
        example = model.feeds["batch of 2"][spec.name]
        shape = (_SAMPLES, 1 if model.free else example.shape[0], *example.shape[1:])
        fractions = example.dtype.kind == "f"
        values = floats(random, shape, positive=model.positive) if fractions else random.integers(0, 5, shape)
        arrays[spec.name] = values.astype(example.dtype)
    path = _new(folder, "data") / "samples.npz"
    np.savez(path, **arrays)
    return find_samples(str(path), prepared.inputs, None)


def _new(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    return made


def main(seeds: list[int]) -> None:
    """Run the seeds one after another."""
    warnings.simplefilter("ignore")
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            for way in run_seed(seed, Path(folder)):
                print("way", json.dumps(dataclasses.asdict(way)), flush=True)
        print("done", seed, flush=True)


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]])
