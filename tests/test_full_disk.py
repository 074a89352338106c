"""A simulated full disk must not cut bytecode off: Python 3.11 takes it for whole, and every later run fails."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from full_disk import full_disk

TESTS = Path(__file__).resolve().parent
_LIMITS = re.compile(r"RLIMIT_FSIZE|ulimit\s+-f|--fsize")
_NO_BYTECODE = re.compile(r'PYTHONDONTWRITEBYTECODE|"-B"|full_disk\(')


def careless(text: str) -> list[int]:
    """Return the lines of a file's functions and constants that limit the size of files, and not that of bytecode."""
    found = []
    tree = ast.parse(text)
    # Without docstrings and comments, which name limits too.
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    for node in tree.body:
        code = ast.unparse(node).replace("'-B'", '"-B"')
        if _LIMITS.search(code) and not _NO_BYTECODE.search(code):
            found.append(node.lineno)
    return found


def test_every_limit_of_a_files_size_spares_bytecode() -> None:
    files = [path for path in sorted(TESTS.rglob("*.py")) if _LIMITS.search(path.read_text(encoding="utf-8"))]
    assert len(files) > 4
    found = {path.relative_to(TESTS).as_posix(): careless(path.read_text(encoding="utf-8")) for path in files}
    found.pop("test_full_disk.py")  # its own examples
    assert {name: lines for name, lines in found.items() if lines} == {}, "use full_disk(), or python -B"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("def f(): run(preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (9, 9)))", [1]),
        ("\nCODE = 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))'", [2]),
        ("def f():\n    '''By RLIMIT_FSIZE.'''\n    run('ulimit  -f 8; python')", [1]),
        ("def f(): run('prlimit --fsize=9 python')", [1]),
        ("\"\"\"By RLIMIT_FSIZE.\"\"\"\ndef f():\n    '''By RLIMIT_FSIZE.'''", []),
        ("def f(): run([python, '-B', '-c', 'setrlimit(RLIMIT_FSIZE, (9, 9))'])", []),
        ("def f(): run('export PYTHONDONTWRITEBYTECODE=1; ulimit -f 8; python')", []),
    ],
)
def test_a_limit_that_would_cut_bytecode_off_is_seen(code: str, lines: list[int]) -> None:
    assert careless(code) == lines


def test_a_process_on_a_full_disk_writes_no_bytecode_and_no_large_file(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("VALUE = 1\n" * 50)
    code = "import module\nwith open('large', 'wb') as file: file.write(bytes(5000))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, **full_disk(1000))
    assert "File too large" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "module.py"]
    assert (tmp_path / "large").stat().st_size == 1000
