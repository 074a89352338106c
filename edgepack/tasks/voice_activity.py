"""voice-activity: where somebody speaks in a sound, by a model that reads it chunk after chunk and keeps a state.

The feeding is that of silero-vad 5 and 6 (``OnnxWrapper`` in its utils_vad.py), and so is what makes segments of
probabilities (``get_speech_timestamps``), without its largest length of a segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.base import documents
from edgepack.data.audio.features import to_rate
from edgepack.errors import ConfigError, DataError
from edgepack.specs.answer import Answer
from edgepack.specs.model import TensorSpec
from edgepack.specs.signal_answers import Segment, Segments
from edgepack.specs.signals import Sound, Speech
from edgepack.specs.task import Frame, Task
from edgepack.specs.types import Array
from edgepack.tasks import Infer, Making, Prepared, TaskKind, no_more
from edgepack.tasks.sounds import open_sound

_LOWER = 0.15  # below the threshold, until which speech goes on
_STATE_RANK = 3  # [layers, batch, size]


@dataclass(frozen=True)
class Names:
    """Which inputs and outputs of the model are what; ``sample_rate`` is empty where it has no such input."""

    samples: TensorSpec
    state: TensorSpec
    sample_rate: TensorSpec | None


def speech_settings(task: Task) -> Speech:
    """Return how the model is fed. Raises ``ConfigError``."""
    found: Speech = documents.decode(Speech, documents.encode(task.input), "task.input")
    return found


def find_names(made: Speech, inputs: tuple[TensorSpec, ...]) -> Names:
    """Return which input is what: the samples are of rank 2, the state of rank 3, the rate a whole number.

    The rate may be no input any more, since a build can fix it (``--set sr=16000``). Raises ``DataError`` where that
    is not so.
    """
    by_name = {spec.name: spec for spec in inputs}
    for asked in (made.samples, made.state):
        if asked and asked not in by_name:
            raise DataError(f"the model has no input {asked!r}; it has {', '.join(by_name)}", hint="correct task.input")
    samples = by_name.get(made.samples) or _only(inputs, lambda s: len(s.shape) == 2 and s.dtype.startswith("float"))
    state = by_name.get(made.state) or _only(inputs, lambda s: len(s.shape) == _STATE_RANK)
    rate = by_name.get(made.sample_rate) or _only(inputs, lambda s: s.dtype.startswith("int") and len(s.shape) <= 1)
    if samples is None or state is None:
        raise DataError(
            f"the model's inputs {', '.join(by_name)} are not samples [batch, n] and a state [layers, batch, size]",
            hint="name samples and state in [task.input] of the recipe",
        )
    return Names(samples, state, rate)


def _only(inputs: tuple[TensorSpec, ...], test: Any) -> TensorSpec | None:
    found = [spec for spec in inputs if test(spec)]
    return found[0] if len(found) == 1 else None


def chunks(samples: Array, made: Speech) -> Iterator[Array]:
    """Yield [1, context + chunk] pieces of samples [n]; the last one is filled with zeros."""
    count = -(-len(samples) // made.chunk)
    padded = np.pad(samples, (made.context, count * made.chunk - len(samples))).astype(np.float32)
    for start in range(0, count * made.chunk, made.chunk):
        yield padded[None, start : start + made.context + made.chunk]


def listen(infer: Infer, thing: Any, making: Making) -> tuple[Mapping[str, Array], Frame]:
    """Return the probability of speech in each chunk of a sound, ``{"speech": [chunks]}``. Raises ``DataError``."""
    made = speech_settings(making.task)
    names = find_names(made, making.inputs)
    sound, name = open_sound(thing, made.rate)
    state = _first_state(names.state)
    found = []
    for piece in chunks(to_rate(sound, Sound(rate=made.rate), name), made):
        feeds = {names.samples.name: piece.astype(names.samples.dtype), names.state.name: state}
        if names.sample_rate is not None:
            feeds[names.sample_rate.name] = _rate(names.sample_rate, made.rate)
        speech, state = _read(infer(feeds), made, state)
        found.append(speech)
    return {"speech": np.array(found, np.float32)}, Frame()


def _read(outputs: Mapping[str, Array], made: Speech, state: Array) -> tuple[float, Array]:
    """Return the probability and a copy of the next state: an engine may write into its arrays again."""
    after = outputs.get(made.next_state)
    if after is None:
        after = next((value for value in outputs.values() if value.shape == state.shape), None)
    speech = outputs.get(made.speech)
    if speech is None:
        speech = next((value for value in outputs.values() if value.size == 1), None)
    if speech is None or after is None:
        raise DataError(
            f"the outputs {', '.join(outputs)} are not a probability and a next state",
            hint="name speech and next_state in [task.input] of the recipe",
        )
    return float(speech.reshape(-1)[0]), np.array(after, state.dtype)


def _first_state(spec: TensorSpec) -> Array:
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape)
    return np.zeros(shape, spec.dtype)


def _rate(spec: TensorSpec, rate: int) -> Array:
    return np.full((1,) * len(spec.shape), rate, spec.dtype)


def segments(speech: Array, made: Speech) -> tuple[Segment, ...]:
    """Return where somebody speaks, of a probability for each chunk [chunks]; in seconds."""
    found = [s for s in _runs(speech, made) if (s[1] - s[0]) * 1000 >= made.speech_ms * made.rate]
    pad, end = made.pad_ms * made.rate // 1000, len(speech) * made.chunk
    padded = []
    for i, (start, stop) in enumerate(found):
        before = found[i - 1][1] if i else None
        after = found[i + 1][0] if i + 1 < len(found) else None
        first = max(0, start - pad) if before is None else start - min(pad, (start - before) // 2)
        last = min(end, stop + pad) if after is None else stop + min(pad, (after - stop) // 2)
        padded.append(Segment(first / made.rate, last / made.rate))
    return tuple(padded)


def _runs(speech: Array, made: Speech) -> list[tuple[int, int]]:
    """Return begin and end of speech in samples: it ends where it was low first, once that lasted long enough."""
    found: list[tuple[int, int]] = []
    start: int | None = None
    low: int | None = None
    for i, probability in enumerate(np.nan_to_num(speech, nan=0.0).tolist()):
        place = i * made.chunk
        if probability >= made.threshold:
            start, low = place if start is None else start, None
        elif start is not None and probability < made.threshold - _LOWER:
            low = place if low is None else low
            if (place - low) * 1000 >= made.silence_ms * made.rate:
                found.append((start, low))
                start = low = None
    return found if start is None else [*found, (start, len(speech) * made.chunk)]


def _prepare(thing: Any, _making: Making) -> Prepared:
    """Feed one chunk by name, as it is: a sound is many, and ``listen`` feeds those."""
    if isinstance(thing, Mapping):
        return Prepared(dict(thing), Frame())
    raise DataError("a sound takes many runs of this model", hint="use predict(), or give arrays by name for one chunk")


def _answer(task: Task, outputs: Mapping[str, Array], _frame: Frame, _measuring: bool) -> Answer:
    made = speech_settings(task)
    speech = np.asarray(outputs.get("speech", outputs.get(made.speech, next(iter(outputs.values())))), np.float64)
    flat = speech.reshape(-1)
    seconds = len(flat) * made.chunk / made.rate
    return Segments(segments(flat, made), seconds, float(flat.max(initial=0.0)))


def _check(task: Task) -> None:
    no_more(task, input=True)
    made = speech_settings(task)
    if task.settings:
        raise ConfigError("voice-activity has no settings", hint="write them in [task.input]")
    for key, least, most in (
        ("rate", 1, 768_000), ("chunk", 1, 1 << 20), ("context", 0, 1 << 20), ("speech_ms", 0, 3_600_000),
        ("silence_ms", 0, 3_600_000), ("pad_ms", 0, 3_600_000), ("threshold", 0, 1),
    ):  # fmt: skip
        if not least <= getattr(made, key) <= most:
            raise ConfigError(f"{key} = {getattr(made, key):g}", hint=f"write {least} to {most}")


TASK = TaskKind(
    "where somebody speaks", "a sound", _prepare, _answer, _check,
    ("auroc", "f1", "precision", "recall", "average-precision"), stream=listen,
)  # fmt: skip
