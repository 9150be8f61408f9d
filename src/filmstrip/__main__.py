"""`python -m filmstrip` is the command."""

import sys

from filmstrip.cli import main

if __name__ == "__main__":
    sys.exit(main())
