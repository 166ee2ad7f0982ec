"""`python -m recbole_exp3rt`: the same as `exp3rt`."""

import sys

from recbole_exp3rt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
