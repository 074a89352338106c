"""The ``edgepack`` program: the Click command line, or the device's own where Click is not installed."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the program on ``sys.argv``."""
    if importlib.util.find_spec("click") and importlib.util.find_spec("rich"):
        from edgepack.cli.main import cli

        cli()
    else:
        from edgepack.runtime.command import main as device

        sys.exit(device(sys.argv[1:]))


if __name__ == "__main__":
    main()
