"""Results as tables on the terminal."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.cli.show import format as show
from edgepack.cli.show.console import Console
from edgepack.cli.show.layout import Table, safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.data.suggest import Suggestion
    from edgepack.execution.prune import StageSize
    from edgepack.pipeline.check import CheckReport
    from edgepack.specs.data import Recipe
    from edgepack.specs.model import Diagnostic
    from edgepack.specs.target import Host, Target

_AS_ABOVE = "as above"
_WRAP = (
    "options",
    "value",
    "reason",
    "source",
    "title",
    "values",
    "capabilities, or how to install",
)


def make_table(
    *columns: str,
    right: tuple[str, ...] = (),
    units: Mapping[str, str] | None = None,
    cut: tuple[str, ...] = (),
    spare: tuple[str, ...] = (),
    scarce: tuple[str, ...] = (),
) -> Table:
    """Return an empty table; the columns in ``right`` hold figures. The others are as in ``Table``."""
    wrapped = tuple(column for column in columns if column in _WRAP)
    return Table(columns, right, wrapped, units=units or {}, cut=cut, spare=spare, scarce=scarce)


def show_targets(console: Console, targets: tuple[Target, ...]) -> None:
    """Print one line per profile."""
    columns = ("target", "engine", "arch", "precisions", "device")
    table = make_table(*columns, cut=("device",), spare=("arch", "engine"), scarce=("device",))
    for target in targets:
        engine = target.backend if target.engine.device == "CPU" else f"{target.backend} {target.engine.device}"
        row = (target.id, engine, target.arch, " ".join(target.compute.precisions), target.title)
        table.add_row(*map(safe, row))
    console.print(table)


def show_target(console: Console, target: Target) -> None:
    """Print every value of a profile with its source."""
    _show_facts(console, target, target.sources)


def show_recipe(console: Console, recipe: Recipe) -> None:
    """Print every value of a recipe with its source."""
    _show_facts(console, recipe, recipe.sources)


def show_store(console: Console, stages: tuple[StageSize, ...]) -> None:
    """Print how much is stored of each stage, and the sum."""
    unit, sizes = show.column([stage.size_bytes for stage in stages], show.SIZES)
    figures = ("entries", "size")
    table = make_table("stage", *figures, "last used", right=figures, units={"size": unit})
    for stage, size in zip(stages, sizes, strict=True):
        table.add_row(safe(stage.stage), str(stage.entries), size, f"{datetime.fromtimestamp(stage.used_s):%Y-%m-%d}")
    console.print(table)
    whole = sum(stage.size_bytes for stage in stages)
    console.print(f"{show.stored(sum(stage.entries for stage in stages))}, {show.size(whole)}")


def _show_facts(console: Console, document: Any, sources: Mapping[str, str]) -> None:
    from edgepack.base.documents import encode

    table = make_table("key", "value", "source")
    data = encode(document)
    above = ""
    for key, value in data.items():
        if key == "sources":
            continue
        facts = {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        for name, fact in facts.items():
            if fact not in (None, [], {}):
                source = sources.get(name) or sources.get(name.partition(".")[0], "")
                # One source of a whole part stands once: in a narrow terminal it has many lines.
                told = _AS_ABOVE if source and source == above else source
                table.add_row(*map(safe, (name, _plain(fact), told)))
                above = source
    console.print(table)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def show_recipes(console: Console, recipes: tuple[Recipe, ...]) -> None:
    """Print one line per recipe."""
    table = make_table("recipe", "samples", "observer", "title", right=("samples",), cut=("title",))
    for recipe in recipes:
        table.add_row(*map(safe, (recipe.name, recipe.samples, recipe.observer, recipe.title)))
    console.print(table)


def show_suggestions(
    console: Console, found: tuple[Suggestion, ...], model: str = "MODEL", out: Path | None = None
) -> None:
    """Print suggested recipes, the surest first, with what of them must be changed, and what to do next."""
    if not found:
        console.print("no recipe is suggested: none fits this model's inputs and outputs")
        console.remark(
            "give arrays (--data FILE.npz or FILE.py:FUNCTION), or copy the nearest of 'edgepack recipes' with "
            "'edgepack recipes new own.toml --from NAME'"
        )
        return
    table = make_table("recipe", "sure", "reason", "change")
    for one in found:
        table.add_row(*map(safe, (one.recipe, one.sure, one.why, one.change or "-")))
    console.print(table)
    if found[0].proposed is not None:
        height, width = found[0].proposed
        console.print(
            f"its height and width are free: {height}x{width} is used; choose another with --size HEIGHTxWIDTH"
        )
    for words, text in zip(("labels say", "hint"), found[0].labels_say, strict=False):
        console.print(f"{words}: {safe(text)}")
    if out is not None:
        console.print(f"wrote {safe(out)}")
    if out is None and found[0].change:
        another = "; for another than the first: --recipe NAME" if len(found) > 1 else ""
        console.remark(f"write it with these changes: add -o my.toml{another}")
        return
    recipe = str(out or found[0].recipe)
    console.remark("next:")
    console.command("edgepack", "build", model, "--data", "DATA", "--recipe", recipe, "--precision", "fp32,int8")


def show_doctor(console: Console, host: Host, reports: tuple[Any, ...]) -> None:
    """Print the host's facts and one line per engine."""
    console.print(f"[bold]{safe(host.cpu)}[/], {host.cores} cores, {show.size(host.memory_bytes)}, {safe(host.arch)}")
    console.print(f"[dim]{safe(' '.join(host.isa))}[/]")
    table = make_table("engine", "version", "capabilities, or how to install")
    for report in reports:
        table.add_row(safe(report.name), safe(report.version or "-"), safe(report.summary))
    console.print(table)


def show_diagnostics(console: Console, found: tuple[Diagnostic, ...]) -> None:
    """Print what disturbs measurements here, worst first, with hints."""
    _print_diagnostics(console, found)
    if not found:
        console.print("nothing found that disturbs measurements")


def show_check(console: Console, report: CheckReport) -> None:
    """Print what a target refuses in a model, and what the proxy reported."""
    _print_diagnostics(console, report.diagnostics)
    if report.proxy is not None:
        _print_diagnostics(console, report.proxy.diagnostics)
        console.print(safe(report.proxy.summary))
    verdict = "[green]no problem found[/] for" if report.passed else "[red]will be refused[/] by"
    console.print(f"{safe(report.model)}: {verdict} {safe(report.target)}")


def _print_diagnostics(console: Console, found: tuple[Diagnostic, ...]) -> None:
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    for severity, colour in colours.items():
        for item in (d for d in found if d.severity == severity):
            where = f" (node {safe(item.node)})" if item.node else ""
            console.print(f"[{colour}]{severity}[/]: {safe(item.message)}{where}")
            if item.hint:
                console.print(f"  [dim]hint: {safe(item.hint)}[/]")
