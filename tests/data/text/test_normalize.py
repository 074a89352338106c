import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.data.text import normalize


def test_white_space_is_unicodes():
    """PropList.txt of Unicode: 25 characters, U+001C to U+001F not among them."""
    spaces = [code for code in range(0x110000) if normalize.is_space(chr(code))]
    assert len(spaces) == 25
    assert all(chr(code).isspace() for code in spaces)
    assert not normalize.is_space("\x1c")


def test_cleaning_drops_control_characters_and_makes_blanks():
    assert normalize.clean("a\tb\nc\x00d\u200be\ufffdf\u2003g\x0bh\x85i") == "a b cdef ghi"


def test_chinese_characters_stand_apart():
    assert normalize.space_chinese("a日本b") == "a 日  本 b"
    assert normalize.space_chinese("ひカ한") == "ひカ한"


def test_accents_go_and_capitals_are_made_small_one_by_one():
    assert normalize.strip_accents("Éñ Ǘ") == "En U"
    assert normalize.drop_marks("e\u0301\u0949") == "e"
    assert normalize.lowercase("ΔΣ ÉÑ") == "δ\u03c3 éñ"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "cafe a"),
        ({"lowercase": False}, "Café  Á".replace("  ", " ")),
        ({"lowercase": False, "strip_accents": True}, "Cafe A"),
        ({"strip_accents": False}, "café á"),
        ({"clean_text": False}, "cafe\ta"),
    ],
)
def test_berts_settings(settings, text):
    assert normalize.bert(settings)("Café\tÁ") == text


@given(st.text())
def test_words_are_the_text_without_white_space(text):
    for split in (normalize.split_bert, normalize.split_spaces):
        words = [text[begin:end] for begin, end in split(text)]
        assert "".join(words) == "".join(char for char in text if not normalize.is_space(char))
        assert all(words)


def test_marks_are_words_of_their_own():
    text = "it's (new)—$5."
    words = [text[begin:end] for begin, end in normalize.split_bert(text)]
    assert words == ["it", "'", "s", "(", "new", ")", "—", "$", "5", "."]
    assert unicodedata.category("—") == "Pd"
