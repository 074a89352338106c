"""Chooses which samples calibrate and which evaluate; the two never share one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.shapes import by_input, show_shape
from edgepack.base.stage import stage
from edgepack.data.named_classes import common_classes
from edgepack.data.recipes import OF_CLASSES
from edgepack.data.samples import find_samples, reads_elsewhere, split_samples, take_samples
from edgepack.errors import ConfigError, DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import LENGTH, OnnxModel, TensorSpec
from edgepack.specs.task import Task
from edgepack.specs.types import Array, UserSource

if TYPE_CHECKING:
    from edgepack.graph.input_ranges import InputRange

DEFAULT_SAMPLES = 256
RANDOM_INPUTS = 8
_WORDS = 160  # of what an engine says
_NO_NOTES: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """``calibration`` is None without calibration data; ``unseen`` is False when it is evaluated on itself."""

    calibration: SampleSet | None
    evaluation: SampleSet
    unseen: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SampleRequest:
    """What was asked for. ``samples`` None takes ``default``, or as many as there are; ``eval_samples`` None all.

    ``shapes`` are the sizes of random inputs, which are used when there is no data at all. ``task`` says what labels
    mean, and ``skip_bad`` how many samples may be left out because they are broken.
    """

    data: UserSource | None
    eval_data: UserSource | None
    preprocessing: Preprocessing | None = None
    samples: int | None = None
    default: int = DEFAULT_SAMPLES
    eval_samples: int | None = None
    seed: int = 0
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    task: Task | None = None
    skip_bad: int = 0


def _reads_elsewhere(request: SampleRequest, *_others: object) -> bool:
    return any(s is not None and reads_elsewhere(s) for s in (request.data, request.eval_data))


@stage("samples", tracks=_reads_elsewhere)
def choose_samples(request: SampleRequest, inputs: tuple[TensorSpec, ...], out: Path) -> Selection:  # noqa: ARG001
    """Return the calibration and the evaluation samples; nothing is written into ``out``.

    Without evaluation data the data is split once by the seed. Raises ``DataError`` when there are fewer samples than
    were asked for.
    """
    found = _with_evaluation(request, inputs) if request.eval_data is not None else _split(request, inputs)
    return dataclasses.replace(found, notes=(*found.notes, *_left_out(found)))


def _left_out(found: Selection) -> tuple[str, ...]:
    """Return notes of what was left out of each source because it is broken, and of what else it says."""
    sets = {samples.source: samples.skipped for samples in (found.calibration, found.evaluation) if samples is not None}
    notes = dict.fromkeys(n for s in (found.calibration, found.evaluation) if s is not None for n in s.notes)
    left_out = (
        f"{len(skipped)} left out of {source}: {skipped[0]}" + (", ..." if skipped[1:] else "")
        for source, skipped in sets.items()
        if skipped
    )
    return (*left_out, *notes)


def _find(data: str, inputs: tuple[TensorSpec, ...], request: SampleRequest, task: Task | None) -> SampleSet:
    return find_samples(data, inputs, request.preprocessing, task=task, skip_bad=request.skip_bad)


def _find_both(request: SampleRequest, inputs: tuple[TensorSpec, ...]) -> tuple[SampleSet, SampleSet]:
    """Return the samples of ``data`` and of ``eval_data``, with columns and classes in the same order."""
    assert request.data is not None, "asked where both are given"
    assert request.eval_data is not None, "asked where both are given"
    data = _find(request.data, inputs, request, request.task)
    evaluation = _find(request.eval_data, inputs, request, data.task)
    classes = common_classes(data, evaluation)
    if classes is None:
        return data, evaluation
    task = dataclasses.replace(data.task or Task(OF_CLASSES), classes=classes)
    return _find(request.data, inputs, request, task), _find(request.eval_data, inputs, request, task)


def _with_evaluation(request: SampleRequest, inputs: tuple[TensorSpec, ...]) -> Selection:
    assert request.eval_data is not None
    if request.data is None:
        found = _find(request.eval_data, inputs, request, request.task)
        return Selection(None, _limit(found, request.eval_samples, request.seed, "--eval-samples"), True, ())
    found, evaluation = _find_both(request, inputs)
    evaluation = _limit(evaluation, request.eval_samples, request.seed, "--eval-samples")
    wanted, notes = request.samples, _NO_NOTES
    if wanted is None:
        wanted, notes = _default(len(found.indices), request)
    return Selection(_limit(found, wanted, request.seed, "--samples"), evaluation, True, notes)


def _split(request: SampleRequest, inputs: tuple[TensorSpec, ...]) -> Selection:
    assert request.data is not None, "without data the caller makes random inputs"
    found = _find(request.data, inputs, request, request.task)
    total = len(found.indices)
    if total == 1 or (request.samples == total and not found.labelled):
        note = "accuracy figures are from the calibration samples themselves: give --eval for unseen ones"
        return Selection(found, _limit(found, request.eval_samples, request.seed, "--eval-samples"), False, (note,))
    if request.samples is not None and request.samples >= total:
        raise DataError(
            f"asked for {request.samples} calibration samples of {total}, which leaves none to measure accuracy on",
            hint=f"give --samples {max(total // 2, 1)}, more data, or a separate --eval",
        )
    wanted, notes = request.samples, _NO_NOTES
    if wanted is None:
        wanted, notes = _default(total // 2, request, f" of the {total} given, and the others measure accuracy")
    if request.eval_samples is not None and wanted + request.eval_samples > total:
        raise DataError(
            f"{found.source} has {total} samples: {wanted} calibrate, which leaves {total - wanted} of the "
            f"{request.eval_samples} asked for to measure accuracy on",
            hint=f"give --eval-samples {total - wanted}, fewer --samples, more data, or a separate --eval",
        )
    calibration, rest = split_samples(found, wanted, request.seed)
    return Selection(calibration, _limit(rest, request.eval_samples, request.seed, "--eval-samples"), True, notes)


def _default(available: int, request: SampleRequest, more: str = "") -> tuple[int, tuple[str, ...]]:
    """Return how many of the available samples calibrate where nobody said, and a note where they are few.

    ``more`` says of which they are.
    """
    if available >= request.default:
        return request.default, ()
    note = f"calibration has {available} samples{more}; {request.default} or more give steadier ranges"
    return available, (note,)


def _limit(found: SampleSet, count: int | None, seed: int, option: str) -> SampleSet:
    if count is None:
        return found
    if count > len(found.indices):
        raise DataError(
            f"{found.source} has {len(found.indices)} samples, fewer than the {count} asked for",
            hint=f"give {option} {len(found.indices)}, or more data",
        )
    return take_samples(found, count, seed)


def with_shapes(inputs: tuple[TensorSpec, ...], shapes: Mapping[str, tuple[int | str, ...]]) -> tuple[TensorSpec, ...]:
    """Return the inputs with the sizes that the user gave for them. Raises ``ConfigError`` for one that cannot be."""
    found = {spec.name: spec for spec in inputs}
    for name, shape in by_input(shapes, tuple(found)).items():
        if name not in found:
            raise ConfigError(f"--shape {name}: the model has no such input", hint=suggestion(name, found))
        fixed = found[name].shape
        fits = len(shape) == len(fixed) and all(
            isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(shape, fixed, strict=True)
        )
        if not fits:
            raise ConfigError(
                f"--shape {name}: {show_shape(shape)} does not fit the model's {show_shape(fixed)}",
                hint="a size that the model fixes stays as it is; give sizes for its free ones",
            )
        named = tuple(b if a == LENGTH else a for a, b in zip(shape, fixed, strict=True))
        found[name] = dataclasses.replace(found[name], shape=named)
    return tuple(found.values())


@dataclass(frozen=True)
class RandomInputs:
    """Inputs that were drawn for want of samples, and in words what of, where they are whole numbers."""

    path: Path
    notes: tuple[str, ...] = ()


@stage("data")
def random_inputs(inputs: tuple[TensorSpec, ...], model: OnnxModel | None, seed: int, out: Path) -> RandomInputs:
    """Write 8 seeded random inputs as a .npz; dynamic axes are 1.

    They are standard normal, and whole numbers of the range in which the graph of ``model`` gives them a meaning: the
    rows of a table, a size, a mask, all values of 8 and 16 bits. Where it does not run with these, they are 0 and 1.
    """
    from edgepack.graph.input_ranges import input_ranges, narrower

    ranges = input_ranges(model) if model is not None else {}
    refused = None
    for chosen in narrower(ranges):
        arrays = _drawn(inputs, chosen, seed)
        why = _refused(model, arrays) if model is not None and chosen else None
        if why is None:
            break
        refused = refused or why
    notes = [f"random values of {name!r} are {found.words}" for name, found in sorted(chosen.items())]
    if refused:
        notes = [*(notes or ["random whole numbers are 0 and 1"]), f"the model refused others: {refused}"]
    np.savez(out / "random_inputs.npz", **arrays)  # type: ignore[arg-type]
    return RandomInputs(out / "random_inputs.npz", tuple(notes))


def _refused(model: OnnxModel, arrays: Mapping[str, Array]) -> str | None:
    """Return why the model does not run with one of the inputs; None where it runs with all."""
    from edgepack.graph.compare import run_model

    try:
        for i in range(RANDOM_INPUTS):
            run_model(model, {name: np.asarray(array[i]) for name, array in arrays.items()}, optimize=False)
    except Exception as error:  # ONNX Runtime's errors have no common base
        return " ".join(str(error).split())[:_WORDS]
    return None


def _drawn(inputs: tuple[TensorSpec, ...], ranges: Mapping[str, InputRange], seed: int) -> dict[str, Array]:
    from edgepack.graph.input_ranges import draw, plain_range

    generator = np.random.default_rng(seed)
    arrays = {}
    for spec in inputs:
        stacked = (RANDOM_INPUTS, *(d if isinstance(d, int) and d > 0 else 1 for d in spec.shape))
        if np.dtype(spec.dtype).kind == "f":
            arrays[spec.name] = generator.standard_normal(stacked).astype(spec.dtype)
        else:
            arrays[spec.name] = draw(ranges.get(spec.name) or plain_range(spec), spec, stacked, generator)
    return arrays
