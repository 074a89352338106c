"""Reads a tokenizer.json and makes token ids of texts: WordPiece in plain Python, others by the package tokenizers.

The file's format is that of the package tokenizers (Hugging Face). WordPiece, which BERT and most sentence encoders
have, is computed here, so that a device needs no package for it; the same code runs on the build machine. Words are
split by the longest piece that the vocabulary has, from the left (Devlin et al. 2019; tokenizers 0.23,
models/wordpiece/mod.rs).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgepack.base.files import read_regular
from edgepack.data.text import normalize
from edgepack.data.text.longest import Pieces
from edgepack.errors import DataError, ToolchainError

MOST_FILE_BYTES = 64 << 20
MOST_CHARACTERS = 1_000_000  # of one text
MOST_TOKENS = 1_000_000  # that a text is filled to
_MOST_ID = (1 << 31) - 1
# What a file may ask for. Time grows with each of them: a character takes at most as many steps as a word may have.
_MOST_WORD = 1000  # characters
_MOST_ADDED = 1000  # characters of a token that stands in the text as it is
_MOST_STEPS = 32  # of a normalizer
_MOST_SPECIAL = 1000  # tokens around a text
_INSTALL = "pip install tokenizers"
_WORD = re.compile(r"[^ \t\n\r]+")  # what no normalizer looks beyond
_Token = tuple[int, int, tuple[int, int]]  # id, type id, place in the text


@dataclass(frozen=True)
class Encoded:
    """A text as token ids, each with its type id and where it lies in the text: (0, 0) for special tokens.

    ``cut`` says that the text has more tokens than were asked for.
    """

    ids: tuple[int, ...]
    types: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    cut: bool = False


@dataclass(frozen=True)
class Filling:
    """How short texts are filled: ids, on which side, to how many tokens (None: to their own), in steps of ``step``."""

    pad_id: int = 0
    pad_type: int = 0
    left: bool = False
    length: int | None = None
    step: int = 1


class Tokenizer(Protocol):
    """Makes token ids of texts, the special tokens around them included; not filled."""

    @property
    def max_length(self) -> int | None:
        """What the file says of the most tokens of a text."""

    @property
    def filling(self) -> Filling:
        """What the file says of short texts."""

    def encode(self, text: str, max_length: int | None) -> Encoded:
        """Return at most ``max_length`` tokens of a text (None: all)."""


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer in a file. Raises ``DataError``, and ``ToolchainError`` where a package is missing."""
    try:
        data = read_regular(path, MOST_FILE_BYTES)
    except OSError as error:
        raise DataError(
            f"cannot read the tokenizer {path}: {error.strerror}",
            hint="give the tokenizer.json that lies beside the model",
        ) from error
    return read_tokenizer(data, str(path))


def read_tokenizer(data: bytes, name: str) -> Tokenizer:
    """Return the tokenizer in the bytes of a tokenizer.json; see ``load_tokenizer``."""
    try:
        parsed = json.loads(data.decode("utf-8"))
        if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
            raise ValueError("it has no model")
        if _is_plain(parsed):
            return _plain(parsed)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{name} is not a tokenizer.json: {error}", hint="save it with tokenizer.save('tokenizer.json')"
        ) from error
    return _by_package(data, name, str(parsed["model"].get("type", "an unknown kind")))


# --- WordPiece in plain Python ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Added:
    """A token that stands in the text as it is."""

    number: int
    length: int
    left: bool  # white space before it is its own
    right: bool


@dataclass(frozen=True)
class WordPiece:
    """A WordPiece tokenizer with all that happens around its vocabulary; see ``Tokenizer``."""

    vocabulary: Mapping[str, int]
    unknown: int
    prefix: str
    longest: int
    normalizer: Callable[[str], str]
    split: Callable[[str], list[tuple[int, int]]]
    added: Mapping[str, _Added]
    before: tuple[tuple[int, int], ...]  # (id, type) of the special tokens ahead of a text
    after: tuple[tuple[int, int], ...]
    type_id: int
    max_length: int | None
    filling: Filling

    def encode(self, text: str, max_length: int | None) -> Encoded:
        """Return at most ``max_length`` tokens of a text (None: all), special tokens included."""
        if len(text) > MOST_CHARACTERS:
            raise DataError(f"a text of {len(text)} characters", hint=f"at most {MOST_CHARACTERS} are read")
        most = None if max_length is None else max(0, max_length - len(self.before) - len(self.after))
        parts = (token for begin, part in self._parts(text) for token in self._of_part(begin, part))
        # One more tells whether there are more; what else would be cut off is not looked for.
        tokens = list(itertools.islice(parts, None if most is None else most + 1))
        cut = most is not None and len(tokens) > most
        special = [[(number, kind, (0, 0)) for number, kind in side] for side in (self.before, self.after)]
        whole = [*special[0], *tokens[:most], *special[1]]
        return Encoded(tuple(t[0] for t in whole), tuple(t[1] for t in whole), tuple(t[2] for t in whole), cut)

    @functools.cached_property
    def _pieces(self) -> Pieces:
        """Of the vocabulary what a word can hold."""
        return Pieces(piece for piece in self.vocabulary if len(piece) <= self.longest + len(self.prefix))

    @functools.cached_property
    def _added_pieces(self) -> tuple[Pieces, frozenset[str]]:
        """The added tokens, and what they begin with."""
        return Pieces(self.added), frozenset(content[0] for content in self.added)

    def _parts(self, text: str) -> Iterator[tuple[int, str | _Added]]:
        """Yield the text in pieces between the added tokens, and these, each with where it begins."""
        start = place = 0
        pieces, firsts = self._added_pieces
        while place < len(text):
            found = pieces.first_of(text[place : place + pieces.longest]) if text[place] in firsts else None
            if found is None:
                place += 1
                continue
            token, end = self.added[found], place + len(found)
            yield start, text[start:place]
            yield place, token
            while token.right and end < len(text) and normalize.is_space(text[end]):
                end += 1
            start = place = end
        yield start, text[start:]

    def _of_part(self, begin: int, part: str | _Added) -> Iterator[_Token]:
        if isinstance(part, _Added):
            yield part.number, self.type_id, (begin, begin + part.length)
            return
        for word in _WORD.finditer(part):
            yield from self._of_raw(begin + word.start(), word.group())

    def _of_raw(self, begin: int, raw: str) -> Iterator[_Token]:
        """Yield the tokens of a piece of the text without blanks, which begins at ``begin``."""
        text = self.normalizer(raw)
        alone = [self.normalizer(char) for char in raw]
        if "".join(alone) == text:
            places = [(begin + i, begin + i + 1) for i, made in enumerate(alone) for _ in made]
        else:  # characters were made one: all that is known is the piece
            places = [(begin, begin + len(raw))] * len(text)
        for start, end in self.split(text):
            for number, first, last in self._of_word(text[start:end]):
                yield number, self.type_id, (places[start + first][0], places[start + last - 1][1])

    def _of_word(self, word: str) -> list[tuple[int, int, int]]:
        """Return the pieces of a word: their ids and where they begin and end in it."""
        if len(word) > self.longest:
            return [(self.unknown, 0, len(word))]
        pieces, start = [], 0
        while start < len(word):
            head = self.prefix if start else ""
            most = self._pieces.longest - len(head)
            piece = self._pieces.first_of(head + word[start : start + max(most, 0)])
            if piece is None or len(piece) <= len(head):
                return [(self.unknown, 0, len(word))]
            end = start + len(piece) - len(head)
            pieces.append((self.vocabulary[piece], start, end))
            start = end
        return pieces


def _is_plain(parsed: dict[str, Any]) -> bool:
    """Say whether every part of the file is one that is computed here."""
    return (
        parsed["model"].get("type") == "WordPiece"
        and _normalizer(parsed.get("normalizer")) is not None
        and _splitter(parsed.get("pre_tokenizer")) is not None
        and _template(parsed) is not None
        and not any(token.get("single_word") or token.get("normalized") for token in parsed.get("added_tokens") or ())
        and _strategy(parsed) in ("LongestFirst", "OnlyFirst")
        and ((parsed.get("truncation") or {}).get("direction") or "Right") == "Right"
    )


def _strategy(parsed: dict[str, Any]) -> str:
    return str((parsed.get("truncation") or {}).get("strategy") or "LongestFirst")


def _plain(parsed: dict[str, Any]) -> WordPiece:
    model = parsed["model"]
    vocabulary = {str(token): _number(number, "an id") for token, number in model["vocab"].items()}
    if model["unk_token"] not in vocabulary:
        raise ValueError(f"its vocabulary lacks {model['unk_token']!r}")
    normalizer, split, template = (
        _normalizer(parsed.get("normalizer")), _splitter(parsed.get("pre_tokenizer")), _template(parsed),
    )  # fmt: skip
    assert normalizer is not None, "it is plain"
    assert split is not None, "it is plain"
    assert template is not None, "it is plain"
    return WordPiece(
        vocabulary, vocabulary[model["unk_token"]], str(model.get("continuing_subword_prefix", "##")),
        _number(model.get("max_input_chars_per_word", 100), "max_input_chars_per_word", _MOST_WORD), normalizer, split,
        _added(parsed), *template, _truncation(parsed), _filling(parsed.get("padding")),
    )  # fmt: skip


def _number(value: Any, what: str, most: int = _MOST_ID) -> int:
    """Return a whole number that is not negative nor above ``most``. Raises ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{what} is {str(value)[:40]}, not a whole number from 0 to {most}")
    return value


def _added(parsed: dict[str, Any]) -> dict[str, _Added]:
    found = {
        token["content"]: _Added(
            _number(token["id"], "an id"), len(token["content"]), bool(token.get("lstrip")), bool(token.get("rstrip"))
        )
        for token in parsed.get("added_tokens") or ()
        if token["content"]
    }
    if (longest := max(map(len, found), default=0)) > _MOST_ADDED:
        raise ValueError(f"an added token has {longest} characters, more than {_MOST_ADDED}")
    return found


def _normalizer(found: dict[str, Any] | None) -> Callable[[str], str] | None:
    """Return what a normalizer does, None for one that is not computed here."""
    if found is None:
        return lambda text: text
    kind = found.get("type")
    if kind == "Sequence":
        if (count := _steps(found)) > _MOST_STEPS:
            raise ValueError(f"its normalizer has {count} steps, more than {_MOST_STEPS}")
        steps = [_normalizer(step) for step in found["normalizers"]]
        known = [step for step in steps if step is not None]
        return normalize.chain(known) if len(known) == len(steps) else None
    if kind == "BertNormalizer":
        return normalize.bert(found)
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        return lambda text: unicodedata.normalize(kind, text)
    return {"Lowercase": normalize.lowercase, "StripAccents": normalize.drop_marks}.get(str(kind))


def _steps(found: dict[str, Any]) -> int:
    return 1 + sum(_steps(step) for step in found["normalizers"]) if found.get("type") == "Sequence" else 1


def _splitter(found: dict[str, Any] | None) -> Callable[[str], list[tuple[int, int]]] | None:
    kind = (found or {}).get("type")
    return {"BertPreTokenizer": normalize.split_bert, "WhitespaceSplit": normalize.split_spaces}.get(str(kind))


_Template = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], int]


def _template(parsed: dict[str, Any]) -> _Template | None:
    """Return the special tokens before and after a text, with their type ids, and the text's; None for others."""
    found = parsed.get("post_processor")
    if found is None:
        return (), (), 0
    if found.get("type") == "BertProcessing":
        first, last = (_number(found[key][1], f"the id of {key}") for key in ("cls", "sep"))
        return ((first, 0),), ((last, 0),), 0
    if found.get("type") != "TemplateProcessing":
        return None
    before: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    type_id = None
    for piece in found["single"]:
        if "Sequence" in piece:
            if type_id is not None:
                return None
            type_id = _number(piece["Sequence"]["type_id"], "a type id")
            continue
        special = piece["SpecialToken"]
        numbers = found["special_tokens"][special["id"]]["ids"]
        kind = _number(special["type_id"], "a type id")
        if len(before) + len(after) + len(numbers) > _MOST_SPECIAL:
            raise ValueError(f"it puts more than {_MOST_SPECIAL} tokens around a text")
        (before if type_id is None else after).extend((_number(n, "an id"), kind) for n in numbers)
    return None if type_id is None else (tuple(before), tuple(after), type_id)


def _truncation(parsed: dict[str, Any]) -> int | None:
    found = parsed.get("truncation")
    return None if found is None else _number(found["max_length"], "truncation's max_length", MOST_TOKENS)


def _filling(found: dict[str, Any] | None) -> Filling:
    if found is None:
        return Filling()
    strategy = found.get("strategy")
    fixed = strategy.get("Fixed") if isinstance(strategy, dict) else None
    length = None if fixed is None else _number(fixed, "padding's length", MOST_TOKENS)
    left = found.get("direction", "Right") == "Left"
    step = _number(found.get("pad_to_multiple_of") or 1, "pad_to_multiple_of", MOST_TOKENS)
    pad, kind = (_number(found.get(key, 0), key) for key in ("pad_id", "pad_type_id"))
    return Filling(pad, kind, left, length, step)


# --- the package tokenizers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Package:
    """Any other tokenizer, by the package; see ``Tokenizer``."""

    tokenizer: Any
    max_length: int | None
    filling: Filling

    def encode(self, text: str, max_length: int | None) -> Encoded:
        if len(text) > MOST_CHARACTERS:
            raise DataError(f"a text of {len(text)} characters", hint=f"at most {MOST_CHARACTERS} are read")
        with _refusing("the tokenizer cannot split a text", "save tokenizer.json again with the model's own"):
            if max_length is None:
                self.tokenizer.no_truncation()
            else:
                self.tokenizer.enable_truncation(max(max_length, self.tokenizer.num_special_tokens_to_add(False)))
            found = self.tokenizer.encode(text)
        return Encoded(tuple(found.ids), tuple(found.type_ids), tuple(found.offsets), bool(found.overflowing))


@contextlib.contextmanager
def _refusing(what: str, hint: str) -> Iterator[None]:
    """Turn what the package raises into ``DataError``: plain exceptions, and its panics, which are none of these."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{what}: {error}", hint=hint) from error


def _by_package(data: bytes, name: str, kind: str) -> Tokenizer:
    try:
        import tokenizers
    except ImportError as error:
        raise ToolchainError(
            f"{name} is a {kind} tokenizer, which needs the package tokenizers; WordPiece as BERT has it needs none",
            hint=_INSTALL,
        ) from error
    with _refusing(f"{name} cannot be read by tokenizers", "save it again, or update it"):
        found = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
        found.no_padding()
    parsed = json.loads(data)
    try:
        return _Package(found, _truncation(parsed), _filling(parsed.get("padding")))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{name} is not a tokenizer.json: {error}", hint="save it again") from error
