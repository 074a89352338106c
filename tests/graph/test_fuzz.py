"""Damaged ONNX files end as a ModelError or as a model; a crash of onnx's own code is counted, and must be rare.

Commands load models in a child process, where a crash is reported as an error (edgepack.execution.child).
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parents[1] / "helpers"


def run(kind: str, count: int, folder: Path) -> Counter[str]:
    """Return how many of ``count`` damaged models ended how."""
    results: Counter[str] = Counter()
    bugs, start = [], 0
    while start < count:
        command = [sys.executable, str(HERE / "fuzz_worker.py"), kind, str(start), str(count), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        lines = [line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ", 1)[0].isdigit()]
        for _, status in lines:
            results[status.split(":")[0]] += 1
            if status.startswith("bug"):
                bugs.append(status)
        assert lines, done.stderr[-2000:]
        start = int(lines[-1][0]) + 1
        if lines[-1][1] == "started":
            results["crashed"] += 1
            print(f"{kind} {lines[-1][0]} crashed with {done.returncode}: {done.stderr[-300:]}")
    assert not bugs, bugs[:5]
    print(kind, dict(results))
    assert results["error"] + results["loaded"] + results["crashed"] == count
    return results


@pytest.mark.parametrize(("kind", "count"), [("bytes", 500), ("structure", 500), ("prepare", 100)])
def test_damaged_models(kind: str, count: int, tmp_path: Path) -> None:
    results = run(kind, count, tmp_path)
    assert results["crashed"] <= count // 50, results
    assert results["error"] > count // 10, results
