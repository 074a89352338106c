"""Sentences as inputs: a text, or a file that holds one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepack.data.text.inputs import text_input
from edgepack.data.text.tokenizer import Tokenizer, load_tokenizer, read_tokenizer
from edgepack.data.text_file import TOKENIZER, frame_of_text, read_part, text_settings, tokenizer_beside
from edgepack.errors import ConfigError, DataError
from edgepack.specs.signals import Text
from edgepack.specs.task import Task
from edgepack.tasks import Making, Prepared


def prepare_text(thing: Any, making: Making) -> Prepared:
    """Return the token ids, mask and type ids of a text. Raises ``DataError`` for what is no text."""
    if not isinstance(thing, str | Path):
        raise DataError(f"a {type(thing).__name__} is not text", hint="give a str")
    text = str(thing)
    if not text.strip():
        raise DataError("the text is empty", hint="give a sentence")
    made, tokenizer = text_settings(making.task), _tokenizer(making)
    feeds, encoded = text_input(tokenizer, text, made, making.inputs)
    frame = frame_of_text(text, tokenizer, made)
    return Prepared(feeds, replace(frame, read_to=read_part(encoded)) if encoded.cut else frame)


def check_text(task: Task) -> None:
    """Raise ``ConfigError`` for settings of texts that cannot be meant."""
    made = text_settings(task)
    if made.max_length is not None and not 1 <= made.max_length <= 1_000_000:
        raise ConfigError(f"max_length = {made.max_length}", hint="write 1 to 1000000")


def tokenizer_files(task: Task, beside: Path) -> dict[str, Path]:
    """Return the tokenizer's file, which travels with a bundle, by its name there; nothing where none is known."""
    found = tokenizer_beside(task, beside)
    return {} if found is None else {TOKENIZER: found}


def _tokenizer(making: Making) -> Tokenizer:
    if making.read is not None:
        return read_tokenizer(making.read(TOKENIZER), TOKENIZER)
    made: Text = text_settings(making.task)
    return load_tokenizer(Path(made.tokenizer or TOKENIZER))
