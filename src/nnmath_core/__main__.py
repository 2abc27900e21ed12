"""``python -m nnmath_core`` is the command ``nnmath``."""

import sys

from nnmath_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
