"""What runs on a device keeps to Python 3.10: JetPack 6 brings it, and its TensorRT module is for it alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import edgepack

ROOT = Path(edgepack.__file__).resolve().parent
DEVICE = ("base", "engines", "execution", "verify", "bundle", "runtime", "benchmark")
SINGLE = ("errors", "specs", "device/host", "device/jetson", "__main__")
FILES = [
    *(path for name in DEVICE for path in sorted((ROOT / name).rglob("*.py"))),
    *(ROOT / f"{n}.py" for n in SINGLE),
]
# New in Python 3.11 (docs.python.org/3.11/whatsnew/3.11.html) and likely to be reached for.
NEW = re.compile(
    r"\bmath\.(cbrt|exp2)\b|\bimport tomllib\b|\bdatetime\.UTC\b|\bfile_digest\b|\bStrEnum\b|\bcontextlib\.chdir\b"
    r"|\bTaskGroup\b|\bassert_never\b|\btyping\.(Self|LiteralString)\b|import Self\b|\bexcept\*|\bExceptionGroup\b"
    r"|\.add_note\("
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_device_module_uses_nothing_newer(path: Path) -> None:
    assert NEW.findall(path.read_text(encoding="utf-8")) == []


def test_the_pattern_would_see_it() -> None:
    assert NEW.search("x = math.cbrt(8)")
    assert NEW.search("    import tomllib\n")


def test_python_3_10_itself_compiles_every_device_module() -> None:
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.10 here")
    code = "import sys\nfor name in sys.argv[1:]:\n    compile(open(name, encoding='utf-8').read(), name, 'exec')"
    done = subprocess.run([python, "-c", code, *map(str, FILES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
