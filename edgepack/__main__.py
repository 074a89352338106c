"""The ``edgepack`` program."""

from __future__ import annotations

import os

from edgepack.cli.main import cli


def main() -> None:
    """Run the program on ``sys.argv``."""
    _open_standard_files()
    cli()


def _open_standard_files() -> None:
    """Let no file that is opened later get the number of a closed stdout: engines print to it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


if __name__ == "__main__":
    main()
