"""What runs on a device keeps to Python 3.10: JetPack 6 brings it, and its TensorRT module is for it alone."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import edgepack

ROOT = Path(edgepack.__file__).resolve().parent
BUILDERS = ("pipeline", "calibrate", "demo", "export", "lint", "quantize", "report")  # rooms that no device imports
TOML = "base/documents.py"  # imports tomllib in the one function that says what Python 3.10 lacks
FILES = [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0] not in BUILDERS]
# New in Python 3.11 (docs.python.org/3.11/whatsnew/3.11.html) and likely to be reached for.
NEW = re.compile(
    r"\bmath\.(cbrt|exp2)\b|\bimport tomllib\b|\bdatetime\.UTC\b|\bfile_digest\b|\bStrEnum\b|\bcontextlib\.chdir\b"
    r"|\bTaskGroup\b|\bassert_never\b|\btyping\.(Self|LiteralString)\b|import Self\b|\bexcept\*|\bExceptionGroup\b"
    r"|\.add_note\("
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_device_module_uses_nothing_newer(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    allowed = ["import tomllib"] if path == ROOT / TOML else []
    assert [match[0] for match in NEW.finditer(text)] == allowed
    ast.parse(text, feature_version=(3, 10))


def test_the_pattern_would_see_it() -> None:
    assert NEW.search("x = math.cbrt(8)")
    assert NEW.search("    import tomllib\n")
    with pytest.raises(SyntaxError):
        ast.parse("try: f()\nexcept* ValueError: pass", feature_version=(3, 10))


def test_python_3_10_itself_compiles_every_device_module() -> None:
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 here")
    code = "import sys\nfor name in sys.argv[1:]:\n    compile(open(name, encoding='utf-8').read(), name, 'exec')"
    done = subprocess.run([python, "-c", code, *map(str, FILES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
