"""Which recipe a model of sentences, sounds, lines of text or rows probably wants; pictures are in ``suggest.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

Sure = Literal["nearly sure", "likely", "possible"]
Shape = tuple[int | str, ...]
Found = Iterator[tuple[str, Sure, str]]

_LEAST_VECTOR = 96  # a shorter last axis is one of classes
_MOST_COLUMNS = 1024
_LINE_HEIGHTS = (32, 48)
_GREY_LINE = (1, 64)  # channels and height
_LETTERS = 20
_LEAST_SAMPLES = 4000  # a quarter of a second; shorter rows are of other things
_OF_SOUND = ("audio", "wav", "sound", "speech", "samples")
_FEATURES: dict[tuple[int, int], tuple[str, Sure, str]] = {
    (49, 10): ("speech-commands-mfcc", "likely", "49 x 10 are the MFCC of one second, as MLPerf Tiny has them"),
    (49, 40): ("speech-commands-log-mel", "likely", "49 x 40 are log-mel energies of one second every 20 ms"),
    (96, 64): ("yamnet", "likely", "96 x 64 are the log-mel energies of YAMNet"),
}


def suggest_signals(inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], notes: Mapping[str, str]) -> Found:
    """Yield recipe, how sure it is and why."""
    yield from _sentences(inputs, outputs)
    yield from _sounds(inputs)
    yield from _lines(inputs, outputs, notes)
    yield from _rows(list(inputs.values()), next(iter(outputs.values()), ()))


def _rows(shapes: list[Shape], out: Shape) -> Found:
    if len(shapes) != 1 or len(shapes[0]) != 2 or len(out) > 2:
        return
    if isinstance(shapes[0][1], int) and shapes[0][1] <= _MOST_COLUMNS:
        one = len(out) < 2 or out[1] == 1
        yield "tabular-regression" if one else "tabular", "possible", f"rows of {shapes[0][1]} numbers"


def _sentences(inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> Found:
    if not any(name in inputs for name in ("input_ids", "input_word_ids", "token_ids")) or not outputs:
        return
    name, shape = next(iter(outputs.items()))
    size = shape[-1] if shape and isinstance(shape[-1], int) else 0
    of_vectors = "hidden" in name or "embed" in name
    if len(shape) == 3 and 0 < size < _LEAST_VECTOR and not of_vectors:
        yield "token-classification", "likely", f"token ids become {size} scores for each token"
    elif of_vectors or len(shape) == 3:
        yield "minilm-embedding", "likely", f"token ids become the vectors {name!r}"
    elif len(shape) == 2 and 0 < size < _LEAST_VECTOR:
        yield "text-classification", "likely", f"token ids become {size} scores"
    else:
        yield "minilm-embedding", "possible", "token ids become a vector"
        yield "text-classification", "possible", "token ids become scores"


def _sounds(inputs: Mapping[str, Shape]) -> Found:
    shapes = list(inputs.values())
    if any(len(s) == 3 and s[0] == 2 and s[2] == 128 for s in shapes) and any(len(s) == 2 for s in shapes):
        yield "silero-vad", "nearly sure" if "sr" in inputs else "likely", "samples, and a state of 2 x batch x 128"
    if len(shapes) == 1 and (samples := _samples(*next(iter(inputs.items())))) is not None:
        yield (
            "waveform",
            "possible",
            f"{samples or 'any number of'} numbers, as the samples of a sound; fill in what for",
        )
    if len(shapes) == 1:
        sizes = tuple(size for size in shapes[0][1:] if isinstance(size, int) and size > 1)
        if len(sizes) == 2 and sizes in _FEATURES:
            yield _FEATURES[sizes[0], sizes[1]]


def _samples(name: str, shape: Shape) -> int | None:
    """Return how many samples of a sound an input probably takes, 0 for any number; None for another input."""
    sizes = [size for size in shape[1:] if size != 1]
    if not 2 <= len(shape) <= 3 or len(sizes) != 1:
        return None
    if isinstance(sizes[0], int):
        return sizes[0] if sizes[0] >= _LEAST_SAMPLES else None
    return 0 if any(word in name.lower() for word in _OF_SOUND) else None


def input_changes(recipe: str, inputs: Mapping[str, Shape]) -> dict[str, str]:
    """Return what keys of a recipe's ``[task.input]`` must be for a model's inputs, as TOML has them."""
    samples = _samples(*next(iter(inputs.items()))) if recipe == "waveform" else None
    return {"length": str(samples)} if samples else {}


def _lines(inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], notes: Mapping[str, str]) -> Found:
    """A picture as high as a line, whose moments have scores of letters; PP-OCR notes the letters."""
    shapes, out = list(inputs.values()), next(iter(outputs.values()), ())
    if len(shapes) != 1 or len(shapes[0]) != 4 or len(out) != 3 or not isinstance(out[2], int) or out[2] < _LETTERS:
        return
    if shapes[0][1:3] == _GREY_LINE and out[1] == 1 and out[0] != 1:
        yield "ddddocr", "likely", f"grey pictures 64 pixels high become {out[2]} scores a moment, moments first"
    if "character" in notes:
        yield "pp-ocr-recognition", "nearly sure", f"its metadata notes the letters of {out[2]} classes"
    elif shapes[0][2] in _LINE_HEIGHTS and shapes[0][1] in (1, 3):
        yield "pp-ocr-recognition", "likely", f"pictures {shapes[0][2]} pixels high become {out[2]} scores a moment"
