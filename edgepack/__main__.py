"""The ``edgepack`` program: the Click command line, or the device's own where Click or Python 3.11 is not there.

JetPack 6 brings Python 3.10, and its TensorRT is for that alone; what builds bundles needs 3.11 (tomllib).
"""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the program on ``sys.argv``."""
    if all(importlib.util.find_spec(name) for name in ("click", "rich", "tomllib")):
        from edgepack.cli.main import cli

        cli()
    else:
        from edgepack.cli.device_only import main as device

        sys.exit(device(sys.argv[1:]))


if __name__ == "__main__":
    main()
