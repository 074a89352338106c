"""The rules of the house: who may import whom, and what a device needs (DESIGN, section 2)."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import edgepack
from edgepack.base.extensions import load_reference
from edgepack.engines import ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

ROOT = Path(edgepack.__file__).resolve().parent

# Each line may import from the lines above it only: the names of one line do not import each other.
LAYERS = (
    "__init__ errors specs",
    "base",
    "device execution graph",
    "engines data",
    "tasks",
    "export calibrate verify",
    "quantize lint bundle",
    "embed",
    "trust",
    "runtime",
    "benchmark serve",
    "profiling report",
    "remote registry updaters cpp",
    "pipeline",
    "demo",
    "cli",
    "__main__ api",
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}

# What runs on a device. It has numpy, Click and the engine; only the command line needs Click.
DEVICE = ("base", "device", "execution", "engines", "data", "tasks", "calibrate", "verify", "bundle", "trust")
DEVICE += ("runtime", "benchmark", "registry", "serve")
# These do not even want numpy: a command line that answers at once imports them.
PLAIN = ("errors", "specs", "base", "execution", "device")


# Strings that are an engine's name outside engines/, each with why it may stand there.
NAMES_AN_ENGINE = {
    "specs/target.py": "the default of a profile's key is data, and specs import nothing",
    "execution/forks.py": "the package that most stages import, loaded before they are forked",
    "calibrate/__init__.py": "the package that computed the ranges, written into them",
    "benchmark/imported.py": "other tools' files, each of one engine",
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    """Return which part of the house a module belongs to: its top folder, or its own name; programs are on top."""
    first = path.relative_to(ROOT).parts[0]
    return "__main__" if path.stem == "__main__" else first.removesuffix(".py")


def statements(node: Any) -> Iterator[ast.stmt]:
    """Yield every statement of a node, itself too. A walk of all expressions, which hold none, takes much longer."""
    if isinstance(node, ast.stmt):
        yield node
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, field, ()):
            yield from statements(inner)


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of everything that ``tree`` imports, also inside functions."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_types(tree: ast.Module) -> ast.Module:
    """Return what of a module runs: the imports for type checkers alone are left out."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body, [])


def module_level(tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports when it is itself imported: not in functions, not for type checkers alone."""

    def visit(nodes: list[ast.stmt]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from imports(node)
            elif isinstance(node, ast.If):
                if ast.unparse(node.test) != "TYPE_CHECKING":
                    yield from visit(node.body)
                yield from visit(node.orelse)
            elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
                yield from visit(node.body)

    yield from visit(tree.body)


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return a module's tree; it is looked at, not changed."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Return what a module imports, also inside functions and for type checkers."""
    return frozenset(imports(parsed(path)))


def outside(names: Iterable[str]) -> set[str]:
    """Return the packages among ``names`` that are neither edgepack's nor the standard library's."""
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"edgepack"}


def dotted(path: Path) -> str:
    """Return a module's full name."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_of(names: Container[str]) -> Callable[[str], str | None]:
    """Return a function from what is imported to edgepack's module that is loaded for it."""
    return lambda name: next((n for n in (name, name.rpartition(".")[0]) if n in names), None)


def identifier(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def violations(found: Callable[[Path], set[str]], paths: Iterable[Path] | None = None) -> dict[str, set[str]]:
    """Return what ``found`` names for each module, of those for which it names something."""
    each = {identifier(path): found(path) for path in (modules() if paths is None else paths)}
    return {name: names for name, names in each.items() if names}


# --- layers -----------------------------------------------------------------------------------------------------------


def test_every_module_has_its_layer() -> None:
    unknown = {part(path) for path in modules()} - RANK.keys()
    assert not unknown, "add them to the layers of this test, after DESIGN section 2"


def upward(path: Path) -> set[str]:
    """Return what a module imports from a part that is not below its own; the names that ``edgepack`` exports aside."""
    names = imported(path) if path != ROOT / "__init__.py" else frozenset(imports(without_types(parsed(path))))
    others = {name: name.split(".")[1] for name in names if name.startswith("edgepack.")}
    mine = part(path)
    return {name for name, other in others.items() if other in RANK and other != mine and RANK[other] >= RANK[mine]}


def test_no_module_imports_sideways_or_upward() -> None:
    assert violations(upward) == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {dotted(path): path for path in modules()}
    del names["edgepack"]  # it names what programs may import, for type checkers
    graph = {name: {m for m in map(module_of(names), imported(path)) if m} for name, path in names.items()}
    try:
        graphlib.TopologicalSorter({name: others - {name} for name, others in graph.items()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


# --- engines ----------------------------------------------------------------------------------------------------------


def engines_named(tree: ast.AST) -> set[str]:
    """Return the engines whose name is a string of ``tree``."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in ENGINES.own}


def engines_imported(names: Iterable[str]) -> set[str]:
    """Return the engines of which a module is imported."""
    parts = (name.split(".") for name in names if name.startswith("edgepack.engines."))
    return {found for _, _, found, *_ in parts if found in ENGINES.own}


def test_no_engine_is_named_or_imported_outside_engines() -> None:
    outer = [path for path in modules() if part(path) != "engines"]
    naming = [path for path in outer if any(name in path.read_text(encoding="utf-8") for name in ENGINES.own)]
    assert set(violations(lambda path: engines_named(parsed(path)), naming)) == set(NAMES_AN_ENGINE)
    assert violations(lambda path: engines_imported(imported(path)), outer) == {}


def test_an_engine_is_one_folder_and_one_line() -> None:
    folders = {path.parent.name for path in (ROOT / "engines").glob("*/facts.py")}
    assert folders == set(ENGINES.own)
    for name in folders:
        assert ENGINES.own[name] == f"edgepack.engines.{name}.facts:ENGINE"
        assert outside(imported(ROOT / "engines" / name / "facts.py")) == set()


def test_every_reference_of_an_engines_record_is_there() -> None:
    references = {
        value
        for name in ENGINES.own
        for value in vars(ENGINES.get(name)).values()
        if isinstance(value, str) and value.startswith("edgepack.")
    }
    assert len(references) > 10
    for reference in references:
        assert load_reference(reference) is not None


def test_the_rules_for_engines_would_see_a_violation() -> None:
    tree = ast.parse("from edgepack.engines.tvm import engine\nif name == 'openvino':\n    pass")
    assert engines_imported(imports(tree)) == {"tvm"}
    assert engines_named(tree) == {"openvino"}


# --- third-party packages ---------------------------------------------------------------------------------------------


def test_third_party_packages_are_imported_where_they_are_used() -> None:
    always = {"numpy"}
    assert violations(
        lambda path: outside(module_level(parsed(path))) - (always | {"click"} if part(path) == "cli" else always)
    ) == {}  # fmt: skip


def test_the_lowest_modules_import_the_standard_library_only() -> None:
    lowest = [path for path in modules() if part(path) in PLAIN]
    assert violations(lambda path: outside(module_level(parsed(path))), lowest) == {}


def test_only_the_command_line_knows_click() -> None:
    others = [path for path in modules() if part(path) != "cli"]
    assert violations(lambda path: outside(imported(path)) & {"click", "rich"}, others) == {}


def test_no_package_exports_what_another_module_defines() -> None:
    packages = [path for path in modules() if path.name == "__init__.py"]
    assert [identifier(path) for path in packages if "__all__" in path.read_text(encoding="utf-8")] == []


def test_the_rules_would_see_a_violation() -> None:
    tree = ast.parse("import scipy.stats\nif TYPE_CHECKING:\n    import torch\ntry:\n    import onnx\nexcept E: pass")
    assert outside(module_level(tree)) == {"scipy", "onnx"}
    assert outside(imports(tree)) == {"scipy", "onnx", "torch"}


def test_an_import_is_seen_in_every_block() -> None:
    code = """
class C:
    async def f(self):
        async with x:
            import a
        for _ in ():
            pass
        else:
            import b
        while x:
            import c
        match x:
            case 1:
                import d
        try:
            pass
        except* E:
            import e
        else:
            import f
        finally:
            import g
        def inner():
            with x:
                from h import i
"""
    assert set(imports(ast.parse(code))) == {"a", "b", "c", "d", "e", "f", "g", "h.i"}


def test_the_linter_bans_the_engines_from_module_level() -> None:
    pyproject = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    banned = pyproject["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
    assert {"torch", "onnx", "onnxruntime", "openvino", "scipy", "PIL", "jinja2", "msgspec"} <= set(banned)


# --- on a device ------------------------------------------------------------------------------------------------------

BLOCKER = """
import importlib, pkgutil, sys

installed = (*sys.argv[1].split(","), "edgepack")

class Blocker:
    \"\"\"Only the standard library, edgepack and the packages named are there, as on a device.\"\"\"

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in installed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import edgepack

for name in sys.argv[2:]:
    module = importlib.import_module(f"edgepack.{name}")
    for inner in pkgutil.walk_packages(getattr(module, "__path__", []), f"edgepack.{name}."):
        importlib.import_module(inner.name)
        print(inner.name)
"""


def test_a_device_needs_numpy_only_to_import_its_modules() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", BLOCKER, "numpy", *DEVICE], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert {"edgepack.engines.onnxruntime.engine", "edgepack.engines.openvino.engine"} <= set(answer.stdout.split())


def test_the_command_line_needs_numpy_and_click_only() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", BLOCKER, "numpy,click", "cli"], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert {"edgepack.cli.main", "edgepack.cli.show.console"} <= set(answer.stdout.split())


def test_a_device_without_an_engine_is_told_what_to_install() -> None:
    code = (
        BLOCKER
        + """
from edgepack.engines import ENGINES, get_backend
from edgepack.errors import ToolchainError
for name in ENGINES.own:
    try:
        get_backend(name).versions()
    except ToolchainError as error:
        print(error.hint)
"""
    )
    answer = subprocess.run([sys.executable, "-c", code, "numpy"], capture_output=True, text=True, check=True)
    hints = answer.stdout.split("\n")
    assert any("JetPack" in hint for hint in hints), "TensorRT's own words"
    for name in set(ENGINES.own) - {"tensorrt"}:
        assert f"pip install 'edgepack[{name}]'" in hints


# --- the command line -------------------------------------------------------------------------------------------------

HELP = """
import runpy, sys
sys.argv = ["edgepack", *sys.argv[1:]]
try:
    runpy.run_module("edgepack", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert end.code in (0, None), end.code
banned = {"torch", "onnx", "onnxruntime", "openvino", "scipy", "PIL", "jinja2", "msgspec", "onnxslim", "numpy", "rich"}
print("IMPORTED", *sorted(banned & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["build", "--help"], ["verify", "--help"]], ids=" ".join
)
def test_help_imports_no_engine(arguments: list[str]) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    imported = answer.stdout.rpartition("IMPORTED")[2].split()
    assert imported == []


def test_a_command_imports_its_own_module_only() -> None:
    """What a device reads from its disk before it does anything: Click and a few modules of ours."""
    code = HELP.replace(
        'print("IMPORTED"', 'banned = {m for m in sys.modules if m.startswith("edgepack.")}\nprint("IMPORTED"'
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, "verify", "--help"], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    imported = set(answer.stdout.rpartition("IMPORTED")[2].split())
    assert imported <= {
        "edgepack.base", "edgepack.base.documents", "edgepack.base.run_options", "edgepack.base.text", "edgepack.cli",
        "edgepack.cli.builder",
        "edgepack.cli.bundle", "edgepack.cli.common",
        "edgepack.cli.duration", "edgepack.cli.main", "edgepack.cli.names", "edgepack.cli.options", "edgepack.cli.show",
        "edgepack.cli.show.terminal", "edgepack.errors", "edgepack.specs", "edgepack.specs.embed",
        "edgepack.specs.run", "edgepack.specs.types",
    }  # fmt: skip
