"""The command line: ``python -m skhash``."""

import sys

from skhash._cli._main import main

if __name__ == "__main__":
    sys.exit(main())
