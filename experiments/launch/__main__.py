"""``python -m experiments.launch``."""

import sys

from experiments.launch.command import main

if __name__ == "__main__":
    sys.exit(main())
