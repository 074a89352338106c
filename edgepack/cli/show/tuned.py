"""Output of ``edgepack tune --target``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import safe
from edgepack.cli.show.tables import make_table

if TYPE_CHECKING:
    from edgepack.specs.kernels import KernelRecords, KernelTuning, TunedKernel

_MOST_ROWS = 15


def show_kernel_tuning(console: Console, tuning: KernelTuning) -> None:
    """Print the slowest kernels, what was known and found, and the effect on the whole model."""
    found = tuning.search
    ordered = sorted(found.kernels, key=lambda k: -k.default_ns * k.count)
    unit, factor = show.unit_for([kernel.default_ns for kernel in ordered[:_MOST_ROWS] if kernel.measured], show.TIMES)
    right = ("calls", "default", "tuned", "ratio")
    table = make_table("kernel", *right, "state", right=right, units={"default": unit, "tuned": unit}, cut=("kernel",))
    for kernel in ordered[:_MOST_ROWS]:
        table.add_row(*map(safe, _row(kernel, factor)))
    console.print(table)
    if len(ordered) > _MOST_ROWS:
        console.print(f"[dim]and {len(ordered) - _MOST_ROWS} cheaper kernels[/]")
    saved = f"; records saved {found.saved_ns / 1e9:.0f} s of measuring" if found.saved_ns else ""
    console.print(
        f"{found.count('known')} kernels known from records, {found.count('transferred')} similar to a known one, "
        f"{found.count('new')} new{saved}"
    )
    proposed = [k for k in found.kernels if k.transfer_ratio is not None]
    if proposed:
        slower = sum((k.transfer_ratio or 1.0) >= 1 for k in proposed)
        console.print(f"taken from similar kernels: {len(proposed)} measured, {slower} not faster than the default")
    if found.tuned_ns:
        where = f"{found.cpu}, {tuning.threads} thread{'s' if tuning.threads > 1 else ''}"
        console.print(
            f"sum of the measured kernels: {show.time_ns(found.default_ns)} by default, {show.time_ns(found.tuned_ns)} "
            f"tuned ({where})"
        )
    if (whole := tuning.whole) is not None:
        console.print(
            f"the whole model takes [bold]{whole.ratio:.3f}[/] times as long as by default ({whole.low:.3f}.."
            f"{whole.high:.3f}, {whole.turns} pairs of processes): {show.time_ns(whole.default_ns)} -> "
            f"{show.time_ns(whole.tuned_ns)}"
        )
    for failure in found.failures:
        console.print(f"[yellow]not measured[/]: {safe(failure)}")
    if not found.complete:
        console.print("out of time before everything was tried; run it again to continue")
    console.print(f"saved to {safe(found.records)}; the next build for {safe(tuning.target)} uses it")


def _row(kernel: TunedKernel, factor: float) -> tuple[object, ...]:
    words = kernel.kernel
    if not kernel.measured:
        return words, kernel.count, "-", "-", "-", f"{kernel.state}, not measured"
    now = kernel.default_ns * kernel.ratio
    ratio = f"{kernel.ratio:.3f}" if kernel.ratio != 1 else "default"
    return words, kernel.count, show.digits(kernel.default_ns / factor), show.digits(now / factor), ratio, kernel.state


def show_kernel_records(console: Console, records: KernelRecords, merge: Path | None, export: Path | None) -> None:
    """Print a summary of a target's tuning records."""
    if merge is not None:
        console.print(f"merged {records.merged} records from {safe(merge)}")
    console.print(
        f"{safe(records.target)}: {records.kernels} kernels measured, {records.faster} faster than the default, "
        f"in {safe(records.path)}"
    )
    if records.cut:
        console.print("[yellow]![/] its last line is truncated and was ignored")
    if export is not None:
        console.print(f"wrote {safe(export)}")
