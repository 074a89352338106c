"""What ``benchmark`` and ``report`` do with files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from edgepack.specs import Progress, Result, RunOptions, Scenario

_STARTUP_S = 600.0


def measure(
    bundles: tuple[Path, ...], scenario: Scenario, options: RunOptions, progress: Progress
) -> tuple[Result, ...]:
    """Return one result a bundle, each measured alone in a fresh process."""
    from edgepack import children
    from edgepack.benchmark import benchmark

    results = []
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        for bundle in bundles:
            limit_s = _STARTUP_S + 3 * (scenario.duration_ns + scenario.warmup_ns) / 1e9
            log = Path(folder) / "benchmark.log"
            results.append(
                children.call(benchmark, bundle, scenario, options, limit_s=limit_s, log=log, progress=progress)
            )
    return tuple(results)


def write_results(results: tuple[Result, ...], out: Path) -> None:
    """Write one result to the file ``out``, or several into the folder ``out``."""
    from edgepack.documents import to_json
    from edgepack.files import write_text

    if len(results) == 1 and not out.is_dir():
        write_text(out, to_json(results[0]))
        return
    if out.is_file():
        raise ConfigError(f"{out} is a file, and there are {len(results)} results", hint="name a folder")
    for result in results:
        write_text(out / f"{result.bundle_name}-{result.target}-{result.precision}.json", to_json(result))


def write_page(sources: tuple[Path, ...], out: Path) -> None:
    """Write the report of all results and builds found in ``sources``; its ending says the format."""
    from edgepack.files import write_text
    from edgepack.report.csv import to_csv
    from edgepack.report.markdown import to_markdown
    from edgepack.report.page import write_report
    from edgepack.report.reading import read_results

    if out.suffix not in (".html", ".md", ".csv"):
        raise ConfigError(f"{out}: a report is .html, .md or .csv", hint="name the file with one of these endings")
    results, rows = read_results(sources)
    if out.suffix == ".html":
        write_report(results, rows, out)
    else:
        write_text(out, to_markdown(results, rows) if out.suffix == ".md" else to_csv(results, rows))
