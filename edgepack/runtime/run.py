"""Runs a bundle on the user's own input: a .npz with arrays named like the inputs, or a picture."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.base.files import atomic_write, open_regular, read_regular
from edgepack.base.missing import nothing_at
from edgepack.data.npz import read_arrays
from edgepack.data.source import LABELS
from edgepack.engines.common.inputs import check_feeds
from edgepack.errors import DataError
from edgepack.runtime.load import LoadedModel, load, task_of
from edgepack.specs.answer import Answer as TypedAnswer
from edgepack.specs.answer import Mask, RemoteAnswer
from edgepack.specs.bundle import Manifest
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.task import Frame
from edgepack.specs.types import Array
from edgepack.tasks import TASKS, TENSORS, answer, prepare
from edgepack.tasks.pictures import frame_of_input, open_pixels

_TOP = 5
_TEXT_FILES, _TABLES = (".txt", ".md", ".npz", ".npy"), (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")
_MOST_TEXT_BYTES = 4 << 20
_SUMMARY_VALUES = 10_000
_SHOWN_LETTERS = 20


@dataclass(frozen=True)
class Answer:
    """A bundle's outputs by name; ``top5`` is the best classes with their scores, best first.

    ``answer`` is what the bundle's task makes of the outputs for one thing, which lies in the inputs as ``frame`` says;
    None for several things at once, and for a bundle that has no task. ``top5`` is None unless the bundle knows its
    classes and the first output is one row of their scores. ``notes`` say when another engine than the one preferred
    made the answer, and why.
    """

    outputs: Mapping[str, Array]
    top5: tuple[tuple[str, float], ...] | None
    notes: tuple[str, ...] = ()
    answer: TypedAnswer | None = None
    frame: Frame | None = None

    def arrays(self) -> dict[str, Array]:
        """Return what ``--out`` writes: the outputs, and the label of every pixel where that is the answer."""
        labels = {"labels": self.answer.labels} if isinstance(self.answer, Mask) else {}
        return {**self.outputs, **labels}

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints: each output's dtype, shape and, if they are not too many, values."""
        outputs = {
            name: {
                "dtype": value.dtype.name,
                "shape": list(value.shape),
                "values": _json_values(value) if value.size <= _SUMMARY_VALUES else None,
            }
            for name, value in self.outputs.items()
        }
        top5 = None
        if self.top5 is not None:
            top5 = [{"class": name, "score": _json_values(np.asarray(score))} for name, score in self.top5]
        summary = {"outputs": outputs, "top5": top5, "notes": list(self.notes)}
        if self.answer is None:
            return summary
        return {**summary, "answer": self.answer.summary(), "text": list(self.answer.lines())}


def read_answer(summary: Any, outputs: Mapping[str, Array]) -> Answer:
    """Return the answer that ``summary`` is of, with the outputs beside it.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` where it is of none.
    """
    best = summary["top5"]
    top5 = None if best is None else tuple((str(one["class"]), float(one["score"])) for one in best)
    told = None
    if "answer" in summary:
        told = RemoteAnswer(
            tuple(map(str, summary["text"])), {str(key): value for key, value in summary["answer"].items()}
        )
    return Answer({name: outputs[name] for name in summary["outputs"]}, top5, tuple(map(str, summary["notes"])), told)


def run(bundle: Path, source: Path | str, options: RunOptions | None = None) -> Answer:
    """Load ``bundle``, feed it ``source`` and return what comes out.

    ``source`` is a file, or the text itself for a task about texts. Without ``options`` it runs with those that were
    tuned here. Where the model's batch is fixed, a larger one is run in pieces. Raises ``DataError`` when ``source``
    does not fit the inputs, and what ``load`` raises.
    """
    with load(bundle, options) as model:
        if (streamed := _stream(source, model)) is not None:
            return streamed
        feeds, frame = read_input(source, model)
        pieces = [
            {name: np.array(value) for name, value in model.infer(piece).items()}
            for piece in _pieces(feeds, model.inputs)
        ]
    names = [tensor.name for tensor in model.outputs]
    if len(pieces) == 1:
        outputs = {name: pieces[0][name] for name in names}
    else:
        outputs = {name: np.concatenate([np.atleast_1d(piece[name]) for piece in pieces]) for name in names}
        frame = None
    chosen = "postprocessing" in model.manifest.embedded  # its first output is then not a score of each class
    top = None if chosen else _top(outputs[names[0]], model.manifest.classes)
    notes = (*model.notes, *_unread(frame))
    return with_answer(Answer(outputs, top, notes, frame=frame), model.manifest)


def _unread(frame: Frame | None) -> tuple[str, ...]:
    """Say that a text is read in part."""
    if frame is None or not frame.read_to:
        return ()
    last = frame.text[max(frame.read_to - _SHOWN_LETTERS, 0) : frame.read_to]
    return (
        f"the text is longer than what the model reads: of its {len(frame.text)} characters the first {frame.read_to} "
        f"were read, up to {last!r}",
    )


def _stream(source: Path | str, model: LoadedModel) -> Answer | None:
    """Return the answer of a model that is run many times for one thing; None for others, and for arrays."""
    task = model.manifest.task
    stream = TASKS.get(task.kind).stream if task is not None else None
    if stream is None or _is_arrays(Path(source)):
        return None
    outputs, frame = stream(model.infer, source, model.making)
    return with_answer(Answer(outputs, None, model.notes, frame=frame), model.manifest)


def with_answer(found: Answer, manifest: Manifest) -> Answer:
    """Return outputs with what the bundle's task makes of them, where they are those for one thing."""
    task = task_of(manifest)
    if found.frame is None or (manifest.task is None and task.kind == TENSORS):
        return found
    return dataclasses.replace(found, answer=answer(task, found.outputs, found.frame))


def write_drawing(out: Path, source: Path, bundle: Path, found: Answer) -> None:
    """Write the picture ``source`` with an answer drawn in, as a PNG or JPEG by its name. Raises ``DataError``."""
    from edgepack.bundle.archive import open_bundle

    task = open_bundle(bundle).manifest.task
    draw = TASKS.get(task.kind).draw if task is not None else None
    if isinstance(found.answer, RemoteAnswer):
        raise DataError("the answer of another machine is not drawn", hint="leave --draw or --on out")
    if draw is None or found.answer is None or _is_arrays(source):
        raise DataError("there is nothing to draw: the answer is not about a picture", hint="leave --draw out")
    from PIL import Image

    pixels = draw(open_pixels(source), found.answer)
    kind = "PNG" if out.suffix.lower() == ".png" else "JPEG"
    with atomic_write(out) as file:
        Image.fromarray(pixels).save(file, kind, quality=92)


def read_input(source: Path | str, model: LoadedModel) -> tuple[dict[str, Array], Frame | None]:
    """Return the arrays for the inputs, checked, and where the thing that they were made of lies in them.

    None for arrays of several samples. Raises ``DataError``.
    """
    manifest = model.manifest
    words = manifest.task is not None and TASKS.get(manifest.task.kind).words
    if words:
        _refuse_file_for_text(str(source))
    if words and not os.path.isfile(source):  # noqa: PTH113 (Path.is_file raises for a long sentence)
        prepared = prepare(str(source), model.making)
        return dict(prepared.feeds), prepared.frame
    source = Path(source)
    plain = manifest.task is None and task_of(manifest).kind == TENSORS
    if plain or _is_arrays(source):
        feeds = read_feeds(source, manifest)
        one = all(len(feeds[t.name]) == 1 for t in manifest.inputs if t.shape and feeds[t.name].ndim == len(t.shape))
        return feeds, frame_of_input(model.making) if one and manifest.task is not None else None
    prepared = prepare(_read_text(source) if words else source, model.making)
    return dict(prepared.feeds), prepared.frame


def _refuse_file_for_text(source: str) -> None:
    """Raise ``DataError`` for a word that must be a file's name and is none here, and for a file of many texts."""
    suffix = os.path.splitext(source)[1].lower()  # noqa: PTH122 (of a long sentence)
    there = os.path.isfile(source)  # noqa: PTH113
    if not there and not any(letter.isspace() for letter in source) and suffix in (*_TEXT_FILES, *_TABLES):
        message, hint = nothing_at(source, "check the path, or give the sentence itself")
        raise DataError(message, hint=hint)
    if there and suffix in _TABLES:
        raise DataError(f"{source} holds many texts", hint="give one: a sentence, or a .txt file with it")


def _read_text(source: Path) -> str:
    try:
        return read_regular(source, _MOST_TEXT_BYTES).decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} is not UTF-8 text: {error}", hint="give a sentence, or a file with one") from error


def read_feeds(source: Path, manifest: Manifest) -> dict[str, Array]:
    """Return the arrays for the model's inputs, checked against their dtypes and shapes. Raises ``DataError``."""
    if _is_arrays(source):
        return _read_npz(source, manifest)
    return _read_picture(source, manifest)


def _is_arrays(source: Path) -> bool:
    """Return whether a file is a .npz, by what it holds. Raises ``DataError`` for what cannot be read."""
    if source.is_dir():
        raise DataError(f"{source} is a folder", hint="give one picture or one .npz")
    try:
        with open_regular(source) as file:
            start = file.read(4)
    except FileNotFoundError:
        hint = "check the path; this bundle takes a file, not a sentence" if " " in source.name else "check the path"
        message, hint = nothing_at(source, hint)
        raise DataError(message, hint=hint) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {source}: {error}", hint="check the path") from None
    return start == b"PK\3\4" or source.suffix in (".npz", ".npy")


def _read_npz(source: Path, manifest: Manifest) -> dict[str, Array]:
    if source.suffix == ".npy":
        raise DataError(
            f"{source} does not say which input it is for", hint=f"save it with numpy.savez: {_example(manifest)}"
        )
    names = [tensor.name for tensor in manifest.inputs]
    try:
        feeds, held = read_arrays(source, names)
    except MemoryError:
        raise DataError(f"{source} holds more than fits into memory") from None
    if lacking := [name for name in names if name not in feeds]:
        raise DataError(
            f"{source} has no array {lacking[0]!r}; it has {', '.join(held[:8]) or 'nothing'}",
            hint=f"save it with {_example(manifest)}",
        )
    if extra := [name for name in held if name not in (*names, LABELS)]:
        raise DataError(
            f"{source} has arrays that are not inputs of {manifest.name}: {', '.join(map(repr, extra[:8]))}",
            hint=f"save it with {_example(manifest)}",
        )
    for name, array in feeds.items():
        if not array.size:
            raise DataError(f"{source}: {name!r} is empty: its shape is {array.shape}", hint="give at least one sample")
        if array.dtype.kind == "f" and not np.isfinite(array).all():  # engines differ in what they make of these
            what = "NaN" if np.isnan(array).any() else "an infinite number"
            raise DataError(f"{source}: {name!r} holds {what}", hint="check how the input was made")
    return feeds


def _read_picture(source: Path, manifest: Manifest) -> dict[str, Array]:
    from edgepack.data.preprocess import read_picture

    if manifest.preprocessing is None or len(manifest.inputs) != 1:
        why = "has no preprocessing for pictures" if manifest.preprocessing is None else "has more than one input"
        raise DataError(f"{manifest.name} {why}", hint=f"give a .npz saved with {_example(manifest)}")
    return {manifest.inputs[0].name: read_picture(source, manifest.preprocessing)[np.newaxis]}


def _example(manifest: Manifest) -> str:
    arguments = ", ".join(f"{tensor.name!r}: ..." for tensor in manifest.inputs)
    return f"numpy.savez('input.npz', **{{{arguments}}})"


def _pieces(feeds: Mapping[str, Array], inputs: tuple[TensorSpec, ...]) -> list[Mapping[str, Array]]:
    """Split samples into batches of the size that the model is fixed to, and check each. Raises ``DataError``."""
    counts = {_batches(feeds[tensor.name], tensor) for tensor in inputs}
    if len(counts) > 1 or counts == {1}:
        check_feeds(feeds, inputs)
        return [feeds]
    parts = {name: np.split(array, max(counts)) for name, array in feeds.items()}
    pieces: list[Mapping[str, Array]] = [
        {name: np.ascontiguousarray(arrays[i]) for name, arrays in parts.items()} for i in range(max(counts))
    ]
    check_feeds(pieces[0], inputs)  # the others have the same dtypes and shapes
    return pieces


def _batches(array: Array, tensor: TensorSpec) -> int:
    """Return how many of the model's fixed batches an array holds; 1 where the batch is free or does not fit."""
    batch = tensor.shape[0] if tensor.shape else None
    if not isinstance(batch, int) or array.ndim != len(tensor.shape) or array.shape[0] % batch:
        return 1
    return int(array.shape[0] // batch)


def _top(scores: Array, classes: tuple[str, ...]) -> tuple[tuple[str, float], ...] | None:
    row = scores.reshape(-1)
    if not classes or scores.shape != (1, len(classes)) or row.dtype.kind not in "fiu":
        return None
    best = np.argsort(-row.astype(np.float64), kind="stable")[:_TOP]
    return tuple((classes[i], float(row[i])) for i in best)


def _json_values(value: Array) -> Any:
    """Return nested lists; NaN and infinities, which JSON does not have, as text."""
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return value.tolist()
    texts = value.astype(object)
    texts[~np.isfinite(value)] = [str(x) for x in value[~np.isfinite(value)]]
    return texts.tolist()
