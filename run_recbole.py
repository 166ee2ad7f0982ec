"""python run_recbole.py --model=EXP3RT --dataset=sample [--key=value …]"""

import sys

from recbole_exp3rt.quick_start.quick_start import main

if __name__ == "__main__":
    sys.exit(main())
