"""How large a device's folder is and how soon it answers: MobileNetV2 in int8 (part of ``make bench-tvm``).

The size is of all that a device gets: library, TVM's two runtime libraries, C++ runner, its source, licences. The time
is from starting the C++ runner on this host to its end, one answer written, each time in a new process, with the files
in the page cache. Wanted: library, runtime and runner in 10 MB, and 50 ms. Weights are random.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tvm_speed import child, circumstances

WANTED_BYTES, WANTED_MS = 10_000_000, 50.0
STARTS = 21
BOARDS = ("raspberry-pi-4-tvm", "raspberry-pi-5-tvm")
EXTRA = (".cpp", ".h", ".txt")  # what may be left out on a device: the runner's source, licences, notes


def main() -> int:
    """Print the figures; return 1 when a folder is larger than wanted. Times are printed, not judged: see the load."""
    facts = circumstances()
    print(f"{facts['host']}, {facts['cores']} cores, {facts['versions']}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-folder-") as scratch:
        found = child("prepare", "mobilenetv2", "int8", str(Path(scratch, "host")))
        folders = {"host-tvm": Path(found["tvm"])}
        for name in BOARDS:
            folders[name] = Path(scratch, name)
            compile_for(Path(found["path"]), name, folders[name])
        most = max([show_size(name, folder) for name, folder in folders.items()])
        show_start(folders["host-tvm"], Path(scratch))
    return int(most > WANTED_BYTES)


def compile_for(model: Path, name: str, out: Path) -> None:
    """Compile the quantized model for a board."""
    from edgepack.engines import get_backend
    from edgepack.engines.targets import load_target
    from edgepack.graph.load import load_model

    get_backend("tvm").compile_model(load_model(model), load_target(name), "int8", out)


def show_size(name: str, folder: Path) -> int:
    """Print the sizes of a folder's files; return that of what a device needs."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    needed = sum(size for file, size in sizes.items() if not file.endswith(EXTRA) or file == "interface.txt")
    parts = ", ".join(f"{file} {sizes[file] / 1e6:.2f}" for file in sizes if sizes[file] > 10_000)
    verdict = "at most 10 MB" if needed <= WANTED_BYTES else "MORE than 10 MB"
    print(
        f"{name}: library, runtime and runner {needed / 1e6:.2f} MB ({verdict}), whole folder "
        f"{sum(sizes.values()) / 1e6:.2f} MB ({parts})",
        flush=True,
    )
    return needed


def show_start(folder: Path, scratch: Path) -> None:
    """Print how long the runner takes from its start to its end."""
    np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32).tofile(scratch / "in.bin")
    (folder / "runner").chmod(0o755)
    for threads in (1, 2):
        words = [folder / "runner", folder, scratch / "in.bin", "--out", scratch / "answer", "--threads", threads]
        wall, cpu = [], []
        for _ in range(STARTS):
            before = cpu_s()
            begin = time.perf_counter()
            subprocess.run([str(word) for word in words], check=True)
            wall.append((time.perf_counter() - begin) * 1e3)
            cpu.append((cpu_s() - before) * 1e3)
        print(
            f"start to first answer, {threads} threads: {statistics.median(wall):.1f} ms (wanted {WANTED_MS:.0f}; "
            f"{min(wall):.1f}..{max(wall):.1f}, n={STARTS} processes), CPU {statistics.median(cpu):.1f} ms, "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    print(f"answers of {(scratch / 'answer0.bin').stat().st_size // 4} numbers")


def cpu_s() -> float:
    """Return the CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
