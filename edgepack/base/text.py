"""Text from anybody (models, files, engines), made harmless where it is shown: one place for every kind of output.

A terminal obeys control characters; a reader is misled by characters that turn the direction of text or cannot be seen
(Unicode Standard Annex 9; the class of CVE-2021-42574); Markdown makes links of bare addresses and tells people by
their @name; a spreadsheet computes a cell that begins like a formula; XML 1.0 cannot hold most controls at all.
"""

from __future__ import annotations

import re
from typing import Any

# Controls but tab and line feed, half surrogate pairs, direction and invisible ones; joiners of scripts stay.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_MARKUP = re.compile(r"([\\`*_\[\]|<>~&$])")
# What begins a heading, a list or a rule at the start of a line.
_BLOCK = re.compile(r"^(#{1,6}|[-+]|[-=]+|[0-9]+(?=[.)]))(?=[.)]?(\s|$))")
# What GitHub and GitLab make links of: addresses, people, issues. A character without width in it keeps them apart.
_LINK = re.compile(r"(?i)(@(?=\w)|[#!](?=[0-9])|\bGH-(?=[0-9])|\bwww(?=\.)|\b[a-z][a-z0-9+.-]*:(?=//)|\bmailto:)")
_APART = "&#8203;"


def printable(text: str) -> str:
    """Return text in which what a terminal would obey, or a reader not see, stands as its number, as in Python."""
    return _UNSAFE.sub(lambda found: _number(found[0]), text)


def printable_json(text: str) -> str:
    """Return the same JSON document, with such characters written as JSON's own escapes."""
    return _UNSAFE.sub(lambda found: "".join(f"\\u{unit:04x}" for unit in _utf16(found[0])), text)


def one_line(text: str) -> str:
    """Return printable text without line feeds and tabs."""
    return printable(" ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """Return text of at most ``most`` characters; one that was cut ends with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def markdown(text: str) -> str:
    """Return text on one line in which no character is markup and nothing becomes a link."""
    escaped = _BLOCK.sub(_escaped_block, _MARKUP.sub(r"\\\1", one_line(text)))
    return _LINK.sub(rf"\1{_APART}", escaped)


def spreadsheet(value: Any) -> Any:
    """Return a field that no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    shown = "\r\n".join(printable(line) for line in value.split("\r\n"))
    return ("'" if value.lstrip(" ").startswith(_FORMULA) else "") + shown


def xml(text: str) -> str:
    """Return text that XML 1.0 can hold (section 2.2, Char)."""
    return re.sub("[\ufffe\uffff]", "\ufffd", printable(text))


def _escaped_block(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def _number(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _utf16(character: str) -> tuple[int, ...]:
    code = ord(character)
    return (code,) if code < 0x10000 else (0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code - 0x10000 & 0x3FF))
