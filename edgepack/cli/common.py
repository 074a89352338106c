"""The options that every command takes: how much it says, and where its log goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgepack.base.text import printable
from edgepack.cli.show import terminal
from edgepack.errors import ConfigError, StorageError

CLI = logging.getLogger("edgepack.cli")
_LIBRARY = logging.getLogger("edgepack")
# What these say is shown otherwise: errors at the end, stages by their lines.
_SHOWN_OTHERWISE = ("edgepack.cli", "edgepack.execution.runner")
_LEAST = {terminal.QUIET: logging.ERROR, terminal.NORMAL: logging.WARNING, terminal.VERBOSE: logging.INFO}
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def add_common_options(command: click.Command, *, hidden: bool = True) -> None:
    """Let a command and those below it take ``-v``, ``-q`` and ``--log-file``, once."""
    if not any(option.name == "log_file" for option in command.params):
        command.params.extend(_options(hidden))
    for below in (command.commands if isinstance(command, click.Group) else {}).values():
        add_common_options(below)


@contextmanager
def library_log() -> Iterator[None]:
    """Show what the library logs while a command runs, warnings and worse unless ``-v`` or ``-q`` say otherwise."""
    level, before = _LIBRARY.level, list(_LIBRARY.handlers)
    _LIBRARY.setLevel(logging.DEBUG)
    _LIBRARY.addHandler(_OnStderr())
    try:
        yield
    finally:
        _LIBRARY.setLevel(level)
        for handler in [handler for handler in _LIBRARY.handlers if handler not in before]:
            _LIBRARY.removeHandler(handler)
            handler.close()


class _OnStderr(logging.Handler):
    """Lines such as ``warning: ...``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record that is not below what the running command shows."""
        if record.name in _SHOWN_OTHERWISE or record.levelno < _LEAST[terminal.verbosity()]:
            return
        click.echo(printable(f"{record.levelname.lower()}: {record.getMessage()}"), err=True)


class _InFile(logging.Formatter):
    """Text from anybody, made harmless."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines of text."""
        return printable(super().format(record))


def _options(hidden: bool) -> list[click.Option]:
    verbose = click.Option(
        ["-v", "--verbose"], is_flag=True, expose_value=False, hidden=hidden, is_eager=True, callback=_say_more,
        help="Also show details for experts: corrections, layers, the library's log. For every command.",
    )  # fmt: skip
    quiet = click.Option(
        ["-q", "--quiet"], is_flag=True, expose_value=False, hidden=hidden, is_eager=True, callback=_say_less,
        help="Show only the result and errors: no progress and no remarks. For every command.",
    )  # fmt: skip
    log_file = click.Option(
        ["--log-file"], type=click.Path(path_type=Path, dir_okay=False), expose_value=False, hidden=hidden,
        is_eager=True, callback=_log_to, help="Append everything to this log file. For every command.",
    )  # fmt: skip
    return [verbose, quiet, log_file]


def _say_more(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        _choose(context, terminal.VERBOSE)


def _say_less(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        _choose(context, terminal.QUIET)


def _choose(context: click.Context, level: int) -> None:
    if terminal.verbosity_of(context) == -level:
        raise click.UsageError("--verbose and --quiet cannot be used together", context)
    terminal.set_verbosity(context, level)


def _log_to(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    if value is None or context.resilient_parsing:
        return
    if not value.parent.is_dir():
        raise ConfigError(f"--log-file {value}: there is no folder {value.parent}", hint="make it, or name another")
    try:
        handler = logging.FileHandler(value, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise StorageError(f"--log-file {value}: {error.strerror}") from error
    handler.setFormatter(_InFile(_FORMAT))
    _LIBRARY.addHandler(handler)
