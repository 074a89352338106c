"""The ``edgepack`` command: its group turns errors into messages and exit codes; commands are in the modules beside."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from edgepack import __version__
from edgepack.cli import build, bundle, stages, tools
from edgepack.cli import device as install
from edgepack.errors import EdgepackError, StorageError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_SECTIONS = (
    ("The main job", ("demo", "init", "build", "report")),
    ("One stage each", ("export", "lint", "calibrate", "quantize", "check", "compile", "pack")),
    ("Bundles", ("inspect", "verify", "run", "benchmark", "compare", "tune", "import")),
    ("On a device", ("install", "status", "rollback", "adopt")),
    ("This installation", ("doctor", "targets", "recipes", "store", "schema")),
)


class EdgepackGroup(click.Group):
    """Prints every ``EdgepackError`` as one message with what to do, and ends with its exit code."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the command in ``args`` (else ``sys.argv``) and exit."""
        words = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in words
        words = [word for word in words if word != "--debug"]
        try:
            # Without its standalone mode Click returns the code of a command that called for an exit.
            code = super().main(args=words, prog_name="edgepack", standalone_mode=False)
        except click.ClickException as error:
            error.show(file=sys.stderr)
            _leave(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            _say("interrupted", "run the same command again: finished stages are kept")
            _leave(_INTERRUPTED)
        except EdgepackError as error:
            _show_traceback(debug)
            _say(error.message, error.hint)
            _leave(error.exit_code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _leave(1)
        except MemoryError:
            _show_traceback(debug)
            _say("not enough memory", "give fewer samples, or build on a machine with more memory")
            _leave(1)
        except OSError as error:
            _show_traceback(debug)
            _say(f"{error.strerror or error}: {error.filename or 'a file'}", StorageError.default_hint)
            _leave(1)
        except Exception as error:
            _show_traceback(debug)
            _say(
                f"this is a defect of edgepack: {type(error).__name__}: {error}", "run again with --debug and report it"
            )
            _leave(1)
        _leave(code if isinstance(code, int) else 0)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, not by the alphabet."""
        for title, names in _SECTIONS:
            rows = [(n, self.commands[n].get_short_help_str(90)) for n in names if n in self.commands]
            with formatter.section(title):
                formatter.write_dl(rows)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.exit(code)


def _show_traceback(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _say(message: str, hint: str) -> None:
    mark = click.style("error:", fg="red", bold=True)
    click.echo(f"{mark} {message}", err=True)
    if hint:
        click.echo(f"{click.style('what to do:', bold=True)} {hint}", err=True)


@click.group(
    cls=EdgepackGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="--debug anywhere shows the traceback of an error. Exit codes: 0 done, 1 other, 2 usage or configuration, "
    "3 an engine is missing, 4 a target failed to compile, 5 verification or the accuracy gate failed.",
)
@click.version_option(__version__, prog_name="edgepack")
def cli() -> None:
    """From a trained model to verified, measured bundles for edge devices.

    Start with 'edgepack demo', then 'edgepack build MODEL --target ID --precision int8 --data PICTURES'.
    """


for module in (build, stages, bundle, install, tools):
    for command in module.COMMANDS:
        cli.add_command(command)
