"""Energy of a piece of work from the sensors that this machine has: which they are, and the integration.

Two kinds: counters of energy (RAPL, and NVML of a GPU), read now and then because they wrap round, and readings of
power (INA3221 on a Jetson, a discharging battery), sampled by a thread and integrated. Files are read below ``root``,
so that the readers are tested on recorded trees.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgepack.benchmark.machine.nvml import energy_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgepack.benchmark.machine.nvml import Gpu

_ROOT = Path("/")
_COUNTER_EVERY_S = 10.0  # far below the minutes in which RAPL's counters wrap
_POWER_EVERY_S = 0.02
_INA3221_TOTAL = ("VDD_IN", "VIN", "POM_5V_IN", "VDD_GPU_SOC")  # the rail that feeds the module, newest boards first


@dataclass(frozen=True)
class CounterSensor:
    """Files that count µJ and wrap to 0 after ``ranges_uj``; their sum is the machine's energy."""

    source: str
    files: tuple[Path, ...]
    ranges_uj: tuple[int, ...]


@dataclass(frozen=True)
class PowerSensor:
    """Pairs of files whose product, divided by ``divisor``, is a power in µW; a single file is a power by itself."""

    source: str
    files: tuple[tuple[Path, ...], ...]
    divisor: int = 1


@dataclass(frozen=True)
class CallSensor:
    """A function that returns µJ which only grow, or None when it stopped answering."""

    source: str
    read: Callable[[], int | None]


Sensor: TypeAlias = "CounterSensor | PowerSensor | CallSensor"


@dataclass
class Reading:
    """What was recorded; ``energy_uj`` is None when the sensor stopped answering."""

    duration_ns: int = 0
    energy_uj: int | None = None
    _times: list[int] = field(default_factory=list)
    _values: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def power_uw(self) -> int | None:
        """Return the mean power; None where nothing was recorded."""
        if self.energy_uj is None or self.duration_ns == 0:
            return None
        return round(self.energy_uj * 1e9 / self.duration_ns)


def find_sensor(root: Path = _ROOT, gpus: Sequence[Gpu] = ()) -> tuple[Sensor | None, str]:
    """Return the best sensor of this machine and its name; or None and the reason why there is none.

    With ``gpus`` their own counters go before the others, for what runs on one; the rest of the machine is not in it.
    """
    if energy_of(gpus) is not None:
        source = "NVML: the GPU's energy counter, the GPU alone"
        if len(gpus) > 1:
            source = f"NVML: the energy counters of {len(gpus)} GPUs, the GPUs alone"
        return CallSensor(source, partial(energy_of, gpus)), source
    reasons = []
    for find in (_find_rapl, _find_ina3221, _find_battery):
        sensor, text = find(root)
        if sensor is not None:
            return sensor, text
        if text:
            reasons.append(text)
    return None, "; ".join(reasons) or "no sensor: neither RAPL, INA3221 nor a discharging battery was found"


def _find_rapl(root: Path) -> tuple[Sensor | None, str]:
    """RAPL through powercap (Linux, Documentation/power/powercap/powercap.rst): packages, and memory beside them."""
    files, ranges, names = [], [], []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = _text(zone / "name")
        if not (name.startswith("package") or name == "dram"):
            continue  # core and uncore are inside the package; psys overlaps it
        counter, most = zone / "energy_uj", _number(zone / "max_energy_range_uj")
        if _number(counter) is None or most is None:
            return None, f"RAPL is not readable: allow it with 'sudo chmod a+r {counter}'"
        files.append(counter)
        ranges.append(most)
        names.append(name)
    if not files:
        return None, ""
    source = "RAPL powercap: " + ", ".join(names)
    return CounterSensor(source, tuple(files), tuple(ranges)), source


def _find_ina3221(root: Path) -> tuple[Sensor | None, str]:
    """INA3221 through hwmon (Linux, Documentation/hwmon/ina3221.rst): in<n>_label, in<n>_input mV, curr<n>_input mA."""
    rails: dict[str, tuple[Path, Path]] = {}
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(monitor / "name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = _text(monitor / f"in{channel}_label")
            pair = (monitor / f"in{channel}_input", monitor / f"curr{channel}_input")
            if label and all(_number(path) is not None for path in pair):
                rails[label] = pair
    if not rails:
        return None, ""
    total = next((name for name in _INA3221_TOTAL if name in rails), None)
    if total:
        return PowerSensor(f"INA3221: {total}", (rails[total],)), f"INA3221: {total}"
    source = "INA3221: " + " + ".join(sorted(rails))  # no rail feeds the others: their sum
    return PowerSensor(source, tuple(rails[name] for name in sorted(rails))), source


def _find_battery(root: Path) -> tuple[Sensor | None, str]:
    """Power-supply class (Linux, Documentation/ABI/testing/sysfs-class-power): power_now µW, or µA times µV."""
    reason = ""
    for supply in sorted((root / "sys/class/power_supply").glob("*")):
        if _text(supply / "type") != "Battery" or _text(supply / "scope") == "Device":
            continue
        if _text(supply / "status") != "Discharging":
            reason = "the battery is not discharging: unplug the mains to measure with it"
            continue
        source = f"battery {supply.name}"
        if _number(supply / "power_now") is not None:
            return PowerSensor(source, ((supply / "power_now",),)), source
        pair = (supply / "current_now", supply / "voltage_now")
        if all(_number(path) is not None for path in pair):
            return PowerSensor(source, (pair,), divisor=1_000_000), source
    return None, reason


@contextmanager
def record(sensor: Sensor | None, clock: Callable[[], int] = time.perf_counter_ns) -> Iterator[Reading]:
    """Record energy while the block runs; the reading is complete when the block has ended."""
    reading = Reading()
    if sensor is None:
        yield reading
        return
    stop = threading.Event()
    every_s = _POWER_EVERY_S if isinstance(sensor, PowerSensor) else _COUNTER_EVERY_S

    def sample() -> None:
        while not stop.wait(every_s):
            _take(sensor, reading, clock)

    thread = threading.Thread(target=sample, name="energy", daemon=True)
    _take(sensor, reading, clock)
    thread.start()
    try:
        yield reading
    finally:
        stop.set()
        thread.join()
        _take(sensor, reading, clock)
        _complete(sensor, reading)


def rest(sensor: Sensor | None, seconds: float, sleep: Callable[[float], None] = time.sleep) -> Reading:
    """Record the energy of this machine at rest for some seconds; at once and empty without a sensor."""
    with record(sensor) as reading:
        if sensor is not None:
            sleep(seconds)
    return reading


def _take(sensor: Sensor, reading: Reading, clock: Callable[[], int]) -> None:
    if isinstance(sensor, CallSensor):
        if (counted := sensor.read()) is not None:
            reading._times.append(clock())
            reading._values.append((counted,))
        return
    groups = tuple((path,) for path in sensor.files) if isinstance(sensor, CounterSensor) else sensor.files
    values = []
    for group in groups:
        product = 1
        for path in group:
            number = _number(path)
            if number is None:
                return
            product *= number
        values.append(product)
    reading._times.append(clock())
    reading._values.append(tuple(values))


def _complete(sensor: Sensor, reading: Reading) -> None:
    times, values = reading._times, reading._values
    if len(times) < 2:
        return
    reading.duration_ns = times[-1] - times[0]
    if isinstance(sensor, CallSensor):
        reading.energy_uj = values[-1][0] - values[0][0]
    elif isinstance(sensor, CounterSensor):
        series = zip(*values, strict=True)
        reading.energy_uj = sum(counted_uj(s, most) for s, most in zip(series, sensor.ranges_uj, strict=True))
    else:
        reading.energy_uj = integrated_uj(times, [sum(v) / sensor.divisor for v in values])


def counted_uj(values: Sequence[int], most: int) -> int:
    """Return the energy between the first and the last reading of a counter that wraps to 0 after ``most`` µJ."""
    steps = (later - earlier for earlier, later in itertools.pairwise(values))
    return sum(step if step >= 0 else step + most + 1 for step in steps)


def integrated_uj(times_ns: Sequence[int], powers_uw: Sequence[float]) -> int:
    """Return the energy under readings of power by the trapezoidal rule; the error falls with the step squared."""
    total = 0.0
    for i in range(1, len(times_ns)):
        total += (times_ns[i] - times_ns[i - 1]) / 1e9 * (powers_uw[i] + powers_uw[i - 1]) / 2
    return round(total)


def per_inference_uj(work: Reading, idle: Reading, inferences: int) -> int | None:
    """Return the energy of one inference above that of the idle machine; None where either was not measured."""
    if work.energy_uj is None or idle.energy_uj is None or idle.duration_ns == 0 or inferences == 0:
        return None
    resting = idle.energy_uj * work.duration_ns / idle.duration_ns
    return round((work.energy_uj - resting) / inferences)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
