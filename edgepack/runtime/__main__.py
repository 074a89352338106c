"""``python -m edgepack.runtime``: the device's commands, also where Click is installed."""

import sys

from edgepack.cli.device_only import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
