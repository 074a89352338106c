"""The error tree: an exit code and a remedy for each, as its docstring says."""

from __future__ import annotations

import inspect
import re

import pytest

from edgepack import errors
from edgepack.errors import ChildError, EdgepackError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, EdgepackError)]


@pytest.mark.parametrize("kind", ALL)
def test_the_docstring_shows_the_tree_with_exit_codes(kind: type[EdgepackError]) -> None:
    assert re.search(rf"\b{kind.__name__}\s+{kind.exit_code}\b", errors.__doc__ or "")


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_remedy_and_a_known_exit_code(kind: type[EdgepackError]) -> None:
    error = kind("something is wrong")
    assert error.hint == kind.default_hint
    assert len(error.hint) > 10
    assert str(error) == error.message == "something is wrong"
    assert kind.exit_code in (1, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", ALL)
def test_a_hint_given_is_kept(kind: type[EdgepackError]) -> None:
    assert kind("wrong", hint="do this").hint == "do this"


def test_every_error_is_of_the_tree() -> None:
    exceptions = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, BaseException)]
    assert set(exceptions) == set(ALL)


def test_a_dead_child_carries_its_log() -> None:
    assert ChildError("it died", log="last output").log == "last output"
    assert ChildError("it died").log == ""
