"""A .csv, .tsv or .jsonl with a column of texts as samples, made into token ids by a tokenizer.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base import documents
from edgepack.base.documents import suggestion
from edgepack.data.checks import check_shape
from edgepack.data.named_classes import number_classes
from edgepack.data.rows import Rows, find_column, read_rows, rows_file
from edgepack.data.source import Asked, Bad, Contents, Item, Source
from edgepack.data.text.inputs import text_input
from edgepack.data.text.tokenizer import Encoded, Tokenizer, load_tokenizer
from edgepack.data.zip_file import unpacked
from edgepack.errors import ConfigError, DataError
from edgepack.specs.signal_answers import Span, Spans
from edgepack.specs.signals import Text
from edgepack.specs.task import Frame

if TYPE_CHECKING:
    from edgepack.data.labels import Labels
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Task

TOKENIZER = "tokenizer.json"
# The tasks whose inputs are texts, and how their labels are read: a class, or parts of the text.
KINDS = ("text-classification", "sentence-embedding", "token-classification")
SPANS = "token-classification"
_PREFIXES = ("B", "I", "E", "S", "L", "U")  # of tags, before a dash: where in a part a word stands
_TEXTS = ("text", "sentence", "utterance", "question", "content", "input")
LABEL_COLUMNS = ("label", "labels", "category", "class", "intent", "target", "y")


@dataclass(frozen=True)
class TextFile:
    """The texts of a file with their labels, numbers or spans; None without a label column."""

    rows: Rows
    texts: tuple[str, ...]
    labels: Labels | None
    classes: tuple[str, ...]
    bad: tuple[Bad, ...]


def text_settings(task: Task) -> Text:
    """Return how a task's texts become inputs. Raises ``ConfigError``."""
    found: Text = documents.decode(Text, documents.encode(task.input), "task.input")
    return found


def tokenizer_path(made: Text, data: Path) -> Path:
    """Return the tokenizer's file: the one that the recipe names, else tokenizer.json beside the data."""
    if made.tokenizer:
        return Path(made.tokenizer)
    beside = data.parent / TOKENIZER
    if not beside.is_file():
        raise DataError(
            f"no tokenizer is known: there is no {TOKENIZER} beside {data}",
            hint=f"copy the model's {TOKENIZER} there, or write tokenizer = 'path' in [task.input] of the recipe",
        )
    return beside


def read_text_file(path: Path, made: Text, task: Task) -> TextFile:
    """Return the texts and labels of a file. Raises ``DataError`` where it has no column of texts."""
    rows = read_rows(path)
    text = find_column(rows, made.text, _TEXTS, "text")
    label = find_column(rows, made.label, LABEL_COLUMNS, "label")
    if text is None:
        others = [column for column in rows.columns if column != label]
        if len(others) != 1:
            raise DataError(
                f"{path} has no column of texts; it has {', '.join(rows.columns[:8])}",
                hint="name one of them 'text', or write text = 'column' in [task.input] of the recipe",
            )
        text = others[0]
    texts = tuple(cells.get(text, "") for cells in rows.cells)
    empty = tuple(
        Bad(i, f"{rows.where(i, text)} holds no text", "remove the row")
        for i, found in enumerate(texts)
        if not found.strip()
    )
    if label is None:
        return TextFile(rows, texts, None, task.classes, empty)
    words = [cells.get(label, "") for cells in rows.cells]
    if task.kind == SPANS:
        spans, bad = _spans(rows, label, words, texts, dict.fromkeys(split_tag(tag)[1] for tag in task.classes))
        return TextFile(rows, texts, spans, task.classes, (*empty, *bad))
    several = next((i for i, word in enumerate(words) if word.startswith("[") and word.endswith("]")), None)
    if several is not None and path.suffix.lower() == ".jsonl":
        raise DataError(
            f"{rows.where(several, label)} is a list, and a text has one class", hint="write the class by itself"
        )
    numbers, classes, bad = number_classes(words, task.classes, lambda i: rows.where(i, label))
    return TextFile(rows, texts, numbers, classes, (*empty, *bad))


def split_tag(tag: str) -> tuple[str, str]:
    """Return where in a part a tag's word stands and the part's name: B and PER of B-PER, I and PER of PER."""
    prefix, dash, name = tag.partition("-")
    return (prefix, name) if dash and prefix in _PREFIXES else ("I", tag)


def _spans(
    rows: Rows, label: str, words: Sequence[str], texts: Sequence[str], names: Collection[str]
) -> tuple[list[Spans], tuple[Bad, ...]]:
    """Return labels written as JSON: a list of [start, end, name], in characters of the text; ``names`` are known."""
    found, bad = [], []
    for i, (word, text) in enumerate(zip(words, texts, strict=True)):
        try:
            parts = json.loads(word or "[]")
            spans = tuple(Span(int(start), int(end), str(name), text[start:end]) for start, end, name in parts)
            if not all(0 <= span.start < span.end <= len(text) for span in spans):
                raise ValueError(f"a span lies outside of the text, which has {len(text)} characters")
            if (other := next((span.name for span in spans if names and span.name not in names), None)) is not None:
                known = suggestion(other, [name for name in names if name])
                bad.append(Bad(i, f"{rows.where(i, label)}: no tag of the model is for {other!r}", known))
        except (ValueError, TypeError, RecursionError) as error:
            bad.append(Bad(i, f"{rows.where(i, label)} is not a list of spans: {error}", 'write [[0, 5, "PER"], ...]'))
            spans = ()
        found.append(Spans(tuple(sorted(spans, key=lambda span: (span.start, span.end)))))
    return found, tuple(bad)


def frame_of_text(text: str, tokenizer: Tokenizer, made: Text) -> Frame:
    """Return what answers about a text need: the text, and where its tokens lie in it before a model cuts them."""
    encoded = tokenizer.encode(text, made.max_length if made.max_length is not None else tokenizer.max_length)
    read_to = read_part(encoded) if encoded.cut else 0
    return Frame(text=text, places=encoded.places, left=tokenizer.filling.left, read_to=read_to)


def read_part(encoded: Encoded) -> int:
    """Return where the last token of a text that is cut ends in it."""
    return max((end for _, end in encoded.places), default=0)


def _path(asked: Asked) -> Path:
    path = rows_file(asked.source)
    if path is None:
        raise DataError(f"{asked.source} is no longer there", hint="do not change the data during a run")
    return path


def tokenizer_beside(task: Task, data: Path) -> Path | None:
    """Return the tokenizer that a bundle takes along; None where no file was named and none lies beside the data.

    ``data`` is what the user named: a file, a folder with one, or a zip file of it.
    """
    made = text_settings(task)
    if made.tokenizer:
        return Path(made.tokenizer)
    inside = unpacked(data) if data.suffix.lower() == ".zip" and data.is_file() else data
    beside = (inside if inside.is_dir() else inside.parent) / TOKENIZER
    return beside if beside.is_file() else None


def _task(asked: Asked) -> Task:
    if asked.task is None:
        raise ConfigError(f"{asked.source} contains texts, and no task says what they are for", hint="add --task")
    return asked.task


def _recognises(data: str, task: Task | None) -> bool:
    return task is not None and task.kind in KINDS and rows_file(data) is not None


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    path, task = _path(asked), _task(asked)
    made = text_settings(task)
    tokenizer_file = tokenizer_path(made, path)
    tokenizer = load_tokenizer(tokenizer_file)
    found = read_text_file(path, made, task)
    if inputs is not None:
        text_input(tokenizer, found.texts[0], made, inputs)
    of_tokenizer = digest(tokenizer_file)
    return Contents(
        len(found.texts),
        lambda index: _digest(found.texts[index], of_tokenizer),
        found.labels,
        found.classes,
        (),
        tuple(f"{path.name} line {line}" for line in found.rows.lines),
        found.bad,
        frame=lambda index: frame_of_text(found.texts[index], tokenizer, made),
    )


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    path, task = _path(asked), _task(asked)
    made = text_settings(task)
    tokenizer_file = tokenizer_path(made, path)
    tokenizer, of_tokenizer = load_tokenizer(tokenizer_file), hashlib.sha256(tokenizer_file.read_bytes()).hexdigest()
    found = read_text_file(path, made, task)
    for index in indices:
        if index >= len(found.texts):
            raise DataError(f"{path} has only {len(found.texts)} rows left", hint="do not change the data during a run")
        feed, _ = text_input(tokenizer, found.texts[index], made, inputs)
        for spec in inputs:
            check_shape(feed[spec.name].shape, spec, found.rows.where(index))
        label: Any = None if found.labels is None else found.labels[index]
        yield Item(feed, _digest(found.texts[index], of_tokenizer), label)


def _digest(text: str, of_tokenizer: str) -> str:
    return hashlib.sha256(f"{of_tokenizer}:{text}".encode("utf-8", "surrogatepass")).hexdigest()


SOURCE = Source(_recognises, _scan, _read, named=True)
