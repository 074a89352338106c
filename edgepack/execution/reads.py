"""Records which files user code read, so that a stage that ran it can tell later whether anything changed.

A Python function given by the user may load weights from anywhere: its digest alone does not tell what it depends on.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path
from typing import Any

from edgepack.base.files import sha256_file
from edgepack.base.resources import package_folder

FILE = "read.json"
_NOT_FILES = ("/proc/", "/sys/", "/dev/")


class ReadFiles:
    """Collects, from its creation on, every file that this process opens for reading (PEP 578 audit events).

    Files opened by native code without Python's ``open`` are not seen. An audit hook cannot be removed, so make one
    in a process of its own.
    """

    def __init__(self) -> None:
        self._paths: set[str] = set()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[1], str):
            if not set(arguments[1]) & set("wax+"):
                self._paths.add(arguments[0])
        elif event == "import" and isinstance(arguments[1], str):
            self._paths.add(arguments[1])

    def write(self, out: Path) -> None:
        """Write the digests of the files read that are still there into ``out``; the interpreter's own are left out."""
        library = sysconfig.get_paths()["stdlib"]
        package = str(package_folder())
        for module in list(sys.modules.values()):
            if source := getattr(module, "__file__", None):
                self._paths.add(source)
        found = {}
        for name in sorted({str(Path(p).absolute()) for p in self._paths}):
            if name.startswith((*_NOT_FILES, package, str(out.absolute()))) or "__pycache__" in name:
                continue
            path = Path(name)
            if name.startswith(library) and "site-packages" not in name:
                continue
            if path.is_file():
                found[name] = sha256_file(path)
        (out / FILE).write_text(json.dumps(found, indent=0))


def read_files(folder: Path) -> dict[str, str]:
    """Return path and sha256 of every file that the stage whose output is in ``folder`` read; empty if it kept none."""
    try:
        return {str(k): str(v) for k, v in json.loads((folder / FILE).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}
