"""What tokenizers do to a text before they look for tokens, character by character.

As the Rust crate of the package tokenizers (0.23, normalizers/bert.rs, normalizers/unicode.rs and
pre_tokenizers/bert.rs). Its tables of character categories are older than Python's: of all characters, some 500
marks and signs that Unicode got since its version 9 are told apart differently (tests/data/text/test_tokenizer.py).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

Normalizer = Callable[[str], str]

# Unicode's White_Space, which Rust's char::is_whitespace is. Python's str.isspace() also takes U+001C to U+001F.
_SPACES = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)
_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_ASCII_SYMBOLS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def is_space(char: str) -> bool:
    """Say whether Unicode calls a character white space."""
    return char in _SPACES


def is_punctuation(char: str) -> bool:
    """Say whether BERT splits at a character: an ASCII symbol, or Unicode's punctuation."""
    return char in _ASCII_SYMBOLS or unicodedata.category(char).startswith("P")


def is_chinese(char: str) -> bool:
    """Say whether BERT takes a character for a word of its own."""
    code = ord(char)
    return code >= 0x3400 and any(low <= code <= high for low, high in _CHINESE)


def clean(text: str) -> str:
    """Drop control characters and make all white space blanks."""
    kept = []
    for char in text:
        if char in "\t\n\r" or (char in _SPACES and not _is_control(char)):
            kept.append(" ")
        elif char != "\ufffd" and not _is_control(char):
            kept.append(char)
    return "".join(kept)


def _is_control(char: str) -> bool:
    # Cn, not assigned, is not a category of the crate's tables.
    return unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs")


def space_chinese(text: str) -> str:
    """Put blanks around Chinese characters."""
    return "".join(f" {char} " if is_chinese(char) else char for char in text)


def strip_accents(text: str) -> str:
    """Drop marks that take no space of their own (Mn), once they stand apart (NFD), as BertNormalizer."""
    apart = unicodedata.normalize("NFD", text)
    return "".join(char for char in apart if unicodedata.category(char) != "Mn")


def drop_marks(text: str) -> str:
    """Drop all marks that stand apart (Mn, Mc, Me), as the normalizer StripAccents."""
    return "".join(char for char in text if not unicodedata.category(char).startswith("M"))


def lowercase(text: str) -> str:
    """Return each character in lower case by itself: a last sigma is no other letter."""
    return "".join(char.lower() for char in text)


def bert(settings: dict[str, Any]) -> Normalizer:
    """Return BertNormalizer of these settings; accents are dropped by default where letters become small."""
    lower = settings.get("lowercase", True)
    accents = settings.get("strip_accents")
    steps: list[Normalizer] = [clean] if settings.get("clean_text", True) else []
    steps += [space_chinese] if settings.get("handle_chinese_chars", True) else []
    steps += [strip_accents] if (lower if accents is None else accents) else []
    steps += [lowercase] if lower else []
    return chain(steps)


def chain(steps: list[Normalizer]) -> Normalizer:
    """Return a function that applies one after the other."""

    def apply(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return apply


def split_bert(text: str) -> list[tuple[int, int]]:
    """Return where words begin and end: split at white space, which is not a word, and around each punctuation mark.

    As BertPreTokenizer.
    """
    places: list[tuple[int, int]] = []
    start: int | None = None
    for i, char in enumerate(text):
        space, mark = is_space(char), is_punctuation(char)
        if start is not None and (space or mark):
            places.append((start, i))
            start = None
        if mark:
            places.append((i, i + 1))
        elif not space and start is None:
            start = i
    return places if start is None else [*places, (start, len(text))]


def split_spaces(text: str) -> list[tuple[int, int]]:
    """Return where words begin and end that white space parts, as WhitespaceSplit."""
    places: list[tuple[int, int]] = []
    start: int | None = None
    for i, char in enumerate([*text, " "]):
        if is_space(char):
            places += [(start, i)] if start is not None else []
            start = None
        elif start is None:
            start = i
    return places
