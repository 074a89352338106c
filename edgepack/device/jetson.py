"""What a Jetson reports about its power: mode, locked clocks, rails and memory clock; else from tegrastats.

Standard library only; everything is read below ``root``, so that the readers are tested on trees of files. Sources:
NVIDIA Jetson Linux Developer Guide, Platform Power and Performance; Linux, Documentation/hwmon/ina3221.rst and
ina238.rst. jetson-stats is not used.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path("/")
_TEGRASTATS_S = 0.5  # several lines at the interval asked for
# RAM and SWAP have the same form but end in MB.
_RAIL = re.compile(r"\b((?:VDD|VIN|POM|SYS|CV|GPU|CPU|SOC)[A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?=\s|$)")
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")


def power_mode(root: Path = _ROOT) -> str | None:
    """Return the number of the power mode, which nvpmodel keeps; None on other machines."""
    match = re.fullmatch(r"pmode:0*(\d+)", _text(root / "var/lib/nvpmodel/status"))
    return match[1] if match else None


def power_mode_name(root: Path = _ROOT) -> str | None:
    """Return the name of the power mode in use, such as ``15W`` or ``MAXN``, from /etc/nvpmodel.conf."""
    mode = power_mode(root)
    names = dict(_MODE.findall(_text(root / "etc/nvpmodel.conf")))
    return names.get(mode) if mode is not None else None


def clocks_locked(root: Path = _ROOT) -> bool | None:
    """Say whether jetson_clocks holds the clocks: lowest and highest are the same; None on other machines."""
    if power_mode(root) is None:
        return None
    pairs = [(p / "scaling_min_freq", p / "scaling_max_freq") for p in root.glob("sys/devices/system/cpu/cpu*/cpufreq")]
    gpu = _gpu(root)
    if gpu is not None:
        pairs.append((gpu / "min_freq", gpu / "max_freq"))
    values = [(_number(low), _number(high)) for low, high in pairs]
    return bool(values) and all(low is not None and low == high for low, high in values)


def jetson_facts(root: Path = _ROOT) -> Mapping[str, float]:
    """Return what a Jetson reports right now, each absent where it does not; empty on other machines:

    - ``power_<rail>_uw``: power of each rail of the INA3221 by its label, as VDD_IN; of an INA238 (Thor) as VIN.
    - ``emc_clock_hz``: the memory's clock (readable by root only, in debugfs).
    - ``jetson_clocks``: 1 when the clocks are held at their highest, else 0.
    - ``nvpmodel``: the number of the power mode.

    Where sysfs has no rails, ``tegrastats`` is asked once (half a second), where it is installed.
    """
    if power_mode(root) is None:
        return {}
    found: dict[str, float] = dict(_rails(root))
    if (emc := _number(root / "sys/kernel/debug/bpmp/debug/clk/emc/rate")) is not None:
        found["emc_clock_hz"] = float(emc)
    found["jetson_clocks"] = float(bool(clocks_locked(root)))
    found["nvpmodel"] = float(power_mode(root) or 0)
    if not any(key.startswith("power_") for key in found) and root == _ROOT:
        found = {**parse_tegrastats(_ask_tegrastats()), **found}
    return found


def _rails(root: Path) -> dict[str, float]:
    """Return the power of each rail: mV times mA is µW."""
    found = {}
    for monitor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        name = _text(monitor / "name")
        if name == "ina238" and (total := _number(monitor / "power1_input")) is not None:
            found["power_VIN_uw"] = float(total)
        if name != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = _text(monitor / f"in{channel}_label")
            volts, amperes = _number(monitor / f"in{channel}_input"), _number(monitor / f"curr{channel}_input")
            if re.fullmatch(r"[A-Za-z0-9_]+", label) and volts is not None and amperes is not None:
                found[f"power_{label}_uw"] = float(volts * amperes)
    return found


def parse_tegrastats(line: str) -> dict[str, float]:
    """Return the facts in one line of tegrastats, which changed its format between releases; unknown words are skipped.

    ``power_<rail>_uw`` from "VDD_IN 4583mW/4583mW" and "POM_5V_IN 2088/2088" (now and mean, in mW), ``gpu_load`` from
    "GR3D_FREQ 12%@305" (and "@[305]"), ``gpu_clock_hz`` and ``emc_clock_hz`` in MHz there, ``temperature_c``: hottest.
    """
    found: dict[str, float] = {}
    for rail, power in _RAIL.findall(line):
        found[f"power_{rail}_uw"] = float(power) * 1000
    if match := re.search(r"\bGR3D_FREQ (\d+)%(?:@\[?(\d+))?", line):
        found["gpu_load"] = float(match[1]) / 100
        if match[2]:
            found["gpu_clock_hz"] = float(match[2]) * 1e6
    if match := re.search(r"\bEMC_FREQ \d+%@(\d+)", line):
        found["emc_clock_hz"] = float(match[1]) * 1e6
    # The PMIC's sensor is a constant 50 or 100 degrees on the boards whose tegrastats shows it.
    degrees = [float(t) for name, t in re.findall(r"\b(\w+)@(-?\d+(?:\.\d+)?)C\b", line) if name != "PMIC"]
    if degrees:
        found["temperature_c"] = max(degrees)
    return found


def _ask_tegrastats() -> str:
    """Return one line of tegrastats; empty where it is not installed or does not answer."""
    tool = shutil.which("tegrastats")
    if tool is None:
        return ""
    try:
        process = subprocess.Popen([tool, "--interval", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    try:
        output, _ = process.communicate(timeout=_TEGRASTATS_S)
    except subprocess.TimeoutExpired:  # it never ends by itself
        process.kill()
        output, _ = process.communicate()
    return output.decode(errors="replace").partition("\n")[0]


def _gpu(root: Path) -> Path | None:
    """Return the GPU's devfreq folder, named after its node: 17000000.gpu, 17000000.ga10b."""
    for device in sorted(root.glob("sys/class/devfreq/*")):
        if re.search(r"\.(gpu|gv11b|ga10b|gp10b|gm20b|gb10b)$", device.name):
            return device
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None
