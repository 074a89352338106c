"""From what the user named to a checked, simplified fp32 ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from edgepack.base.shapes import by_input
from edgepack.base.stage import stage
from edgepack.data.recipes import load_recipe
from edgepack.data.rows import rows_file
from edgepack.data.samples import find_samples, reads_elsewhere, take_samples
from edgepack.data.split import SampleRequest, with_shapes
from edgepack.data.text_file import KINDS
from edgepack.errors import ConfigError
from edgepack.execution.runner import StageRunner
from edgepack.export import export, find_framework, require_onnx, require_source
from edgepack.export.archive import archive_suffix, unpack_source
from edgepack.export.environments import is_made
from edgepack.export.torch_onnx import read_compared
from edgepack.export.worker import Worker, find_interpreter, lock_needed, read_facts, refuse_code, tokenizer_of
from edgepack.graph.freeze import freeze, set_inputs
from edgepack.graph.keep_outputs import keep_outputs
from edgepack.graph.prepare import prepare
from edgepack.specs.data import Preprocessing, Recipe, SampleSet
from edgepack.specs.model import LENGTH, UNNAMED, OnnxModel
from edgepack.specs.source import Interpreter, SourceFacts, SourceOptions
from edgepack.specs.task import Task
from edgepack.specs.types import UserSource
from edgepack.tasks import PICTURE_CLASSES

Shapes = Mapping[str, tuple[int | str, ...]]

_SAMPLES = 4
_SHOWN = 50
_NAMED = 5


def _reads_elsewhere(data: str, *_others: object) -> bool:
    return reads_elsewhere(data)


@stage("samples", tracks=_reads_elsewhere)
def find_for_export(
    data: UserSource,
    preprocessing: Preprocessing | None,
    task: Task | None,
    seed: int,
    skip_bad: int,
    out: Path,  # noqa: ARG001
) -> SampleSet:
    """Return a few samples of ``data``, which give an exported module its input shapes and are compared on."""
    found = find_samples(data, None, preprocessing, task=task, skip_bad=skip_bad)
    return take_samples(found, min(_SAMPLES, len(found.indices)), seed)


def export_model(
    runner: StageRunner,
    source: str,
    data: str | None = None,
    preprocessing: Preprocessing | None = None,
    shapes: Shapes | None = None,
    seed: int = 0,
    task: Task | None = None,
    options: SourceOptions | None = None,
    skip_bad: int = 0,
) -> OnnxModel:
    """Return the exported ONNX model of a trained model; one that is not an ONNX file yet is compared on samples."""
    samples, options = None, options or SourceOptions()
    if archive_suffix(source) is not None:
        packed, source = source, str(runner.run(unpack_source, source, title=short(source)))
        runner.events.note(f"of {packed}, {Path(source).name} is read")
    framework = find_framework(source)
    if data is not None and (framework is None or framework.uses_samples):
        title = f"{short(data)} for the export"
        samples = runner.run(find_for_export, data, preprocessing, task, seed, skip_bad, title=title)
    if framework is not None and framework.worker is not None:
        require_source(source)  # no environment is made for what no framework reads
        options = replace(options, interpreter=_interpreter(runner, framework.worker, source, options))
    model = runner.run(export, source, samples, shapes or {}, options, title=short(source))
    if (facts := read_facts(model)) is not None:
        for line in told(facts):
            runner.events.note(line)
    if (compared := read_compared(model)) is not None and compared.largest_difference is not None:
        how_far = _difference(compared.largest_difference, compared.inputs)
        runner.events.note(f"exported by torch {compared.torch}; ONNX Runtime {how_far}")
    if framework is not None and framework.note is not None and (note := framework.note(model)) is not None:
        runner.events.note(f"exported {note}; compared with the module on samples and random inputs")
    return model


def _interpreter(runner: StageRunner, worker: Worker, source: str, options: SourceOptions) -> Interpreter:
    """Return the Python for a source; where an environment must be made for it, say so first, and how large it is."""
    refuse_code(worker, source, options)
    lock = lock_needed(worker, options)
    if lock is None or is_made(lock):
        return find_interpreter(worker, options)
    title = f"for {lock.name}: {len(lock.packages)} packages, {lock.size_mb} MB, once"
    runner.events.begin("environment", title)
    try:
        found = find_interpreter(worker, options, runner.events.progress)
    except BaseException:
        runner.events.end("failed", title)
        raise
    runner.events.end("done", title)
    return found


def told(facts: SourceFacts) -> Iterator[str]:
    """Yield what the user should know of how a model was read."""
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    how_far = _difference(facts.largest_difference, facts.pairs)
    yield f"exported by {facts.framework} ({versions}); ONNX Runtime {how_far}"
    yield from facts.notes
    if facts.not_confined:
        left = "; ".join(facts.not_confined)
        yield f"the model's own code could have used what this system could not deny it: {left}"


def _difference(largest: float, inputs: int) -> str:
    on = "1 input" if inputs == 1 else f"{inputs} inputs"
    if not largest:
        return f"gives exactly its own answers on {on}"
    return f"differs from its own answers by at most {largest:.0e} of the largest value on {on}"


# The class that a transformer's configuration names, by its end, and the task that edgepack knows for it.
_TEXT_TASKS = {"ForSequenceClassification": "text-classification", "ForTokenClassification": "token-classification"}


def request_of_source(runner: StageRunner, request: SampleRequest, model: OnnxModel) -> SampleRequest:
    """Return a request with what the model's source states of its samples, where the user says nothing of it.

    Pictures: their preparation and the classes. Texts: the task, the classes and the tokenizer. Sounds: their rate.
    """
    facts = read_facts(model)
    if facts is None:
        return request
    for ask in (_of_pictures, _of_texts, _of_sounds):
        request = ask(runner, request, facts, model)
    return request


def _of_pictures(runner: StageRunner, request: SampleRequest, facts: SourceFacts, _model: OnnxModel) -> SampleRequest:
    if facts.preprocessing is None or request.preprocessing is not None:
        return request
    runner.events.note(f"pictures are prepared as {facts.framework} states it: {in_words(facts.preprocessing)}")
    task = request.task
    if task is None and facts.classes:
        runner.events.note(f"the classes are those that {facts.framework} states: {_some(facts.classes)}")
        task = Task(PICTURE_CLASSES, classes=facts.classes)
    return replace(request, preprocessing=facts.preprocessing, task=task)


def _of_texts(runner: StageRunner, request: SampleRequest, facts: SourceFacts, model: OnnxModel) -> SampleRequest:
    """Take the task where the samples are rows of texts, and the tokenizer and classes that it lacks."""
    data = request.data or request.eval_data
    kind = next((kind for end, kind in _TEXT_TASKS.items() if (facts.task or "").endswith(end)), None)
    task = request.task
    if task is None and kind is not None and data is not None and rows_file(data) is not None:
        task = Task(kind, classes=facts.classes)
        classes = f", the classes {_some(facts.classes)}" if facts.classes else ""
        runner.events.note(f"{facts.framework} states the task, {kind}{classes}")
    tokenizer = tokenizer_of(model)
    if task is None or task.kind not in KINDS or tokenizer is None or task.input.get("tokenizer"):
        return replace(request, task=task)
    runner.events.note(f"texts are made into tokens by the tokenizer that came with the model from {facts.framework}")
    return replace(request, task=replace(task, input={**task.input, "tokenizer": str(tokenizer)}))


def _of_sounds(runner: StageRunner, request: SampleRequest, facts: SourceFacts, _model: OnnxModel) -> SampleRequest:
    task = request.task
    if facts.sampling_rate is None or task is None or task.kind != "audio-classification" or "rate" in task.input:
        return request
    runner.events.note(f"sounds are resampled to {facts.sampling_rate} Hz, as {facts.framework} states it")
    return replace(request, task=replace(task, input={**task.input, "rate": facts.sampling_rate}))


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def in_words(preprocessing: Preprocessing) -> str:
    """Return what is done with a picture, in words."""
    size = preprocessing.crop or preprocessing.resize
    parts = [f"{size[1]} x {size[0]}" if size else "its own size"]
    parts += [f"shorter side {preprocessing.resize_short}"] if preprocessing.resize_short else []
    parts += [preprocessing.interpolation, preprocessing.color, f"times {preprocessing.scale:.4g}"]
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        parts.append(f"{name} {', '.join(f'{value:.4g}' for value in values)}")
    return "; ".join(parts)


def export_and_prepare(
    runner: StageRunner,
    source: str,
    shapes: Shapes,
    data: str | None,
    recipe: str | None,
    constants: Mapping[str, str] | None = None,
    options: SourceOptions | None = None,
    *,
    skip_bad: int = 0,
) -> OnnxModel:
    """Return the checked, simplified fp32 model; ``recipe`` is the name or file of one."""
    found = load_recipe(recipe, shapes) if recipe else None
    tell_size(runner, recipe, found)
    preprocessing, task = (found.preprocessing, found.task) if found is not None else (None, None)
    exported = export_model(runner, source, data, preprocessing, shapes, task=task, options=options, skip_bad=skip_bad)
    exported = fix_inputs(runner, exported, shapes, constants or {})
    exported = use_outputs(runner, exported, found)
    return runner.run(prepare, exported, title=f"opset {exported.opset}")


def tell_size(runner: StageRunner, name: str | None, used: Recipe | None) -> None:
    """Say that the shapes that the user gave make pictures of another size than the recipe alone, and how."""
    if name is None or used is None or used.preprocessing is None:
        return
    if load_recipe(name).preprocessing != used.preprocessing:
        runner.events.note(f"--shape: the recipe {used.name} makes pictures so: {in_words(used.preprocessing)}")


def load_onnx(runner: StageRunner, path: Path) -> OnnxModel:
    """Return the checked ONNX file of a user; it is loaded in a child process because it may be hostile."""
    require_onnx(path)
    return export_model(runner, str(path))


def fix_inputs(runner: StageRunner, model: OnnxModel, shapes: Shapes, constants: Mapping[str, str]) -> OnnxModel:
    """Return the model with inputs fixed to what the user set, and axes to the sizes that the user gave.

    A free first axis is the samples' batch and stays free, unless the user gives it a size above 1: then it is the
    length of a sequence, or the only batch that the model is to take, for every engine. One given as ``*`` stays free
    and is a length: it gets a name that says so, which the bundle keeps.
    """
    if constants:
        title = ", ".join(f"{name}={value}" for name, value in constants.items())
        model = runner.run(set_inputs, model, constants, title=title)
    known = {spec.name: spec.shape for spec in model.inputs}
    named = by_input(shapes, tuple(known))
    given = {name: shape for name, shape in named.items() if len(shape) == len(known.get(name, ()))}
    batches = {known[name][0] for name, shape in given.items() if shape and shape[0] == 1} - {UNNAMED}
    fixed = {name: _without_batch(shape, known[name], batches) for name, shape in given.items()}
    for name, shape in given.items():
        if isinstance(shape[0] if shape else 0, str) and str(shape[0]).startswith(LENGTH):
            fixed[name] = (_length(str(shape[0]), known[name][0], name), *fixed[name][1:])
    return freeze_shapes(runner, model, fixed) if fixed else model


def use_outputs(runner: StageRunner, model: OnnxModel, recipe: Recipe | None) -> OnnxModel:
    """Return the model with the outputs alone that its recipe names, where it names some; say which are left out."""
    known = tuple(spec.name for spec in model.outputs)
    if recipe is None or recipe.outputs in ((), known):
        return model
    try:
        kept = runner.run(keep_outputs, model, recipe.outputs, title=", ".join(recipe.outputs))
    except ConfigError as error:
        raise ConfigError(f"the recipe {recipe.name}: outputs: {error.message}", hint=error.hint) from error
    if left := [name for name in known if name not in recipe.outputs]:
        runner.events.note(f"left out, as the recipe {recipe.name} does not name them: the outputs {', '.join(left)}")
    return kept


def _without_batch(
    given: tuple[int | str, ...], known: tuple[int | str, ...], batches: set[int | str]
) -> tuple[int | str, ...]:
    """Return a shape as given, but with the model's own name where an axis is free, or a batch that is given as 1."""
    batch = given[:1] == (1,) and isinstance(known[0], str)
    return tuple(
        old
        if isinstance(size, str) or (size == 1 and isinstance(old, str) and (old in batches or (batch and not axis)))
        else size
        for axis, (size, old) in enumerate(zip(given, known, strict=True))
    )


def _length(given: str, known: int | str, name: str) -> int | str:
    """Return the name of a first axis that the user declared a length: given, or the model's own, or the input's."""
    if not isinstance(known, str):
        return known
    return given if given != LENGTH else LENGTH + (name if known == UNNAMED else known.removeprefix(LENGTH))


def freeze_shapes(runner: StageRunner, model: OnnxModel, shapes: Shapes) -> OnnxModel:
    """Return the model with the sizes that the user gave for its inputs, for an engine that compiles for fixed ones."""
    inputs = with_shapes(model.inputs, shapes)
    return model if inputs == model.inputs else runner.run(freeze, model, inputs, title="sizes of --shape")


def short(place: str) -> str:
    """Return a path or reference as it is shown beside a stage: the last part of a long one."""
    return place if len(place) <= _SHOWN else "…/" + place.rstrip("/").rpartition("/")[2]
