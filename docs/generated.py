"""Writes what is generated in the documentation, as a hook of MkDocs: commands, the Python API, the table of targets.

A page says where it goes by a comment, such as ``<!-- generated: commands -->``.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import click

import edgepack
from edgepack.cli.main import _SECTIONS, cli

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
