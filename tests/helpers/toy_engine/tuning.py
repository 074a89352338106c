"""TEST DOUBLE: tunes "kernels", which are operators; its own way to tune one is not to wait before it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections import Counter
from pathlib import Path

from edgepack.errors import ConfigError
from edgepack.execution.events import Events
from edgepack.specs.kernels import KernelRecords, KernelSearch, TunedKernel, WholeModel
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import Target
from edgepack.specs.types import Precision, Progress

_DEFAULT_NS, _RATIO = 2000.0, 0.5


def can_measure_here(target: Target) -> bool:
    """Say yes for this machine's own profile."""
    return target.id == "host-toy"


def tune_model(
    model: OnnxModel,
    target: Target,
    precision: Precision,
    budget_ns: int,
    seed: int,
    log: Path,
    events: Events,
    board: str | None = None,
) -> KernelSearch:
    """Keep that each operator of the model takes half the time, which nobody measured."""
    import onnx

    known, counts = _read(_path(target)), Counter(node.op_type for node in onnx.load(model.path).graph.node)
    events.note(f"toy tunes {precision} on {board or 'this host'}")
    kernels = tuple(
        TunedKernel(f"toy {name}", count, "known" if name in known else "new", True, _DEFAULT_NS, _RATIO, trials=seed)
        for name, count in sorted(counts.items())
    )
    _write(_path(target), known | dict.fromkeys(counts, _RATIO))
    return KernelSearch(kernels, budget_ns, 0, complete=True, cpu=platform.machine(), records=_path(target))


def measure_whole(model: OnnxModel, target: Target, precision: Precision, log: Path, progress: Progress) -> WholeModel:
    """Return what a measurement would, which is made up."""
    progress("toy", 1, 1)
    return WholeModel(0.5, 0.4, 0.6, 200.0, 100.0, turns=1)


def known_kernels(target: Target, merge: Path | None, export: Path | None) -> KernelRecords:
    """Count what the file has."""
    known = _read(_path(target))
    taken = {name: ratio for name, ratio in (_read(merge) if merge else {}).items() if name not in known}
    _write(_path(target), known | taken)
    if export is not None:
        _write(export, known | taken)
    return KernelRecords(target.id, _path(target), len(known | taken), len(known | taken), len(taken))


def tuned_digest(target: Target) -> str | None:
    """Return the digest of the file."""
    path = _path(target)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _path(target: Target) -> Path:
    return Path(os.environ["EDGEPACK_CACHE"]) / f"{target.id}.toy.json"


def _read(path: Path) -> dict[str, float]:
    try:
        return dict(json.loads(path.read_bytes())) if path.exists() else {}
    except ValueError:
        raise ConfigError(f"{path} holds no records of Toy", hint="remove it") from None


def _write(path: Path, known: dict[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, sort_keys=True))
