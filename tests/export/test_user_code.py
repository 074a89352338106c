"""The user's code, with its folder importable and its errors named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgepack.errors import ConfigError, DataError, ModelError
from edgepack.export.user_code import call_with_progress, find_place, told_to, users_callable


def write(tmp_path: Path, text: str, name: str = "net.py") -> str:
    (tmp_path / name).write_text(text)
    return f"{tmp_path / name}:make"


def test_what_it_imports_late_is_found_and_the_path_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "late_neighbour_a.py").write_text("VALUE = 7\n")
    source = write(tmp_path, "def make():\n    import late_neighbour_a\n    return late_neighbour_a.VALUE\n")
    before = list(sys.path)
    with users_callable(source) as function:
        assert function() == 7
    assert sys.path == before
    del sys.modules["late_neighbour_a"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('two\\nlines')", r"ValueError: two\nlines \(net\.py line 2\)"),
        ("raise SystemExit(3)", r"SystemExit: 3 \(net\.py line 2\)"),
        ("return [][1]", r"IndexError: .* \(net\.py line 2\)"),
        ("raise KeyError('x' * 900)", r"KeyError: '.{499} \(net\.py line 2\)"),
    ],
)
def test_what_it_raises_names_its_file_and_line(tmp_path: Path, body: str, words: str) -> None:
    source = write(tmp_path, f"def make():\n    {body}\n")
    before = list(sys.path)
    with (
        pytest.raises(ModelError, match=f"(?s)net\\.py:make failed: {words}") as caught,
        users_callable(source) as function,
    ):
        function()
    assert caught.value.hint == "run it on its own and fix it"
    assert sys.path == before


def test_the_deepest_line_of_its_own_file_counts(tmp_path: Path) -> None:
    source = write(tmp_path, "import json\n\ndef make():\n    return json.loads('{')\n")
    with pytest.raises(ModelError, match=r"\(net\.py line 4\)"), users_callable(source) as function:
        function()


def test_our_own_errors_pass(tmp_path: Path) -> None:
    source = write(tmp_path, "def make(): ...\n")
    with pytest.raises(DataError, match="as it is"), users_callable(source):
        raise DataError("as it is")
    with pytest.raises(ConfigError), users_callable(f"{tmp_path / 'net.py'}:other"):
        pass


def test_an_error_without_frames_has_no_place() -> None:
    assert find_place(ValueError(), "net.py:make") == ""


@pytest.mark.parametrize("parameters", ["progress", "*, progress", "progress=None", "progress=print"])
def test_a_function_that_asks_for_progress_gets_it(tmp_path: Path, parameters: str) -> None:
    source = write(tmp_path, f"def make({parameters}):\n    progress('training epochs', 1, 3)\n    return 5\n")
    told: list[tuple[str, int, int]] = []
    with users_callable(source) as function, told_to(lambda *far: told.append(far)):
        assert call_with_progress(function) == 5
    assert told == [("training epochs", 1, 3)]


@pytest.mark.parametrize("parameters", ["", "progress=True", "**progress", "*progress"])
def test_a_function_whose_progress_is_something_else_is_left_alone(tmp_path: Path, parameters: str) -> None:
    """torchvision's functions have progress=True, which shows or hides a bar."""
    source = write(tmp_path, f"def make({parameters}):\n    return {'progress' if parameters else 'True'}\n")
    with users_callable(source) as function, told_to(lambda *_: None):
        given = call_with_progress(function)
    assert not callable(given)
    assert given in (True, {}, ())


def test_nobody_is_told_afterwards(tmp_path: Path) -> None:
    source = write(tmp_path, "def make(progress):\n    progress('training epochs', 1, 3)\n")
    told: list[tuple[str, int, int]] = []
    with told_to(lambda *far: told.append(far)):
        pass
    with users_callable(source) as function:
        call_with_progress(function)
    assert told == []
