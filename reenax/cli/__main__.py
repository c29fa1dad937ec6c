"""`python -m reenax.cli`."""

import sys

from reenax.cli import main

if __name__ == "__main__":
    sys.exit(main())
