"""python run_recbole.py --model=EXP3RT --dataset=sample [--key=value …]: `exp3rt run`."""

import sys

from recbole_exp3rt.quick_start import main

if __name__ == "__main__":
    sys.exit(main())
