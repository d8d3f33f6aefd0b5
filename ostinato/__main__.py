"""`python -m ostinato` and the `ostinato` command."""

import sys

from ostinato.cli import main

if __name__ == "__main__":
    sys.exit(main())
