"""Oracles of the functions of floating numbers and of integers: functions of numbers."""

from __future__ import annotations

import math

from oracles.register import ORACLES, entrywise


def sinc(a):
    """The product of the cosines of pi a / 2^k, which has no 0/0 at 0."""
    return math.prod(math.cos(math.pi * a / 2**k) for k in range(1, 40))


def bits(combine):
    """Return a function of integers, bit by bit in two's complement of 64 bits."""

    def f(*xs):
        columns = zip(*(format(int(x) % 2**64, "064b") for x in xs), strict=True)
        value = int("".join(str(int(combine(*map(int, c)))) for c in columns), 2)
        return value - 2**64 if value >= 2**63 else value

    return f


def gcd(a, b):
    a, b = abs(a), abs(b)
    while b:
        a, b = b, a % b
    return a


FLOATS = {
    "fmod": math.fmod,
    "ldexp": lambda a, i: a * 2.0**i,
    "logaddexp2": lambda a, b: math.log2(2.0**a + 2.0**b),
    "sinc": sinc,
}
INTEGERS = {
    "exponent": lambda a: math.floor(math.log2(abs(a))) + 1 if a else 0,
    "bitwise_and": bits(lambda a, b: a and b),
    "bitwise_or": bits(lambda a, b: a or b),
    "bitwise_xor": bits(lambda a, b: a != b),
    "invert": bits(lambda a: not a),
    "left_shift": lambda a, b: a * 2**b,
    "right_shift": lambda a, b: math.floor(a / 2**b),
    "bitwise_count": lambda a: format(abs(a), "b").count("1"),
    "gcd": gcd,
    "lcm": lambda a, b: abs(a * b) // gcd(a, b) if a and b else 0,
}
ORACLES.update({name: entrywise(f) for name, f in FLOATS.items()})
ORACLES.update({name: entrywise(f, int) for name, f in INTEGERS.items()})
# the next number lies within rounding, so the check of the value is one of shape and size
ORACLES["nextafter"] = entrywise(math.nextafter)
ORACLES["spacing"] = entrywise(lambda a: math.copysign(math.ulp(a), a))
