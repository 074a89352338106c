"""The ``edgepack`` command: finds a command's module when it is called for, and turns errors into exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from edgepack import __version__
from edgepack.base.text import printable
from edgepack.cli.builder import missing_package
from edgepack.cli.common import CLI, add_common_options, library_log
from edgepack.cli.names import NamesGroup, option_meant, option_of, refuse_dashes
from edgepack.cli.show import terminal
from edgepack.errors import EdgepackError, StorageError

# How Click says that a value is not a number, or not one that is taken.
_NOT_A_NUMBER = re.compile(r" is not a valid (integer|float)(?: range)?$")
_OUT_OF_RANGE = re.compile(r" is not in the range (?:(\S+)<=x<=(\S+)|x>=(\S+))$")
_STRAY = re.compile(r"unexpected extra arguments? \(([^\s)]+)")
_COMPILED_AGAIN = "remove the __pycache__ folders where edgepack is installed, or reinstall it"
_INTERRUPTED, _UNREAD, _TERMINATED = 130, 141, 143  # 128 + SIGINT, SIGPIPE, SIGTERM, as shells count
# Every command by its section of the help, as MODULE.COMMAND: a module of edgepack.cli, and one of its COMMANDS.
_SECTIONS = {
    "Build": ("build.demo", "build.init", "build.plan", "build.build", "bundle.report"),
    "Single build stages": (
        "stages.export",
        "lint.lint",
        "stages.calibrate",
        "stages.quantize",
        "stages.check",
        "stages.compile",
        "stages.pack",
    ),
    "Bundles": (
        "bundle.inspect",
        "bundle.verify",
        "bundle.run",
        "bundle.benchmark",
        "bundle.compare",
        "tune.tune",
        "bundle.import",
        "serve.serve",
        "serve.unpack",
    ),
    "Trust": ("trust.keygen", "trust.sign", "trust.policy", "trust.root"),
    "Deployment": (
        "deploy.deploy",
        "registry.push",
        "registry.pull",
        "updaters.export-updater",
        "cpp.export-library",
        "device.install",
        "device.status",
        "device.rollback",
        "device.recover",
        "device.adopt",
        "device.receive",
    ),
    "This machine": (
        "tools.doctor",
        "tools.targets",
        "tools.recipes",
        "tools.list",
        "store.store",
        "environments.environments",
        "tools.schema",
        "tools.help",
    ),
}
_MODULES = {
    name: module for section in _SECTIONS.values() for module, _, name in (entry.partition(".") for entry in section)
}


class Terminated(KeyboardInterrupt):
    """SIGTERM came: everything is left as after Ctrl-C, with no process and no half file behind."""


def _terminate(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise Terminated


class EdgepackGroup(NamesGroup):
    """Imports commands when they are asked for; prints every error as one message with a hint and its exit code."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return list(_MODULES)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in _MODULES:
            return None
        found: tuple[click.Command, ...] = importlib.import_module(f"edgepack.cli.{_MODULES[cmd_name]}").COMMANDS
        command = next(command for command in found if command.name == cmd_name)
        add_common_options(command)
        return command

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the command in ``args`` (else ``sys.argv``) and exit."""
        words = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in words
        words = [word for word in words if word != "--debug"]
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminate)
        with library_log():
            self._run(words, debug=debug)

    def _run(self, words: list[str], *, debug: bool) -> NoReturn:
        stdout = sys.stdout
        try:
            refuse_dashes(words)
            # Without its standalone mode Click returns the code of a command that called for an exit.
            code = super().main(args=words, prog_name="edgepack", standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show(file=sys.stderr)
            _leave(error.exit_code)
        except SystemExit:
            if sys.stdout is stdout:
                raise
            _leave(_UNREAD)  # Click has put another one there, as nobody reads the pipe any more
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _leave(_UNREAD)
        except (Exception, KeyboardInterrupt) as error:
            CLI.error("%s: %s", type(error).__name__, error, exc_info=error)
            if debug:
                click.echo(printable(traceback.format_exc()), err=True, nl=False)
            message, hint, code = explain(error, _command_in(words))
            message, hint = printable(message), printable(hint)
            coloured = terminal.colours(sys.stderr)
            click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True, color=coloured)
            click.echo(f"{click.style('hint:', bold=True)} {hint}", err=True, color=coloured)
            _leave(code)
        _leave(code if isinstance(code, int) else 0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, not by the alphabet."""
        for title, entries in _SECTIONS.items():
            self.write_commands(ctx, formatter, title, (entry.partition(".")[2] for entry in entries))


def explain(error: BaseException, command: str = "edgepack") -> tuple[str, str, int]:
    """Return what is said of an error that ended ``command``, the hint, and the exit code."""
    match error:
        case EdgepackError():
            return error.message, error.hint, error.exit_code
        case click.ClickException():
            return _of_click(error, command)
        case click.Abort() if isinstance(error.__cause__, Terminated):  # what Click makes of an interrupt
            return "terminated", "run the same command again; finished stages are kept", _TERMINATED
        case click.Abort() if isinstance(error.__cause__, EOFError):  # nobody's, where Click itself did not ask
            return explain(error.__cause__, command)
        case EOFError() if "marshal" in str(error):
            return "a compiled Python module is truncated, perhaps by a full disk", _COMPILED_AGAIN, 1
        case KeyboardInterrupt() | click.Abort():
            return "interrupted", "run the same command again; finished stages are kept", _INTERRUPTED
        case MemoryError():
            return "out of memory", "use fewer samples, a smaller model or a machine with more memory", 1
        case ModuleNotFoundError() if (missing := missing_package(error)) is not None:
            return missing.message, missing.hint, missing.exit_code
        case OSError():
            return _of_system(error)
    return f"internal error: {type(error).__name__}: {error}", "run again with --debug and report the traceback", 1


def _of_click(error: click.ClickException, command: str) -> tuple[str, str, int]:
    """Return what is said of words that Click refuses."""
    match error:
        case click.NoSuchOption():
            meant, path = option_meant(error.option_name, error.ctx), error.ctx.command_path if error.ctx else command
            hint = f"see '{path} --help'" if meant is None else f"did you mean '{meant}'? See '{path} --help'"
            return f"no such option '{error.option_name}'", hint, error.exit_code
        case click.MissingParameter() if isinstance(error.param, click.Option) and error.ctx is not None:
            written = f"{error.param.opts[-1]} {error.param.make_metavar(error.ctx)}"
            return (
                f"missing option '{error.param.opts[-1]}'",
                f"add {written}; see '{error.ctx.command_path} --help'",
                2,
            )
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else command
    message = " ".join(error.format_message().split())  # Click lists choices a line each
    message, hint = message[:1].lower() + message[1:].rstrip("."), f"see '{path} --help'"
    if (stray := _STRAY.search(message)) is not None and isinstance(error, click.UsageError) and error.ctx is not None:
        meant = option_of(stray[1], error.ctx.command)
        return message, f"did you mean '{meant}'? S{hint[1:]}" if meant else hint, 2
    if (number := _NOT_A_NUMBER.search(message)) is not None:
        kind = "whole number" if number[1] == "integer" else "number"
        return f"{message[: number.start()]} is not a {kind}", f"give digits alone, without a unit; {hint}", 2
    if (bounds := _OUT_OF_RANGE.search(message)) is not None:
        between = f"from {bounds[1]} to {bounds[2]}" if bounds[2] else f"of {bounds[3]} or more"
        return f"{message[: bounds.start()]} is out of range", f"give a value {between}; {hint}", 2
    return message, hint, error.exit_code


def _of_system(error: OSError) -> tuple[str, str, int]:
    """Return what is said of an error of the system: names of our own unfinished files become those of their files."""
    place = str(error.filename or "a file")
    folder, _, name = place.rpartition("/")
    if name.startswith(".") and name.endswith(".tmp"):
        place = f"{folder}/{name[1:].rsplit('.', 2)[0]}"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = StorageError.default_hint if full else "check that the path is right and writable, or choose another"
    return f"{error.strerror or error}: {place}", hint, 1


def _command_in(words: Sequence[str]) -> str:
    """Return the command that words begin with: Click does not say where an option lacks its value."""
    return next((f"edgepack {word}" for word in words if word in _MODULES), "edgepack")


def _leave(code: int) -> NoReturn:
    if sys.stdout is not None:  # None where it was closed before this process began
        sys.stdout.flush()
    sys.exit(code)


@click.group(
    cls=EdgepackGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Every command takes --debug, which prints the traceback of an error. Exit codes: 0 success, 1 other error, "
    "2 usage or configuration, 3 a package or engine is missing, 4 a target failed to compile, 5 verification or "
    "accuracy gate failed.",
)
@click.version_option(__version__, "-V", "--version", prog_name="edgepack")
def cli() -> None:
    """Turn a trained model into verified, measured bundles for edge devices.

    Start with 'edgepack demo', then 'edgepack build MODEL --target ID --precision int8 --data PICTURES'.
    """


add_common_options(cli, hidden=False)
