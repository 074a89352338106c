"""token-classification: parts of a sentence and what they are, of a tag for each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.data.text_file import split_tag
from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Answer
from edgepack.specs.signal_answers import Span, Spans
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import TaskKind, no_more, read_settings
from edgepack.tasks.image_classification import probabilities
from edgepack.tasks.texts import check_text, prepare_text, tokenizer_files


@dataclass(frozen=True)
class Settings:
    """``outside`` is the tag of what is no part; other tags begin with ``B-``, ``I-``, ``E-`` or ``S-``, or do not."""

    outside: str = "O"


@dataclass(frozen=True)
class Tagged:
    """A word of the text, from ``start`` to ``end``, with the tag of its first token."""

    start: int
    end: int
    tag: str
    score: float


def words_of(frame: Frame, tags: Sequence[str], scores: Sequence[float]) -> list[Tagged]:
    """Return the words of a text with the tags of their first tokens; tokens without a gap between them are a word.

    Punctuation is a word of its own. Special tokens, which lie nowhere in the text, are left out.
    """
    found: list[Tagged] = []
    places = zip(fit_places(frame, len(tags)), tags, scores, strict=True)
    for (start, end), tag, score in places:
        if start == end:
            continue
        last = found[-1] if found else None
        joined = last is not None and last.end == start and _is_word(frame.text, last.end - 1, start)
        if last is not None and joined:
            found[-1] = Tagged(last.start, end, last.tag, last.score)
        else:
            found.append(Tagged(start, end, tag, score))
    return found


def _is_word(text: str, *places: int) -> bool:
    return all(place < len(text) and text[place].isalnum() for place in places)


def fit_places(frame: Frame, length: int) -> list[tuple[int, int]]:
    """Return where ``length`` tokens lie in the text: filled ones nowhere, those that a model cut left out."""
    places = list(frame.places)
    if len(places) > length:
        after = next((i for i, place in enumerate(reversed(places)) if place != (0, 0)), 0)
        places = [*places[: length - after], *places[len(places) - after :]]
    filling = [(0, 0)] * (length - len(places))
    return [*filling, *places] if frame.left else [*places, *filling]


def join(words: Sequence[Tagged], outside: str, text: str) -> tuple[Span, ...]:
    """Return spans of tagged words: ``B-`` and ``S-`` begin one, ``I-`` and ``E-`` of the same name go on with it.

    Tags without such a prefix go on with a span of their own name. A span's score is the least of its words.
    """
    spans: list[Span] = []
    is_open = False
    for word in words:
        if word.tag == outside:
            is_open = False
            continue
        prefix, name = split_tag(word.tag)
        last = spans[-1] if spans else None
        if is_open and last is not None and prefix in ("I", "E", "L") and last.name == name:
            spans[-1] = Span(last.start, word.end, name, text[last.start : word.end], min(last.score, word.score))
        else:
            spans.append(Span(word.start, word.end, name, text[word.start : word.end], word.score))
        is_open = prefix not in ("E", "S", "L", "U")
    return tuple(spans)


def _answer(task: Task, outputs: Mapping[str, Array], frame: Frame, _measuring: bool) -> Answer:
    settings = read_settings(Settings, task.settings)
    values = np.asarray(next(iter(outputs.values())), np.float64)
    if values.ndim != 3 or len(values) != 1 or values.shape[2] != len(task.classes):
        raise DataError(
            f"an output {list(values.shape)} has no tag of {len(task.classes)} for each token",
            hint="give the tags in the model's order: classes in [task] of the recipe",
        )
    if not frame.places:
        raise DataError("it is not known where tokens lie in the text", hint="give texts and a tokenizer, not arrays")
    scores = np.stack([probabilities(row, "softmax") for row in values[0]])
    best = scores.argmax(axis=1)
    tags = [task.classes[i] for i in best]
    return Spans(join(words_of(frame, tags, scores.max(axis=1).tolist()), settings.outside, frame.text))


def _check(task: Task) -> None:
    no_more(task, input=True)
    settings = read_settings(Settings, task.settings)
    if task.classes and settings.outside not in task.classes:
        raise ConfigError(
            f"outside = {settings.outside!r} is not one of the classes", hint="name the tag of words that are not part"
        )
    check_text(task)


TASK = TaskKind(
    "parts of a sentence", "a sentence", prepare_text, _answer, _check, ("span-f1",), files=tokenizer_files, words=True
)
