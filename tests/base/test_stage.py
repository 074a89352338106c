"""Marking a function as a stage."""

from __future__ import annotations

import pytest

from edgepack.base.stage import Stage, always, needs_of, stage, stage_of


def plain(model: str) -> str:
    return model


def test_a_mark_says_all_and_leaves_the_function_as_it_was() -> None:
    def depends(_model: str) -> str:
        return "1.2"

    def marked(model: str) -> str:
        return model.upper()

    made = stage("shout", version=3, host="speed", tracks=always, depends=depends, loads=("wave",))(marked)
    assert made is marked
    assert stage_of(marked) == Stage("shout", 3, "speed", always, depends, ("wave",))
    assert needs_of(marked) == (__name__, "wave")
    assert marked("a") == "A"


def test_a_mark_needs_a_name_only() -> None:
    @stage("whisper")
    def marked(model: str) -> str:
        return model

    assert stage_of(marked) == Stage("whisper", 1, None, None, None)


def test_any_function_needs_its_own_module() -> None:
    assert needs_of(plain) == (__name__,)


def test_a_function_without_a_mark_is_named() -> None:
    with pytest.raises(TypeError, match=r"plain is not a stage: mark it with @stage"):
        stage_of(plain)


def test_a_mark_of_another_kind_is_none() -> None:
    def other() -> None: ...

    other.__stage__ = "not a Stage"  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="other is not a stage"):
        stage_of(other)


@pytest.mark.parametrize("arguments", [(), ("model", 3), (None,)])
def test_always_says_yes(arguments: tuple[object, ...]) -> None:
    assert always(*arguments) is True
