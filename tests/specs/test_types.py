"""Types that stages are annotated with must be resolvable when the program runs."""

from __future__ import annotations

import typing

import pytest

from edgepack.specs import types
from edgepack.specs.types import USER_SOURCE, UserSource, no_progress


def test_a_users_source_is_a_text_that_its_mark_tells_apart() -> None:
    assert typing.get_args(UserSource) == (str, USER_SOURCE)


@pytest.mark.parametrize("name", ["Array", "Feeds", "Precision", "Asked", "Ran", "Severity", "Observer"])
def test_every_type_is_there_without_numpy(name: str) -> None:
    assert getattr(types, name) is not None


def test_what_is_asked_of_a_layer_can_be_what_ran() -> None:
    assert set(typing.get_args(types.Asked)) < set(typing.get_args(types.Ran))


def test_progress_that_is_not_shown_takes_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    no_progress("calibrate", 1, 0)
    assert capsys.readouterr().out == ""
