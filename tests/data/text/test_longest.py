"""The longest piece that a text begins with: as looking at each of them finds it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgepack.data.text.longest import Pieces

WORDS = st.text(alphabet="ab\u00e9", max_size=6)


@given(st.lists(WORDS), WORDS)
def test_it_is_the_one_that_all_tried_in_turn_give(pieces: list[str], text: str) -> None:
    right = max((piece for piece in pieces if piece and text.startswith(piece)), key=len, default=None)
    assert Pieces(pieces).first_of(text) == right


def test_of_none_there_is_none() -> None:
    assert Pieces([]).first_of("a") is None
    assert Pieces([]).longest == 0
