"""Names of commands that are none: what other tools call ours, and the nearest of those that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError

# What other tools, and people, call a command, and how it is called here.
_ELSEWHERE: Mapping[str, str] = {
    "convert": "'edgepack build MODEL' makes bundles, 'edgepack export MODEL' an ONNX file",
    "package": "'edgepack build' packs what it builds; 'edgepack pack' packs one compiled model",
    "quantise": "'edgepack quantize MODEL --ranges FILE', or 'edgepack build MODEL --precision int8 --data DATA'",
    "quantization": "'edgepack quantize MODEL --ranges FILE', or 'edgepack build MODEL --precision int8 --data DATA'",
    "ptq": "'edgepack build MODEL --precision int8 --data DATA'",
    "optimize": "'edgepack build MODEL', and then 'edgepack tune BUNDLE'",
    "optimise": "'edgepack build MODEL', and then 'edgepack tune BUNDLE'",
    "autotune": "'edgepack tune BUNDLE'",
    "bench": "'edgepack benchmark BUNDLE'",
    "perf": "'edgepack benchmark BUNDLE'",
    "profile": "'edgepack inspect BUNDLE --layers', or 'edgepack benchmark BUNDLE'",
    "infer": "'edgepack run BUNDLE --input FILE'",
    "predict": "'edgepack run BUNDLE --input FILE'",
    "test": "'edgepack verify BUNDLE'",
    "validate": "'edgepack verify BUNDLE', or 'edgepack check MODEL --target TARGET'",
    "evaluate": "'edgepack build MODEL --eval DATA'; a bundle's accuracy is in 'edgepack inspect BUNDLE'",
    "diff": "'edgepack compare A B'",
    "info": "'edgepack inspect MODEL|BUNDLE'",
    "show": "'edgepack inspect MODEL|BUNDLE', or 'edgepack targets show TARGET'",
    "devices": "'edgepack targets'",
    "boards": "'edgepack targets'",
    "engines": "'edgepack doctor'",
    "env": "'edgepack doctor'",
    "clean": "'edgepack store prune', or 'edgepack store --clear'",
    "cache": "'edgepack store'",
    "version": "'edgepack --version'",
    "new": "'edgepack init'",
    "create": "'edgepack init'",
}


class NamesGroup(click.Group):
    """A group that says of an unknown command what was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` begin with. Raises ``ConfigError`` for an unknown one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            refuse_command(args[0], self.list_commands(ctx), ctx.command_path)
        return super().resolve_command(ctx, args)


def refuse_command(name: str, known: Sequence[str], path: str) -> NoReturn:
    """Raise ``ConfigError`` that says what was probably meant by ``name`` behind ``path``."""
    if not known:
        raise ConfigError(f"'{path}' has no commands of its own", hint=f"see '{path} --help'")
    hint: Any = _ELSEWHERE.get(name.lower()) if " " not in path else None
    raise ConfigError(f"no such command {name!r} in '{path}'", hint=hint or suggestion(name, known))
