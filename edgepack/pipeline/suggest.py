"""``edgepack recipes suggest``: which recipe an ONNX file probably wants."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from edgepack.base.documents import suggestion
from edgepack.base.shapes import show_shape
from edgepack.data.recipes import load_recipe, write_recipe
from edgepack.data.samples import find_samples, stated_classes, tasks_of
from edgepack.data.sized import Size, picture_size_of
from edgepack.data.suggest import ModelFacts, Suggestion, free_sides, likely_sizes, suggest, with_sides
from edgepack.errors import ChildError, ConfigError, EdgepackError
from edgepack.execution import child
from edgepack.export import require_onnx
from edgepack.graph.load import load_model
from edgepack.graph.output_shapes import Shape, Sized, first_that_runs
from edgepack.lint.fit import judge_fit
from edgepack.profiling.describe import inspect_model
from edgepack.tasks import PICTURE_CLASSES

_LIMIT_S = 120.0


def suggest_recipes(path: Path, size: Size | None = None) -> tuple[Suggestion, ...]:
    """Return the recipes that may fit a file, the surest first.

    A model that takes pictures of any size is looked at as one of ``size`` (height, width), or else of the first
    likely one that it runs with, which the suggestions then propose. Raises ``ModelError`` for a file that is no
    model, ``ConfigError`` for a size that it does not take.
    """
    require_onnx(path)
    found = inspect_model(path)
    inputs = {spec.name: spec.shape for spec in found.inputs}
    outputs = {spec.name: spec.shape for spec in found.outputs}
    facts = ModelFacts(path.stem, inputs, outputs, found.metadata)
    free = free_sides(facts)
    if free is None:
        _refuse_size(path, size)
        return suggest(facts)
    name, shape = free
    tried = likely_sizes(facts) if size is None else (size,)
    sized = _run(path, name, tuple(with_sides(shape, one, 1) for one in tried), quietly=size is None)
    if sized is None:
        return suggest(facts)
    first = suggest(_with_shapes(facts, sized))
    size = _size_of(sized, name, shape)
    return tuple(replace(one, proposed=size) if _fixes_size(one.recipe) else one for one in first)


def suited(found: tuple[Suggestion, ...], data: str) -> tuple[Suggestion, ...]:
    """Return the suggestions whose task can read the labels of ``data``, those first that these are made for.

    Raises ``DataError`` where ``data`` is nothing that is known.
    """
    ranked = [(_rank(one, data), one) for one in found]
    return tuple(one for wanted in (_MADE_FOR, _FOR_ANY) for rank, one in ranked if rank == wanted)


def told_by(path: Path, found: tuple[Suggestion, ...], data: str) -> tuple[Suggestion, ...]:
    """Return suggestions with the names of classes that ``data`` has, and the first with what its labels say.

    What is wrong with the samples is said there too: a suggestion needs none.
    """
    named = tuple(_with_names(one, data) for one in found)
    return (_with_labels(path, named[0], data), *named[1:]) if named else ()


def _with_names(one: Suggestion, data: str) -> Suggestion:
    """Return a suggestion with classes named as ``data`` numbers them, where nothing else names as many."""
    recipe = load_recipe(one.recipe)
    if not one.unnamed or recipe.task is None:
        return one
    try:
        names = stated_classes(data, recipe.preprocessing, recipe.task)
    except EdgepackError:  # _with_labels, or the build, says what is wrong
        return one
    return replace(one, unnamed=0, classes=names) if len(names) == one.unnamed else one


def _with_labels(path: Path, one: Suggestion, data: str) -> Suggestion:
    """Return a suggestion with what is told by running the model on labelled pictures, in a child process."""
    if one.outputs or load_recipe(one.recipe).preprocessing is None:
        return one
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        own = Path(folder) / "own.toml"
        write_suggested(own, (one,))
        try:
            said = child.call(_fit, path.absolute(), own, data, Path(folder), limit_s=_LIMIT_S)
        except EdgepackError as error:
            said = (f"nothing, they could not be tried: {error.message}", *([error.hint] if error.hint else []))
    return replace(one, labels_say=said)


def _fit(path: Path, own: Path, data: str, out: Path) -> tuple[str, ...]:
    model, recipe = load_model(path), load_recipe(str(own))
    samples = find_samples(data, model.inputs, recipe.preprocessing, task=recipe.task)
    if not samples.labelled or samples.preprocessing is None:
        return ()
    found = sorted(judge_fit(model, samples, out).findings, key=lambda finding: finding.severity == "note")
    return tuple(words for finding in found[:1] for words in (finding.message, finding.hint) if words)


_MADE_FOR, _FOR_ANY, _FOR_OTHERS = range(3)


def _rank(suggestion: Suggestion, data: str) -> int:
    task = load_recipe(suggestion.recipe).task
    kinds = tasks_of(data, task)
    if not kinds:
        return _FOR_ANY
    return _MADE_FOR if (task.kind if task is not None else PICTURE_CLASSES) in kinds else _FOR_OTHERS


def _fixes_size(recipe: str) -> bool:
    made = load_recipe(recipe).preprocessing
    return made is not None and picture_size_of(made) is not None


def _refuse_size(path: Path, size: Size | None) -> None:
    if size is not None:
        raise ConfigError(
            f"{path} has no free height and width", hint="leave --size out: its own size is taken, see edgepack inspect"
        )


def _run(path: Path, name: str, shapes: tuple[Shape, ...], *, quietly: bool) -> Sized | None:
    """Return the shapes of the file with the first of ``shapes`` that runs, in a child process: it may be hostile.

    ``quietly`` returns None where none does; else that is a ``ConfigError``.
    """
    try:
        found = child.call(_sized, path.absolute(), name, shapes, limit_s=_LIMIT_S)
    except ChildError:  # it crashed, or took too long
        found = None
    if found is None and not quietly:
        raise ConfigError(
            f"{path} does not run with {name} as {show_shape(shapes[0])}",
            hint="give a size that it takes: many take multiples of 32 only, as --size 320x320",
        )
    return found


def _sized(path: Path, name: str, shapes: tuple[Shape, ...]) -> Sized | None:
    return first_that_runs(load_model(path), name, shapes)


def _with_shapes(facts: ModelFacts, sized: Sized) -> ModelFacts:
    return replace(
        facts,
        inputs={spec.name: spec.shape for spec in sized.inputs},
        outputs={spec.name: spec.shape for spec in sized.outputs},
    )


def _size_of(sized: Sized, name: str, asked: Shape) -> Size:
    """Return height and width that a model ran with."""
    shape = next(spec.shape for spec in sized.inputs if spec.name == name)
    axes = (2, 3) if asked[1] in (1, 3) else (1, 2)
    height, width = (shape[axis] for axis in axes)
    assert isinstance(height, int), "with_sides made it"
    assert isinstance(width, int), "with_sides made it"
    return height, width


def named(found: tuple[Suggestion, ...], recipe: str) -> Suggestion:
    """Return the suggestion of a recipe. Raises ``ConfigError`` where it is not among them."""
    for one in found:
        if one.recipe == recipe:
            return one
    known = [one.recipe for one in found]
    raise ConfigError(f"the recipe {recipe[:80]!r} is not suggested for the model", hint=suggestion(recipe, known))


def write_suggested(out: Path, found: tuple[Suggestion, ...], *, force: bool = False) -> None:
    """Write the first recipe to ``out``, with what must be changed for the model. Raises ``ConfigError``."""
    if not found:
        raise ConfigError("no recipe is suggested for the model", hint="begin one with 'edgepack recipes new'")
    first = found[0]
    write_recipe(
        out, first.recipe, force=force, changes=first.changes, parameters=first.parameters, classes=first.classes,
        unnamed=first.unnamed, outputs=first.outputs, inputs=first.inputs,
    )  # fmt: skip
