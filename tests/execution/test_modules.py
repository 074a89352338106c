"""What a stage's code is: the modules that it loads, and no others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgepack
from edgepack.execution import modules

pytestmark = pytest.mark.slow

PACKAGE = Path(edgepack.__file__).resolve().parent

# Run with a copy of the package first on the path: prints the digest of the code of each module that is named.
DIGESTS = """
import sys
sys.path.insert(0, sys.argv[1])
from edgepack.execution import modules
assert modules.__file__.startswith(sys.argv[1])
for name in sys.argv[2:]:
    print(modules.code_digest(name))
"""
STAGES = ("edgepack.calibrate", "edgepack.quantize", "edgepack.verify.evaluate", "edgepack.report.html.page")


def digests(folder: Path) -> dict[str, str]:
    command = [sys.executable, "-c", DIGESTS, str(folder), *STAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONDONTWRITEBYTECODE": "1"})
    return dict(zip(STAGES, done.stdout.split(), strict=True))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "edgepack", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("report/html/page.css", {"edgepack.report.html.page"}),
        ("report/html/script/table.js", {"edgepack.report.html.page"}),
        ("cli/options.py", set()),
        ("calibrate/histogram.py", {"edgepack.calibrate"}),
        ("quantize/insert.py", {"edgepack.quantize"}),
        # Behind the table of engines.
        ("engines/tvm/cpp/runner.cpp", set(STAGES) - {"edgepack.calibrate"}),
        ("errors.py", set(STAGES)),
        ("base/documents.py", set(STAGES)),
    ],
)
def test_a_changed_file_changes_the_code_of_those_that_load_it(copy: Path, file: str, changed: set[str]) -> None:
    before = digests(copy)
    path = copy / "edgepack" / file
    path.write_text(path.read_text() + "\n")
    after = digests(copy)
    assert {name for name in STAGES if before[name] != after[name]} == changed


def test_what_python_loads_is_in_the_closure() -> None:
    """Python itself is the judge: whatever importing a module loads of edgepack is found in its source."""
    code = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    for name in ("edgepack.calibrate", "edgepack.verify.evaluate", "edgepack.pipeline.build", "edgepack.runtime.load"):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        loaded = {module for module in done.stdout.split() if module.partition(".")[0] == "edgepack"}
        assert loaded <= modules.closure(name), name


def test_tables_name_modules_by_text() -> None:
    assert "edgepack.export.torch_module" in modules.closure("edgepack.export")


def test_the_versions_of_what_the_code_imports_are_known() -> None:
    import onnx
    import onnxruntime

    found = modules.packages("edgepack.calibrate")
    assert found["onnx"] == onnx.__version__
    assert found["onnxruntime"] == onnxruntime.__version__
    assert "jinja2" not in {name.lower() for name in found}
    assert "edgepack" not in found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a.b, c as d\n", {"a.b", "c"}),
        ("from a import (\n    b,  # why\n    c as d,\n)\n", {"a.b", "a.c"}),
        ("def f():\n    from a.b import c\n    import e\n", {"a.b.c", "e"}),
        ("# import a\nx = 'from a import b'\n", set()),
    ],
)
def test_imports_are_read_from_the_text(text: str, names: set[str]) -> None:
    assert set(modules._imported(text)) == names


def test_the_source_of_a_package_that_extends_edgepack_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = modules.extensions()
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "adding-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: adding\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgepack.observers]\nadded = adding:OBSERVER\n")
    (tmp_path / "adding.py").write_text("OBSERVER = 1\n")
    first = modules.extensions()
    assert first["adding"] == "1.0"
    assert first != without
    (tmp_path / "adding.py").write_text("OBSERVER = 2\n")
    assert modules.extensions()["their source"] != first["their source"]


def test_the_metadata_of_all_packages_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took half of the CPU time of a build with nothing to do, which asks for each of its stages."""
    modules.extensions()
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    assert modules.extensions() == {}


def test_a_package_comes_before_a_module_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("__init__.py", "a.py", "a/__init__.py", "a/b.py", "c/d.py", "e.txt", "__pycache__/f.py"):
        path = tmp_path / "edgepack" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(modules, "package_folder", lambda: tmp_path / "edgepack")
    found = modules._own_modules.__wrapped__()
    assert {name: str(path.relative_to(tmp_path / "edgepack")) for name, path in found.items()} == {
        "edgepack": "__init__.py", "edgepack.a": "a/__init__.py", "edgepack.a.b": "a/b.py", "edgepack.c.d": "c/d.py",
    }  # fmt: skip


def test_the_package_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each imported name was looked for on the disk, for a tenth of a second in a build with nothing to do."""
    modules.closure("edgepack.calibrate")
    monkeypatch.setattr(modules.os, "walk", None)
    monkeypatch.setattr(Path, "is_file", None)
    for cached in (modules.closure, modules._imports, modules._path):
        cached.cache_clear()
    assert "edgepack.errors" in modules.closure("edgepack.calibrate")
