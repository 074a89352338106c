"""What an engine is tied to on this device: TensorRT, CUDA, GPU, release and power mode. Nothing is imported early."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.device.host import l4t_release, nvidia_driver
from edgepack.device.jetson import power_mode
from edgepack.engines.tensorrt.cuda import load_cuda
from edgepack.errors import ToolchainError

if TYPE_CHECKING:
    from collections.abc import Mapping


_HINT = (
    "on a Jetson it comes with JetPack (sudo apt install python3-libnvinfer): make edgepack's environment with "
    "'python3 -m venv --system-site-packages'; on other machines: pip install tensorrt"
)


@dataclass(frozen=True)
class Device:
    """Facts that an engine built here fits exactly; ``dla`` is "none" or the core's number."""

    tensorrt: str
    cuda: str
    driver: str
    sm: str
    device: str
    l4t: str
    dla: str
    power_mode: str


def find_device(dla_core: int | None = None) -> Device:
    """Return this device's facts.

    The driver is asked first: without one, TensorRT 8.6's Runtime segfaults. Raises ``ToolchainError`` where an engine
    cannot be built or run, with the reason.
    """
    facts = load_cuda().device()
    engine = import_tensorrt()
    return Device(
        tensorrt=str(engine.__version__),
        cuda=f"{facts.runtime} (driver {facts.driver})",
        driver=nvidia_driver() or "unknown",
        sm=facts.sm,
        device=facts.name,
        l4t=l4t_release() or "none",
        dla="none" if dla_core is None else str(dla_core),
        power_mode=power_mode() or "none",
    )


def key_of(device: Device) -> dict[str, str]:
    """Return the facts as text by name, as a payload's key holds them."""
    return {field.name: str(getattr(device, field.name)) for field in dataclasses.fields(device)}


def engine_versions() -> Mapping[str, str]:
    """Return the versions of TensorRT and CUDA. Raises ``ToolchainError`` with what to install."""
    if not _is_installed():
        raise ToolchainError("TensorRT's Python module is not installed", hint=_HINT)
    device = find_device()
    return {"tensorrt": device.tensorrt, "cuda": device.cuda}


def import_tensorrt() -> Any:
    """Import the device's own ``tensorrt`` module. Raises ``ToolchainError``."""
    if not _is_installed():
        raise ToolchainError("TensorRT's Python module is not installed", hint=_HINT)
    try:
        import tensorrt  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:  # a broken installation raises anything: ImportError, OSError, SystemError, ...
        words = " ".join(str(error).split())[:400]
        raise ToolchainError(
            f"TensorRT is installed but does not load: {type(error).__name__}: {words}", hint=_HINT
        ) from error
    if not hasattr(tensorrt, "Builder"):  # the package's stub, or the lean runtime under its name
        raise ToolchainError("the installed 'tensorrt' module has no builder: it is a stub", hint=_HINT)
    return tensorrt


def _is_installed() -> bool:
    try:
        spec = importlib.util.find_spec("tensorrt")
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a folder of that name in the path is not a module
