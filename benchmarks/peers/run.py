"""Quantizes the same models with edgepack and with other tools, and measures cost, accuracy and speed (``make peers``).

Every tool is a process of its own, in its own environment, on one CPU, and gets the same simplified model and samples.
This driver imports the standard library only: the kernel counts a parent's memory in the peak of its child. Figures go
to artifacts/peers.json, where rows of other models and tools are kept, and as a table to artifacts/peers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "artifacts" / "peers"
SEED = 0
ROUNDS = 16
BLOCK_MS = 25
MODELS = (
    "resnet20", "keywords", "lite0", "fastestdet", "minilm", "picodet", "yunet", "rfb", "yolox", "yolov8n",
    "ppocr-lines", "ppocr-text", "ppocr4-text", "ppocr4-read", "ppocr6-read", "orientation", "layout", "mtcnn-r",
    "mtcnn-o", "basic-pitch",
)  # fmt: skip
TRANSFORMERS = ("minilm",)
LIMIT_S = 900
ENGINE_LIMIT_S = 300
# A tool that needs more memory is ended by itself, not by the kernel together with its neighbours.
LIMIT_BYTES = 6_000_000_000
# Hides VNNI, AVX-512 and AMX from an engine, so that it runs the kernels of a CPU with AVX2 alone (without_vnni.c).
HIDING = WORK / "without_vnni.so"


@dataclass(frozen=True)
class Way:
    """One way of quantizing with a tool: a label, the suffix of what it writes, the options of tools/with_TOOL.py."""

    label: str
    options: dict[str, Any]
    suffix: str = ".onnx"


@dataclass(frozen=True)
class Engine:
    """What runs the models. ``reads``: suffixes; ``hidden``: without VNNI, though this host has it."""

    name: str
    title: str
    reads: tuple[str, ...] = (".onnx",)
    hidden: bool = False


ENGINES = {
    "onnxruntime-avx2": Engine("onnxruntime", "ONNX Runtime, AVX2 (VNNI hidden: saturates)", hidden=True),
    "openvino-avx2": Engine("openvino", "OpenVINO, AVX2 (VNNI hidden: saturates)", (".onnx", ".xml"), hidden=True),
    "onnxruntime": Engine("onnxruntime", "ONNX Runtime, this host as it is"),
    "openvino": Engine("openvino", "OpenVINO, this host as it is", (".onnx", ".xml")),
}


def edgepack_ways() -> tuple[Way, ...]:
    """Return edgepack's ways: each engine's rules, with and without VNNI, plain and with corrections where they are."""
    return tuple(
        Way(
            f"{method}, {engine} rules{', saturation-safe' if safe else ''}",
            {"method": method, "engine": engine, "saturates": safe},
        )
        for method in ("plain", "auto")
        for engine in ("onnxruntime", "openvino")
        for safe in (False, True)
    )


TOOLS: dict[str, tuple[Way, ...]] = {
    "edgepack": (
        *edgepack_ways(),
        *(
            Way(
                f"plain, onnxruntime rules, saturation-safe, {observer}",
                {"method": "plain", "engine": "onnxruntime", "saturates": True, "observer": observer},
            )
            for observer in ("minmax", "entropy", "mse")
        ),
    ),
    "onnxruntime": tuple(
        Way(f"{method}{', reduce_range' if reduced else ''}", {"method": name, "reduce_range": reduced})
        for method, name in (("minmax", "MinMax"), ("entropy", "Entropy"), ("percentile", "Percentile"))
        for reduced in (False, True)
    ),
    "nncf": tuple(
        Way(f"{title}, mixed{', overflow_fix' if fix == 'ENABLE' else ''}", {"overflow_fix": fix}, suffix)
        for title, suffix in (("ONNX", ".onnx"), ("OpenVINO", ".xml"))
        for fix in ("DISABLE", "ENABLE")
    ),
    "modelopt": tuple(Way(method, {"method": method}) for method in ("entropy", "max")),
}
PACKAGES = {
    "edgepack": ("edgepack", "onnxruntime", "openvino"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "nncf": ("nncf", "onnx", "openvino"),
    "modelopt": ("nvidia-modelopt", "onnx", "onnxruntime-gpu"),
}


def main() -> int:
    """Measure the models and tools asked for; all of them by default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--ways", default="", help="only those labelled so, or whose label holds one, parted by '|'")
    parser.add_argument("--engines", default=",".join(ENGINES))
    words = parser.parse_args()
    engines = chosen(words.engines, tuple(ENGINES))
    tools = chosen(words.tools, tuple(TOOLS))
    ways = [(tool, way) for tool in tools for way in TOOLS[tool] if is_asked(way.label, words.ways)]
    versions = {tool: versions_of(tool) for tool in tools}
    facts = host()
    build_hiding()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # every child's too: one CPU, one thread for each tool
    for name in chosen(words.models, MODELS):
        try:
            rows = measure_model(name, ways, engines)
        except SystemExit as error:  # a package that carries the network is not there
            say(f"{name} left out: {str(error).strip().splitlines()[-1][:200]}")
            continue
        keep(name, rows, versions, facts)
        subprocess.run([sys.executable, str(HERE / "table.py")], check=True)
    print((ROOT / "artifacts" / "peers.md").read_text())
    return 0


def chosen(text: str, known: tuple[str, ...]) -> list[str]:
    """Return the names in ``text``, parted by commas or blanks, or end with what there is."""
    names = text.replace(",", " ").split()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def is_asked(label: str, words: str) -> bool:
    """Say whether a way is one of ``words``, which are parted by '|': a whole label means this one alone."""
    labels = {way.label for ways in TOOLS.values() for way in ways}
    return not words or any(label == part or (part not in labels and part in label) for part in words.split("|"))


def python_of(tool: str) -> Path:
    """Return the Python of a tool's environment."""
    own = ROOT / f".venv-peers-{tool}" / "bin" / "python"
    return own if (HERE / f"{tool}.txt").is_file() else ROOT / ".venv" / "bin" / "python"


def versions_of(tool: str) -> dict[str, str]:
    """Return the versions of a tool's packages, and of edgepack the commit."""
    code = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep='\\n')"
    command = [str(python_of(tool)), "-c", code, *PACKAGES[tool]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    versions = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    if tool == "edgepack":
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        versions["commit"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return versions


# --- one model --------------------------------------------------------------------------------------------------------


def measure_model(name: str, ways: list[tuple[str, Way]], engines: list[str]) -> list[dict[str, Any]]:
    """Return one row for each way; the first is fp32."""
    folder = WORK / name
    samples = helper("set_up", name, str(folder))
    rows: list[dict[str, Any]] = [{"tool": "fp32", "way": "", "samples": samples, "file": "model.onnx", "engines": {}}]
    order = list(enumerate(ways))
    random.Random(SEED).shuffle(order)
    made = {}
    for done, (place, (tool, way)) in enumerate(order):
        say(f"{name}: {tool}, {way.label} ({done + 1} of {len(order)})")
        made[place] = quantize(folder, tool, way) | {"samples": samples, "engines": {}}
    rows += [made[place] for place in sorted(made)]
    for key, engine in ENGINES.items():
        if key in engines:
            measure_engine(name, folder, key, engine, [r for r in rows if r["file"]])
    return rows


def quantize(folder: Path, tool: str, way: Way) -> dict[str, Any]:
    """Run a tool; return its file or why there is none, CPU seconds and peak memory of the whole process."""
    place = folder / f"{tool}-{way.label.replace(', ', '-').replace(' ', '-')}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    out = place / f"quantized{way.suffix}"
    script = HERE / "tools" / f"with_{tool}.py"
    options = way.options | {"transformer": folder.name in TRANSFORMERS}
    words = [str(folder / "model.onnx"), str(folder / "calibration.npz"), str(out), json.dumps(options)]
    row = {"tool": tool, "way": way.label, "file": None, "reason": None, "cpu_s": None, "peak_bytes": None}
    if not python_of(tool).exists():
        return row | {"reason": f"its environment .venv-peers-{tool} is not installed"}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            ["timeout", str(LIMIT_S), "prlimit", f"--data={LIMIT_BYTES}", str(python_of(tool)), str(script), *words],
            stdout=log, stderr=subprocess.STDOUT, cwd=place,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not out.is_file():
        lines = [line.strip() for line in (place / "log").read_text().splitlines() if line.strip()]
        return row | {"reason": f"exit {process.returncode}: {lines[-1][:160] if lines else 'no message'}"}
    cost = {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}
    return row | cost | {"file": str(out.relative_to(folder)), "size_bytes": out.stat().st_size}


# --- engines ----------------------------------------------------------------------------------------------------------


def measure_engine(name: str, folder: Path, key: str, engine: Engine, rows: list[dict[str, Any]]) -> None:
    """Add what one engine makes of every file to its row."""
    rows = [row for row in rows if Path(row["file"]).suffix in engine.reads]
    if engine.hidden and not HIDING.is_file():
        for row in rows:
            row["engines"][key] = {"reason": "without_vnni.c could not be compiled: no C compiler"}
        return
    evaluation = folder / "evaluation.npz"
    for row in rows:
        say(f"{name}: {key}, {row['tool']} {row['way']}")
        out = folder / f"outputs-{key}-{row['tool']}.npy" if row["tool"] == "fp32" else outputs_of(folder, row, key)
        words = ["outputs", engine.name, str(folder / row["file"]), str(evaluation), str(out)]
        done = subprocess.run(
            ["timeout", str(ENGINE_LIMIT_S), *worker(*words)],
            capture_output=True, text=True, check=False, env=around(engine),
        )  # fmt: skip
        if done.returncode == 124:
            row["engines"][key] = {"reason": f"not done after {ENGINE_LIMIT_S} s"}
            continue
        if done.returncode:
            row["engines"][key] = {"reason": (done.stderr.strip().splitlines() or ["no message"])[-1][:160]}
            continue
        reference = folder / f"outputs-{key}-fp32.npy"
        row["engines"][key] = helper("compare", name, str(reference), str(out), str(evaluation))
    add_times(folder, key, engine, [row for row in rows if "reason" not in row["engines"][key]])


def outputs_of(folder: Path, row: dict[str, Any], key: str) -> Path:
    """Return where a row's outputs are written."""
    return folder / Path(row["file"]).parent / f"outputs-{key}.npy"


def worker(*words: str) -> list[str]:
    """Return the command of a process of measure.py."""
    return [str(ROOT / ".venv" / "bin" / "python"), str(HERE / "measure.py"), *words]


def around(engine: Engine) -> dict[str, str]:
    """Return the environment of an engine."""
    return {**os.environ, **({"LD_PRELOAD": str(HIDING)} if engine.hidden else {})}


def build_hiding() -> None:
    """Compile what hides VNNI; without a C compiler it is not there, and rows say so."""
    WORK.mkdir(parents=True, exist_ok=True)
    HIDING.unlink(missing_ok=True)
    if (compiler := shutil.which("cc")) is not None:
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(HIDING), str(HERE / "without_vnni.c")]
        subprocess.run(command, check=True)


def add_times(folder: Path, key: str, engine: Engine, rows: list[dict[str, Any]]) -> None:
    """Add CPU milliseconds an inference, and how many times faster than fp32: all files in turn, round after round."""
    samples = str(folder / "evaluation.npz")
    servers = []
    for row in rows:
        command = worker("serve", engine.name, str(folder / row["file"]), samples)
        servers.append(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=around(engine),
            )
        )  # fmt: skip
    try:
        for server in servers:
            server.stdout.readline()
        calls = max(2, min(200, round(BLOCK_MS * 1e6 / block(servers[0], 5))))
        times: list[list[float]] = [[] for _ in rows]
        order, shuffler = list(range(len(rows))), random.Random(SEED)
        for _ in range(ROUNDS):
            shuffler.shuffle(order)
            for i in order:
                times[i].append(block(servers[i], calls))
    finally:
        for server in servers:
            server.stdin.close()
            server.wait()
            server.stdout.close()
    for row, found in zip(rows, times, strict=True):
        ratios = sorted(a / b for a, b in zip(times[0], found, strict=True))
        row["engines"][key] |= {
            "cpu_ms": statistics.median(found) / 1e6,
            "speedup": statistics.median(ratios),
            "speedup_quartiles": [ratios[len(ratios) // 4], ratios[-len(ratios) // 4 - 1]],
        }


def block(server: Any, calls: int) -> float:
    """Let a server run a block of inferences; return CPU ns for each."""
    server.stdin.write(f"{calls}\n")
    server.stdin.flush()
    return float(server.stdout.readline())


# --- helpers ----------------------------------------------------------------------------------------------------------


def helper(name: str, *words: str) -> Any:
    """Run a step that needs numpy, and return what it prints."""
    command = [str(ROOT / ".venv" / "bin" / "python"), str(HERE / "steps.py"), name, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def say(text: str) -> None:
    """Show progress."""
    print(f"... {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def keep(name: str, rows: list[dict[str, Any]], versions: dict[str, dict[str, str]], facts: dict[str, Any]) -> None:
    """Put a model's rows into artifacts/peers.json, in place of the same rows of an earlier run."""
    path = ROOT / "artifacts" / "peers.json"
    old = json.loads(path.read_text())["rows"] if path.is_file() else []
    circumstances = {"model": name, "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    new = [row | circumstances | {"versions": versions.get(row["tool"], {})} for row in rows]
    replaced = {(row["model"], row["tool"], row["way"]) for row in new}
    ways = [("fp32", ""), *((tool, way.label) for tool in TOOLS for way in TOOLS[tool])]
    kept = [row for row in old if (row["model"], row["tool"], row["way"]) not in replaced]
    together = [row for row in kept + new if (row["tool"], row["way"]) in ways]  # a way of old is dropped
    together.sort(key=lambda row: (MODELS.index(row["model"]), ways.index((row["tool"], row["way"]))))
    engines = {key: engine.title for key, engine in ENGINES.items()}
    text = json.dumps({"host": facts, "engines": engines, "rows": together}, indent=1)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def host() -> dict[str, Any]:
    """Return facts of this host."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = found.get("flags", "").split()
    return {
        "cpu": found.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "isa": [f for f in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if f in flags],
        "kernel": platform.release(),
    }


if __name__ == "__main__":
    sys.exit(main())
