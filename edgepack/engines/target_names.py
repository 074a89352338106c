"""Other names of targets: what people call the devices, and the beginning of several ids for all of them."""

from __future__ import annotations

from collections.abc import Sequence

# Before what several targets have in common: all-jetson, all-aarch64.
ALL = "all-"

# What people write for a device, and the id of its profile. An id wins over a name.
ALIASES = {
    "rpi4": "raspberry-pi-4-tvm",
    "rpi5": "raspberry-pi-5",
    "pi4": "raspberry-pi-4-tvm",
    "pi5": "raspberry-pi-5",
    "raspberrypi4": "raspberry-pi-4-tvm",
    "raspberrypi5": "raspberry-pi-5",
    "orin-nano": "jetson-orin-nano-jp6",
    "rk3588": "rk3588-tvm",
    "n100": "intel-n100",
    "zen3": "amd-zen3",
    "aarch64": "generic-aarch64",
    "arm64": "generic-aarch64",
}


def target_id(name: str, ids: Sequence[str]) -> str:
    """Return the id that ``name`` is another name of, else ``name`` itself."""
    return name if name in ids else ALIASES.get(name, name)


def expanded(name: str, ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids that a name stands for; of a file its path, of an unknown name itself.

    The beginning of several ids up to a dash, such as ``jetson-orin-nano``, stands for all of them.
    """
    if name.endswith(".toml") or "/" in name:
        return (name,)
    found = target_id(name, ids)
    group = tuple(other for other in ids if name and found not in ids and other.startswith(f"{name}-"))
    return group or (found,)
