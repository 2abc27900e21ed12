"""Write vector_math.json: erf, gelu, log Gamma and their kin to 21 digits, for tests/test_vector_math.py.

    pip install mpmath==1.3.0
    python tests/reference/vector_math.py

The arguments come from a seed (tests/vector_math_measure.py, table_points) and are exact doubles; mpmath works with 60
digits. 21 digits are more than the 64 bits of the long double that the test compares with.
"""

import json
import sys
from pathlib import Path

import mpmath as mp

sys.path.insert(0, str(Path(__file__).parents[1]))
from vector_math_measure import TABULATED, table_points

mp.mp.dps = 60
ROOT = mp.sqrt(mp.mpf(8) / mp.pi)
CUBIC = mp.mpf("0.044715")


def cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def gate(x):
    return 1 / (1 + mp.exp(-ROOT * (x + CUBIC * x**3)))


def gammaln(x):
    return mp.log(abs(mp.gamma(x))) if abs(x) < 1000 else mp.loggamma(x)


FUNCTIONS = {
    "erf": mp.erf,
    "erfc": mp.erfc,
    "gelu": lambda x: x * cdf(x),
    "gelu_slope": lambda x: cdf(x) + x * mp.npdf(x),
    "gelu_tanh": lambda x: x * gate(x),
    "gelu_tanh_slope": lambda x: gate(x) + x * gate(x) * gate(-x) * ROOT * (1 + 3 * CUBIC * x * x),
    "gammaln": gammaln,
    "digamma": mp.digamma,
}


def values(name, xs):
    f = FUNCTIONS[name]
    return [mp.nstr(f(mp.mpf(float(x))), 21, min_fixed=0, max_fixed=0) for x in xs]


if __name__ == "__main__":
    table = {"mpmath": mp.__version__, "values": {n: values(n, table_points(n)) for n in TABULATED}}
    Path(__file__).with_suffix(".json").write_text(json.dumps(table, separators=(",", ":")) + "\n")
