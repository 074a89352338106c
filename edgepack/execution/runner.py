"""Runs a stage: from the store when its inputs are unchanged, else in a child process."""

from __future__ import annotations

import importlib.metadata
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgepack.base.files import sha256_json
from edgepack.base.resources import package_folder
from edgepack.errors import EdgepackError
from edgepack.execution import child, reads
from edgepack.execution.events import Events
from edgepack.execution.store import Store

T = TypeVar("T")

_CODE_FILES = ("*.py", "*.jinja", "*.html", "*.css", "*.js")


@dataclass(frozen=True)
class Workshop:
    """Where stages run: the store, the folder of logs, whom to tell, and the time limit of one stage in seconds."""

    store: Store
    logs: Path
    events: Events
    limit_s: float
    code: str

    def run(
        self,
        stage: str,
        detail: str,
        inputs: Mapping[str, Any],
        function: Callable[..., T],
        *arguments: Any,
        kind: Any = None,
        environment: Mapping[str, str] | None = None,
    ) -> T:
        """Return ``function(*arguments, out)``, from the store if it ran before with the same ``inputs``.

        ``inputs`` holds what the output depends on; edgepack's own code and the versions of the tools are added here.
        ``kind`` is the function's return type where its annotation does not tell. Raises what the function raises.
        """
        key = {"inputs": inputs, "code": self.code, "tools": tool_versions()}
        log = self.logs / f"{stage}-{sha256_json({'stage': stage, 'detail': detail})[:8]}.log"
        self.events.begin(stage, detail)
        try:
            ran_before = len(self.store.ran)
            value: T = self.store.run(
                stage,
                1,
                key,
                kind or typing.get_type_hints(function)["return"],
                lambda out: self._child(function, arguments, out, log, environment),
                fresh=self._unchanged,
            )
        except EdgepackError as error:
            self.events.end("failed", f"{detail}: {error.message}" if detail else error.message)
            raise
        except BaseException:
            self.events.end("failed", detail)
            raise
        reused = len(self.store.ran) == ran_before
        self.events.end("reused" if reused else "done", detail)
        return value

    def _child(
        self,
        function: Callable[..., T],
        arguments: tuple[Any, ...],
        out: Path,
        log: Path,
        environment: Mapping[str, str] | None,
    ) -> T:
        log.unlink(missing_ok=True)
        return child.call(
            function,
            *arguments,
            out,
            limit_s=self.limit_s,
            log=log,
            progress=self.events.progress,
            environment=environment,
        )

    def _unchanged(self, folder: Path) -> bool:
        """Say whether every file that the stage read when it ran is as it was."""
        for name, digest in reads.read_files(folder).items():
            path = Path(name)
            if not path.is_file() or self.store.sha256(path) != digest:
                return False
        return True


def tool_versions() -> dict[str, str]:
    """Return the installed versions of the packages that a stage's output may depend on."""
    found = {}
    for name in ("numpy", "onnx", "onnxruntime", "onnxslim", "onnxscript", "openvino", "pillow", "scipy", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_digest(store: Store) -> str:
    """Return a digest of edgepack's own source, so that outputs of an older edgepack are not taken for its own."""
    package = package_folder()
    paths = sorted(p for pattern in _CODE_FILES for p in package.rglob(pattern))
    return sha256_json({p.relative_to(package).as_posix(): store.sha256(p) for p in paths})
