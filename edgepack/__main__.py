"""The ``edgepack`` program."""

from __future__ import annotations

from edgepack.cli.main import cli


def main() -> None:
    """Run the program on ``sys.argv``."""
    cli()


if __name__ == "__main__":
    main()
