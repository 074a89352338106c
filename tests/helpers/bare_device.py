"""Runs the program where only some packages can be imported, also in the processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_SITE = """
import sys
from importlib.machinery import PathFinder


class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in INSTALLED:
            return None
        return super().find_spec(name, path, target)


INSTALLED = {names!r}
sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""


class BareDevice:
    """A Python that finds numpy, Click and one engine, and nothing else besides the standard library and edgepack."""

    def __init__(self, folder: Path, *engine: str) -> None:
        folder.mkdir()
        names = ("numpy", "click", "edgepack", *engine)
        (folder / "sitecustomize.py").write_text(_SITE.replace("{names!r}", repr(names)))
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {
            **os.environ, "PYTHONPATH": path, "EDGEPACK_CACHE": str(folder / "cache"), "COLUMNS": "100",
        }  # fmt: skip

    def edgepack(self, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command of the program."""
        return self.python("-m", "edgepack", *words, **options)

    def python(self, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """Run Python."""
        command = [sys.executable, *map(str, words)]
        captured = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 200, **options}
        return subprocess.run(command, text=True, check=False, env=self._environment, **captured)
