from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.base.user_functions import functions_in, is_callable_reference, load_callable
from edgepack.errors import ConfigError


def test_references_are_told_from_paths() -> None:
    assert is_callable_reference("a.b:c")
    assert is_callable_reference("x/y.py:make")
    assert not is_callable_reference("x.onnx")
    assert not is_callable_reference("C:/x.onnx")


def test_what_a_file_defines_is_listed_without_running_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import os\nraise SystemExit\nclass Net: ...\ndef _own(): ...\ndef make(): ...\n")
    (tmp_path / "broken.py").write_text("def (")
    assert functions_in(tmp_path / "net.py") == ("Net", "make")
    assert functions_in(tmp_path / "broken.py") == functions_in(tmp_path / "none.py") == ()


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "edgepack_test_neighbour.py").write_text("value = 5\n")
    (tmp_path / "net.py").write_text("from edgepack_test_neighbour import value\ndef make():\n    return value\n")
    assert load_callable(f"{tmp_path}/net.py:make")() == 5


def test_a_file_that_was_changed_within_the_second_runs_as_it_is_now(tmp_path: Path) -> None:
    """Python itself would take the bytecode of the first one, whose size and second are the same."""
    file = tmp_path / "net.py"
    code = "import sys; from edgepack.base.user_functions import load_callable; print(load_callable(sys.argv[1])())"
    said = []
    for value in (1, 2):
        file.write_text(f"def make():\n    return {value}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        words = [sys.executable, "-c", code, f"{file}:make"]
        bytecode = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        said.append(subprocess.run(words, capture_output=True, text=True, check=True, env=bytecode).stdout.strip())
    assert said == ["1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def make(): pass\n", "mke", "did you mean 'make'"),
        ("make = 3\n", "make", "not a callable"),
        ("def make(:\n", "make", "SyntaxError"),
        ("raise ValueError('broken here')\n", "make", "broken here"),
        ("import sys\nsys.exit(3)\n", "make", "SystemExit"),
        ("import no_such_module_anywhere\n", "make", "no_such_module_anywhere"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, name: str, said: str) -> None:
    file = tmp_path / "net.py"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_callable(f"{file}:{name}")
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("reference", ["no_such_package_x:make", "missing.py:make", "name", ":x", "a:b c"])
def test_what_is_not_there_is_said(reference: str) -> None:
    with pytest.raises(ConfigError):
        load_callable(reference)
