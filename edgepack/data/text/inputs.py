"""A text to a model's inputs: token ids, mask and type ids, cut and filled to what the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.shapes import show_shape
from edgepack.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgepack.data.text.tokenizer import Encoded, Filling, Tokenizer
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.signals import Text
    from edgepack.specs.types import Array

# What inputs are usually called: by transformers' exports, by the original BERT, and by others.
_NAMES = {
    "ids": ("input_ids", "input_word_ids", "token_ids", "tokens", "ids"),
    "mask": ("attention_mask", "input_mask", "mask"),
    "types": ("token_type_ids", "input_type_ids", "segment_ids", "type_ids"),
}


@dataclass(frozen=True)
class TextInputs:
    """Which input takes the ids, which the mask and which the type ids; empty where a model has none."""

    ids: str
    mask: str = ""
    types: str = ""


def find_inputs(made: Text, inputs: Sequence[TensorSpec]) -> TextInputs:
    """Return what each input of a model takes, by the recipe's names, else by usual ones.

    Raises ``ConfigError`` naming the input that nothing feeds, and the name in the recipe that no input has.
    """
    names = [spec.name for spec in inputs]
    found = {}
    for role, usual in _NAMES.items():
        asked = getattr(made, role)
        if asked and asked not in names:
            raise ConfigError(f"the model has no input {asked!r} for {role}", hint=suggestion(asked, names))
        found[role] = asked or next((name for name in usual if name in names), "")
    if not found["ids"] and len(names) == 1:
        found["ids"] = names[0]
    missing = [name for name in names if name not in found.values()]
    if missing or not found["ids"]:
        which = f"the input {missing[0]!r}" if missing else "token ids"
        raise ConfigError(
            f"it is not known what a text gives to {which}; the model's inputs are {', '.join(names)}",
            hint="write ids, mask and types in [task.input] of the recipe, or fix the input with --set",
        )
    return TextInputs(**found)


def text_input(
    tokenizer: Tokenizer, text: str, made: Text, inputs: Sequence[TensorSpec]
) -> tuple[dict[str, Array], Encoded]:
    """Return the arrays [1, tokens] of a text by input name, and its tokens before they are filled.

    Raises ``ConfigError`` as ``find_inputs``, ``DataError`` where an input is not a row of tokens.
    """
    roles = find_inputs(made, inputs)
    specs = {spec.name: spec for spec in inputs}
    fixed = _fixed_length(specs[roles.ids])
    encoded = tokenizer.encode(text, most_tokens(tokenizer, made, inputs))
    filled = fill(encoded, tokenizer.filling, _length(encoded, tokenizer, made, fixed))
    feed = {name: filled[role] for role in _NAMES if (name := getattr(roles, role))}
    return {name: row[None].astype(_dtype(specs[name])) for name, row in feed.items()}, encoded


def most_tokens(tokenizer: Tokenizer, made: Text, inputs: Sequence[TensorSpec]) -> int | None:
    """Return how many tokens of a text are read at most, special ones counted; None for all.

    Raises as ``text_input`` does.
    """
    roles = find_inputs(made, inputs)
    fixed = _fixed_length(next(spec for spec in inputs if spec.name == roles.ids))
    return min((n for n in (fixed, _most(tokenizer, made)) if n is not None), default=None)


def fill(encoded: Encoded, filling: Filling, length: int) -> Mapping[str, Array]:
    """Return ``ids``, ``mask`` and ``types``, int64 [length], with what is missing filled on the tokenizer's side."""
    more = max(0, length - len(encoded.ids))
    around = (more, 0) if filling.left else (0, more)
    return {
        "ids": np.pad(np.array(encoded.ids, np.int64), around, constant_values=filling.pad_id),
        "mask": np.pad(np.ones(len(encoded.ids), np.int64), around),
        "types": np.pad(np.array(encoded.types, np.int64), around, constant_values=filling.pad_type),
    }


def _fixed_length(spec: TensorSpec) -> int | None:
    if len(spec.shape) != 2:
        raise DataError(
            f"the model's input {spec.name!r} has shape {show_shape(spec.shape)}, which is not a row of "
            "tokens [batch, tokens]",
            hint="name the input of the token ids in the recipe: ids in [task.input]",
        )
    return spec.shape[1] if isinstance(spec.shape[1], int) else None


def _most(tokenizer: Tokenizer, made: Text) -> int | None:
    return made.max_length if made.max_length is not None else tokenizer.max_length


def _length(encoded: Encoded, tokenizer: Tokenizer, made: Text, fixed: int | None) -> int:
    """Return how many tokens a row has once it is filled."""
    own, filling = len(encoded.ids), tokenizer.filling
    if fixed is not None:
        return fixed
    if made.padding == "max_length":
        return max(own, _most(tokenizer, made) or own)
    if made.padding == "file" and filling.length is not None and made.max_length is None:
        return max(own, filling.length)
    return own if made.padding == "longest" else -(-own // filling.step) * filling.step


def _dtype(spec: TensorSpec) -> np.dtype[np.generic]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind not in "iufb":
        raise DataError(f"the model's input {spec.name!r} is of type {spec.dtype}, which is not a number")
    return dtype
