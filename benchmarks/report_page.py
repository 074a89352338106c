"""How long a page of 500 made-up results of 40 devices takes to make, to open and to filter (``make bench-report``).

The page is opened and filtered in a real headless Chromium. Wall time is what a reader waits, from the request to the
first frame after it, and depends on what else the machine does; CPU time is that of the page's own thread. Both are
printed with n, and written to artifacts/bench-report.json; a median beyond a second ends the program with 1.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import made_up  # noqa: E402
from browser import Browser, find_chromium  # noqa: E402

from edgepack.device.host import host_facts  # noqa: E402
from edgepack.report.html.page import write_report  # noqa: E402

OPENINGS, FILTERS = 15, 30
BOUND_S = 1.0
# Types into a field and waits for the frame that shows what it changed.
FILTER = """new Promise((done) => {
  const input = document.querySelector("input[name=NAME]"), began = performance.now();
  input.value = "VALUE";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""
READY = """new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"""


def main() -> int:
    """Measure, print, and write the figures."""
    if find_chromium() is None:
        print("no Chromium is installed: apt-get install chromium", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as folder:
        page = Path(folder) / "report.html"
        results, rows = made_up.many()
        began = time.process_time()
        write_report(results, rows, page)
        making = time.process_time() - began
        size = page.stat().st_size
        browser = Browser(Path(folder) / "profile")
        try:
            found, version = measure(browser, page), browser.call("Browser.getVersion")["product"]
        finally:
            browser.close()
    host = host_facts()
    targets = len({r.target for r in results})
    print(f"{host.cpu}, {host.cores} cores, load average {os.getloadavg()[0]:.1f}; {version}, headless")
    print(f"{len(results)} made-up results of {targets} devices: {size / 1e6:.2f} MB, {making:.2f} s of CPU to make")
    ok = True
    for what, values in found.items():
        median = statistics.median(values)
        ok = ok and median < BOUND_S
        mark = "" if median < BOUND_S else "   BEYOND ITS BOUND"
        print(f"{what:<14} median {median:6.3f} s   largest {max(values):6.3f} s   n={len(values)}{mark}")
    path = ROOT / "artifacts" / "bench-report.json"
    path.parent.mkdir(exist_ok=True)
    values = {"host": host.cpu, "browser": version, "results": len(results), "bytes": size, "making_cpu_s": making}
    path.write_text(json.dumps({**values, "seconds": found}, indent=1))
    return 0 if ok else 1


def measure(browser: Browser, page: Path) -> dict[str, list[float]]:
    """Return the seconds of each opening and of each filtering."""
    found: dict[str, list[float]] = {name: [] for name in ("open, wall", "open, CPU", "filter, wall", "filter, CPU")}
    browser.call("Performance.enable", timeDomain="threadTicks")
    for _ in range(OPENINGS):
        browser.open(page)
        found["open, wall"].append(browser.run(READY) / 1000)
        found["open, CPU"].append(busy(browser))
    for i in range(FILTERS):
        name, value = ("quality", f"{0.1 + 0.03 * i:.2f}") if i % 2 else ("find", f"device-{i:02}"[: 8 + i % 3])
        before = busy(browser)
        wall_ms = browser.run(FILTER.replace("NAME", name).replace("VALUE", value))
        found["filter, wall"].append(wall_ms / 1000)
        found["filter, CPU"].append(busy(browser) - before)
    return found


def busy(browser: Browser) -> float:
    """Return the CPU seconds that the page's main thread has worked since it was opened."""
    metrics = {m["name"]: m["value"] for m in browser.call("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


if __name__ == "__main__":
    sys.exit(main())
