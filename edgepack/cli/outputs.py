"""Opens the stage runner of a command that runs single stages, and writes their outputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import atomic_write, storage_errors
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from edgepack.execution.runner import StageRunner
    from edgepack.specs.model import OnnxModel


@contextmanager
def stage_runner(store: str | None, limit_s: float | None) -> Iterator[StageRunner]:
    """Yield a ``StageRunner`` that shows its stages on stderr and keeps its logs in the store's folder."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.progress import Display
    from edgepack.device.host import host_facts
    from edgepack.execution.open_store import open_store
    from edgepack.execution.runner import StageRunner

    opened = open_store(store)
    with Display(make_console()) as display:
        opened.tell_by(display.note)
        try:
            yield StageRunner(opened, opened.folder / "logs", display, limit_s or 600.0, host_facts())
        finally:
            opened.save()


def deliver(model: OnnxModel, out: Path) -> None:
    """Copy an ONNX file to ``out``; its external data goes beside it under the names that the file holds."""
    refuse_folder(out)
    for name in model.external:
        copy_file(model.path.parent / name, out.parent / name)
    copy_file(model.path, out)


def copy_file(source: Path, out: Path) -> None:
    """Copy a file so that it appears whole or not at all."""
    with atomic_write(out) as file, source.open("rb") as opened:
        shutil.copyfileobj(opened, file, 1 << 20)


def copy_folder(source: Path, names: tuple[str, ...], out: Path) -> None:
    """Copy the files ``names`` below ``source`` into the folder ``out``."""
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    for name in names:
        copy_file(source / name, out / name)


def refuse_out(model: str, out: Path) -> None:
    """Raise ``ConfigError`` where an ONNX file would be written over ``model``, or under another format's name."""
    from edgepack.export import is_onnx

    if Path(model).exists() and out.exists() and out.samefile(model):
        raise ConfigError(f"--out {out} is the model itself", hint="give another name, as in -o simplified.onnx")
    if not is_onnx(out):
        hint = f"name it {out.stem}.onnx; 'edgepack build' makes what devices run"
        raise ConfigError(f"--out {out} is not the name of an ONNX file, which is what is written", hint=hint)


def refuse_folder(out: Path) -> None:
    """Raise ``ConfigError`` when ``out`` is a folder where a file must be named."""
    if out.is_dir():
        raise ConfigError(f"{out} is a folder", hint="give the name of the file to write, as in -o model.onnx")
