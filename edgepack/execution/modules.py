"""What a module of edgepack is made of: the modules that it imports, however deep, and the packages that these use.

A stored output depends on the code that made it and on nothing else of edgepack, so the imports are read from the
source text, those inside functions too. A string such as ``"edgepack.export.onnx_file"`` counts as an import: tables
name modules so. One too many may be found, never one too few.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgepack.base.extensions import all_entry_points, extension_sources
from edgepack.base.resources import package_folder
from edgepack.base.versions import installed_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PACKAGE = "edgepack"
_IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n(]+))", re.M
)
_COMMENT = re.compile(r"#.*")
_REFERENCE = re.compile(r"[\"'](edgepack(?:\.\w+)+)(?::\w+)?[\"']")
# Where the name of a distribution is not that of the module in it.
_DISTRIBUTIONS = MappingProxyType({"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"})


@functools.cache
def closure(module: str) -> frozenset[str]:
    """Return the names of edgepack's modules that ``module``, one of them or not, may load: itself among them."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [package for package in _packages(name) if _path(package) is not None]
        waiting += _imports(name)[0]
    return frozenset(name for name in found if _path(name) is not None)


@functools.cache
def code_digest(module: str) -> str:
    """Return a digest of the source of ``module``'s closure and of the files beside it that are not Python."""
    digest = hashlib.sha256()
    for name in sorted(closure(module)):
        digest.update(_own_digest(name))
    return digest.hexdigest()


@functools.cache
def _own_digest(module: str) -> bytes:
    """Return a digest of the name and files of a module alone, read once though many closures have it."""
    path = _path(module)
    assert path is not None, "closure() keeps modules only"
    digest = hashlib.sha256()
    for file in (path, *_data_files(path)):
        content = _source(module) if file == path else file.read_bytes()
        digest.update(f"{module}/{file.name}:{len(content)};".encode() + content)
    return digest.digest()


@functools.cache
def packages(module: str) -> Mapping[str, str]:
    """Return the versions of the installed packages that ``module``'s closure imports, by distribution."""
    names = {top for name in closure(module) for top in _imports(name)[1]}
    versions = {name: installed_version(_DISTRIBUTIONS.get(name, name)) for name in names}
    return {_DISTRIBUTIONS.get(name, name): text for name, text in sorted(versions.items()) if text is not None}


def extensions() -> dict[str, str]:
    """Return the versions of the installed packages that add something to edgepack by entry points.

    A digest of their source is with them, as a package that is being worked on keeps its version.
    """
    versions = dict(_extending(tuple(sys.path)))
    if not versions:
        return {}
    digest = hashlib.sha256()
    for path in extension_sources():
        content = path.read_bytes()
        digest.update(f"{path.name}:{len(content)};".encode() + content)
    return {**versions, "their source": digest.hexdigest()}


@functools.lru_cache(maxsize=64)
def _extending(path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return name and version of the packages that add something."""
    found = all_entry_points(path)
    added = (
        entry.dist for group in found.groups if group.startswith("edgepack.") for entry in found.select(group=group)
    )
    return tuple(sorted({dist.name: dist.version for dist in added if dist is not None}.items()))


@functools.cache
def _imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a module imports: modules of edgepack, and the top names of packages that are not Python's own."""
    if _path(module) is None or module == _PACKAGE:  # the package itself only names what programs may ask it for
        return frozenset(), frozenset()
    text = _source(module).decode()
    names = set(_imported(text))
    names |= {m.group(1) for m in _REFERENCE.finditer(text)}
    own = {found for name in names if name.partition(".")[0] == _PACKAGE and (found := _module(name))}
    tops = {name.partition(".")[0] for name in names}
    return frozenset(own), frozenset(tops - {_PACKAGE} - set(sys.stdlib_module_names))


@functools.cache
def _source(module: str) -> bytes:
    """Return the source of a module, read once."""
    path = _path(module)
    assert path is not None, "closure() keeps modules only"
    return path.read_bytes()


def _imported(text: str) -> Iterator[str]:
    """Yield the full name of everything that a source text imports, whether module or not."""
    for match in _IMPORT.finditer(text):
        plain, source, names = match.groups()
        for part in _COMMENT.sub("", plain or names).strip("() \t\n").split(","):
            words = part.split()
            if words:
                yield words[0] if plain else f"{source}.{words[0]}"


def _module(name: str) -> str | None:
    """Return the module that holds what ``name`` names: itself, or the one before its last dot."""
    return next((found for found in (name, name.rpartition(".")[0]) if _path(found) is not None), None)


def _packages(module: str) -> Iterator[str]:
    """Yield the packages around a module, which Python loads before it."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


@functools.cache
def _path(module: str) -> Path | None:
    """Return the source of a module: edgepack's by its place, another one (a test's, a plug-in's) as it was loaded."""
    if module.partition(".")[0] == _PACKAGE:
        return _own_modules().get(module)
    known = sys.modules.get(module)
    origin = getattr(known, "__file__", None) if known else None
    return Path(origin) if origin and origin.endswith(".py") else None


@functools.cache
def _own_modules() -> Mapping[str, Path]:
    """Return the source of each of edgepack's modules; listed once, as thousands of names are asked for."""
    root = package_folder()
    found: dict[str, Path] = {}
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name != "__pycache__"]
        package = ".".join((_PACKAGE, *Path(folder).relative_to(root).parts))
        for file in files:
            if file == "__init__.py":
                found[package] = Path(folder, file)  # before a module of that name beside the folder
            elif file.endswith(".py"):
                found.setdefault(f"{package}.{file.removesuffix('.py')}", Path(folder, file))
    return found


def _data_files(path: Path) -> list[Path]:
    """Return the files beside a package's ``__init__.py`` that are not Python, in folders that are not packages too."""
    if path.name != "__init__.py":
        return []
    found: list[Path] = []
    folders = [path.parent]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            if entry.is_dir():
                if entry.name != "__pycache__" and not (entry / "__init__.py").exists():
                    folders.append(entry)
            elif entry.suffix not in (".py", ".pyc"):
                found.append(entry)
    return sorted(found)
