"""Writes what is generated in the documentation, as a hook of MkDocs: commands, the Python API, the table of targets.

A page says where it goes by a comment, such as ``<!-- generated: commands -->``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import click

import edgepack
from edgepack.cli.main import _SECTIONS, cli
from edgepack.engines import ENGINES
from edgepack.pipeline.settings import BuildSettings
from edgepack.quantize.differences import CAUSES, Side, alike
from edgepack.quantize.operator_table import engines, int8_table, rules_of
from edgepack.quantize.rules import check_rules

TARGETS = Path(__file__).resolve().parent.parent / "targets"

# What ``import edgepack`` promises.
PROMISED = tuple(edgepack._PUBLIC)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with its generated part; MkDocs calls this for every page."""
    return generate(markdown)


def generate(markdown: str) -> str:
    """Return ``markdown`` with its comments replaced by what they ask for."""
    made = {"commands": commands, "api": api, "targets": targets}
    return re.sub(r"^<!-- generated: (\w+) -->$", lambda match: made[match[1]](), markdown, flags=re.MULTILINE)


def api() -> str:
    """Return a directive of mkdocstrings for each promised name, by where it is defined."""
    values = {name: getattr(edgepack, name) for name in PROMISED}
    places = {name: f"{value.__module__}.{value.__qualname__}" for name, value in values.items()}
    return "\n\n".join(
        f"::: {place}\n    options:\n      heading: {name}\n      toc_label: {name}" for name, place in places.items()
    )


def targets() -> str:
    """Return a table of the profiles in ``targets/``."""
    lines = ["| id | device | engine | processor |", "|---|---|---|---|"]
    for path in sorted(TARGETS.glob("*.toml")):
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        device = facts.get("engine", {}).get("device", "CPU")
        engine = facts["backend"] + (f" {device}" if device != "CPU" else "")
        lines.append(f"| `{facts['id']}` | {facts['title']} | {engine} | {facts['arch']} |")
    return "\n".join(lines)


# Keys whose option has another name, and those that are an argument.
_OPTION_OF = {"eval": "eval_data", "benchmark": "no_benchmark"}
# Keys of which an option says something else: it is an argument, it says the opposite, or it takes units.
_TEXTS = {
    "model": "The trained model: what 'edgepack build' takes as MODEL.",
    "benchmark": "Measure latencies on this machine.",
    "metric": "What is measured of the models: the name of a metric, or module:function(outputs, labels).",
    "max_drop": "Largest allowed drop of the metric against fp32: 0.01 is one percentage point.",
    "max_change": "Largest allowed share of fp32's answers (classes, boxes, pixels) that change: 0.02 is 2 %.",
}


def settings() -> str:
    """Return the table of docs/settings.md: the fields of the dataclass, with the help of their options.

    It stands in the page itself, which people read without MkDocs too; a test compares.
    """
    command = cli.get_command(click.Context(cli, info_name="edgepack"), "build")
    assert command is not None
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    lines = ["| key | value | default | option | what it does |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(BuildSettings):
        option = options.get(_OPTION_OF.get(field.name, field.name))
        flag = f"`{max(option.opts, key=len)}`" if option is not None else "MODEL"
        text = " ".join(((option.help if option is not None else "") or "").split())
        said = re.search(r"\[default: (.*)\]$", text)
        default = _default(field, said[1] if said else "none")
        text = _TEXTS.get(field.name) or re.sub(r"\s*(Repeatable.*)?(\[default: .*\])?$", "", text)
        cells = (f"`{field.name}`", _value(field), default, flag, text)
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _value(field: dataclasses.Field[Any]) -> str:
    """Return what a key takes, in TOML's words."""
    hint = typing.get_type_hints(BuildSettings)[field.name]
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    parts = [part for part in (typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)) if part]
    found = []
    for part in (part for part in parts if part is not type(None)):
        origin, inner = typing.get_origin(part), typing.get_args(part)
        if origin is tuple:
            found.append("array of strings")
        elif origin is typing.Literal:
            found.append(", ".join(f"`{value}`" for value in inner))
        else:
            found.append(names.get(part, "table of strings"))
    return " or ".join(found)


def _default(field: dataclasses.Field[Any], said: str) -> str:
    if field.default is dataclasses.MISSING:
        return "`{}`" if field.default_factory is not dataclasses.MISSING else "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return said if value is None else f"`{json.dumps(value)}`"


def commands() -> str:
    """Return every command with its arguments and options, in the sections of ``edgepack --help``."""
    parts = []
    context = click.Context(cli, info_name="edgepack")
    for title, entries in _SECTIONS.items():
        parts.append(f"## {title}")
        for name in (entry.partition(".")[2] for entry in entries):
            command = cli.get_command(context, name)
            assert command is not None, f"the table of commands names {name}"
            parts += _command(command, context, name, level=3)
    return "\n\n".join(parts)


def _command(command: click.Command, parent: click.Context, name: str, level: int) -> list[str]:
    context = click.Context(command, parent=parent, info_name=name)
    usage = command.collect_usage_pieces(context)
    parts = [
        f"{'#' * level} {context.command_path}",
        f"```text\n{' '.join([context.command_path, *usage])}\n```",
        inspect.cleandoc(command.help or "").replace("\b\n", ""),
        "\n\n".join(_options(command, context)),
    ]
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            parts += _command(command.commands[below], context, below, level + 1)
    return parts


def _options(command: click.Command, context: click.Context) -> list[str]:
    shown = [p for p in command.get_params(context) if isinstance(p, click.Option) and "--help" not in p.opts]
    records = filter(None, (option.get_help_record(context) for option in shown))
    return [f"`{names}`\n:   {text}" if text else f"`{names}`" for names, text in records]


def int8() -> str:
    """Return the table of docs/quantization.md: what each engine's rules make of an operator; a test compares."""
    names = engines()
    lines = [f"| operator | {' | '.join(ENGINES.get(name).title for name in names)} |", "|---" * (len(names) + 1) + "|"]
    rows = (f"| {title} | {' | '.join(of[name] for name in names)} |" for title, of in int8_table().items())
    return "\n".join([*lines, *rows])


def causes() -> str:
    """Return the table of docs/quantization.md of why engines' rules differ in accuracy; a test compares."""
    sides = {name: Side(rules_of(name), check_rules(rules_of(name))) for name in engines()}
    lines = ["| cause | engines that differ |", "|---|---|"]
    for cause in CAUSES:
        groups = (", ".join(ENGINES.get(name).title for name in group) for group in alike(cause, sides))
        lines.append(f"| {cause.title} | {'; '.join(groups)} |")
    return "\n".join(lines)


def write_rules() -> None:
    """Write the tables of docs/quantization.md anew, those that begin as these do."""
    page = Path(__file__).with_name("quantization.md")
    text = page.read_text(encoding="utf-8")
    for made in (int8(), causes()):
        begin = re.escape(made.split(" | ", 1)[0])
        text = re.sub(rf"^{begin} \|.*\n(?:\|.*\n)+", lambda _, made=made: made + "\n", text, flags=re.MULTILINE)
    page.write_text(text, encoding="utf-8")


def write_settings() -> None:
    """Write the table of docs/settings.md anew: ``python docs/generated.py``, after a setting has changed."""
    page = Path(__file__).with_name("settings.md")
    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(r"(?:^\|.*\n)+", lambda _: settings() + "\n", text, flags=re.MULTILINE), encoding="utf-8")


if __name__ == "__main__":
    write_settings()
    write_rules()
