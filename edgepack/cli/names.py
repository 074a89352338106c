"""Names of commands that are none: what other tools call ours, and the nearest of those that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import click

from edgepack.base.documents import nearest, suggestion
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


# What other tools, and people, call an option, and how it is written here; the first that the command has counts.
_OPTIONS_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("device", "board", "platform", "hardware", "backend", "engine", "provider"), ("--target",)),
    **dict.fromkeys(("dtype", "type", "bits", "quantization"), ("--precision",)),
    **dict.fromkeys(("int8", "quantize", "quantise", "ptq"), ("--precision int8",)),
    **dict.fromkeys(("fp16", "half"), ("--precision fp16",)),
    **dict.fromkeys(
        ("calib", "calibration", "calibration-data", "calib-data", "dataset", "images", "pictures", "input-dir"),
        ("--data", "--input"),
    ),
    **dict.fromkeys(("val", "validation", "test", "test-data", "eval-data"), ("--eval",)),
    **dict.fromkeys(("batch", "batch-size", "input-shape", "input-size", "imgsz", "size"), ("--shape",)),
    **dict.fromkeys(("preprocess", "preprocessing", "mean", "std", "normalize"), ("--recipe",)),
    **dict.fromkeys(("iterations", "iters", "niter", "runs", "time", "seconds"), ("--duration",)),
    **dict.fromkeys(("image", "picture", "file", "data"), ("--input", "--data")),
    **dict.fromkeys(("output", "output-dir", "save", "dest"), ("--out",)),
    **dict.fromkeys(("cache", "cache-dir"), ("--store",)),
    **dict.fromkeys(("timeout", "time-limit"), ("--limit", "--compile-limit")),
    **dict.fromkeys(("model", "m", "onnx"), ("--model", "MODEL without an option")),
    "opset": (),  # nobody chooses it: not what is written most like it either
    **dict.fromkeys(("loss", "tolerance", "max-loss", "accuracy-drop"), ("--max-drop",)),
}
# An option that came through an editor or a chat: its hyphens are a dash, or it stands in curly quotes.
_DASHED = re.compile(
    r"(?:[\u2010-\u2015\u2212][-\u2010-\u2015\u2212]?|[\u2018-\u201f]-{1,2})([a-z][a-z-]+)[\u2018-\u201f]?(?:=.*)?"
)
_BUNDLE = ".edgepack"
_WHOLE = 1000  # letters: Click would cut a command's first sentence to one line


class NamesGroup(click.Group):
    """A group that says of an unknown command what was probably meant, and of each of its own the whole of a line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its first sentence."""
        self.write_commands(ctx, formatter, "Commands", self.list_commands(ctx))

    def write_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter, title: str, names: Iterable[str]
    ) -> None:
        """Write a section of commands."""
        found = ((name, self.get_command(ctx, name)) for name in names)
        with formatter.section(title):
            formatter.write_dl([(name, each.get_short_help_str(_WHOLE)) for name, each in found if each is not None])

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
    message = f"no such command {name!r} in '{path}'"
    if " " in path:
        shows = "show" in known and nearest(name, known) is None and name in _shown(path)
        raise ConfigError(message, hint=f"'{path} show {name}' shows it" if shows else suggestion(name, known))
    raise ConfigError(message, hint=_ELSEWHERE.get(name.lower()) or _of_file(name) or _listed(name, known))


def _shown(path: str) -> Sequence[str]:
    """Return the names that 'show' of a group takes."""
    from edgepack.cli.listing import names_by_kind

    return names_by_kind().get(path.rpartition(" ")[2], ())


def _of_file(name: str) -> str | None:
    """Return what is done with a file that stands where a command belongs; None for what is not a file."""
    quoted = shlex.quote(name)
    if name.lower().endswith(_BUNDLE):
        return f"inspect it with 'edgepack inspect {quoted}', run it with 'edgepack run {quoted} --input FILE'"
    return f"build it with 'edgepack build {quoted}'" if Path(name).suffix or Path(name).exists() else None


def _listed(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return "'edgepack --help' lists the commands" if near is None else f"did you mean {near!r}?"


def option_meant(name: str, context: click.Context | None) -> str | None:
    """Return the option that was probably meant by ``name``, as it is written; None where nothing is like it."""
    parameters = context.command.get_params(context) if context is not None else ()
    own = [word for parameter in parameters for word in (*parameter.opts, *parameter.secondary_opts) if "--" in word]
    bare = name.lstrip("-").replace("_", "-").lower()
    if bare in _OPTIONS_ELSEWHERE:
        if context is not None:
            own += [each.make_metavar(context) for each in parameters if isinstance(each, click.Argument)]
        return next((written for written in _OPTIONS_ELSEWHERE[bare] if written.partition(" ")[0] in _words(own)), None)
    near = nearest(bare, [word.lstrip("-") for word in own])
    return None if near is None else f"--{near}"


def option_of(value: str, command: click.Command) -> str | None:
    """Return the option that takes a word which stands by itself, with it; None where no choice has it."""
    for parameter in command.params:
        kind = parameter.type if isinstance(parameter, click.Option) else None
        if isinstance(kind, click.Choice) and value in kind.choices:
            return f"{max(parameter.opts, key=len)} {value}"
    return None


def _words(parameters: Iterable[str]) -> set[str]:
    """Return the options and the names of arguments, each of which may be one of several: ``[MODEL|BUNDLE]...``."""
    return {word for each in parameters for word in re.split(r"[\[\]|.]+", each)}


def refuse_dashes(words: Sequence[str]) -> None:
    """Raise ``ConfigError`` for an option whose hyphens an editor or a chat has made a dash, or put in quotes."""
    for before, word in zip(("", *words), words, strict=False):
        if not before.startswith("-") and (found := _DASHED.fullmatch(word)) is not None:
            raise ConfigError(
                f"{word!r} is not written with the hyphens of a keyboard",
                hint=f"type it again: --{found[1]}; editors and chats change hyphens and quotes",
            )
