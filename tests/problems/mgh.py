"""The test problems of Moré, Garbow and Hillstrom (1981), in plain NumPy.

Each problem is a vector of residuals `r(x)` with its Jacobian by hand; the objective is the sum of
squares. Both take complex arguments. Starts and minima are those of the paper, numbered as there.

Source: J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software",
ACM Transactions on Mathematical Software 7 (1981), 17-41.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Problem:
    """Residuals and their Jacobian, a start, and the values of the known minima."""

    number: int
    name: str
    residuals: Callable
    jacobian: Callable
    start: np.ndarray
    minima: tuple[float, ...]

    def objective(self, x):
        """Return the sum of squares."""
        return np.sum(self.residuals(x) ** 2)

    def gradient(self, x):
        """Return its gradient by hand."""
        return 2.0 * (self.jacobian(x).T @ self.residuals(x))


PROBLEMS: list[Problem] = []


def problem(number, name, start, *minima):
    """Register a class that has `residuals` and `jacobian`."""

    def register(cls):
        start_ = np.array(start, float)
        PROBLEMS.append(Problem(number, name, cls.residuals, cls.jacobian, start_, minima))
        return cls

    return register


def rows(*entries):
    """Stack rows of numbers into a matrix."""
    return np.array(entries)


def columns(*entries):
    """Stack columns, numbers spread, into a matrix."""
    return np.stack(np.broadcast_arrays(*entries), axis=1)


# -------------------------------------------------------------------- two and three variables
@problem(1, "Rosenbrock", [-1.2, 1.0], 0.0)
class Rosenbrock:
    def residuals(x):
        return np.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])

    def jacobian(x):
        return rows([-20.0 * x[0], 10.0], [-1.0, 0.0])


@problem(2, "Freudenstein and Roth", [0.5, -2.0], 0.0, 48.9842)
class FreudensteinRoth:
    def residuals(x):
        a, b = x
        return np.stack(
            [-13.0 + a + ((5.0 - b) * b - 2.0) * b, -29.0 + a + ((b + 1.0) * b - 14.0) * b]
        )

    def jacobian(x):
        b = x[1]
        return rows([1.0, 10.0 * b - 3.0 * b**2 - 2.0], [1.0, 3.0 * b**2 + 2.0 * b - 14.0])


@problem(3, "Powell badly scaled", [0.0, 1.0], 0.0)
class PowellBadlyScaled:
    def residuals(x):
        return np.stack([1e4 * x[0] * x[1] - 1.0, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001])

    def jacobian(x):
        return rows([1e4 * x[1], 1e4 * x[0]], [-np.exp(-x[0]), -np.exp(-x[1])])


@problem(4, "Brown badly scaled", [1.0, 1.0], 0.0)
class BrownBadlyScaled:
    def residuals(x):
        return np.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2.0])

    def jacobian(x):
        return rows([1.0, 0.0], [0.0, 1.0], [x[1], x[0]])


@problem(5, "Beale", [1.0, 1.0], 0.0)
class Beale:
    y = np.array([1.5, 2.25, 2.625])
    k = np.array([1, 2, 3])

    def residuals(x):
        return Beale.y - x[0] * (1.0 - x[1] ** Beale.k)

    def jacobian(x):
        k = Beale.k
        return columns(x[1] ** k - 1.0, x[0] * k * x[1] ** (k - 1))


@problem(6, "Jennrich and Sampson", [0.3, 0.4], 124.362)
class JennrichSampson:
    k = np.arange(1.0, 11.0)

    def residuals(x):
        k = JennrichSampson.k
        return 2.0 + 2.0 * k - (np.exp(k * x[0]) + np.exp(k * x[1]))

    def jacobian(x):
        k = JennrichSampson.k
        return columns(-k * np.exp(k * x[0]), -k * np.exp(k * x[1]))


@problem(7, "Helical valley", [-1.0, 0.0, 0.0], 0.0)
class HelicalValley:
    def residuals(x):
        turn = np.arctan(x[1] / x[0]) / (2.0 * np.pi)
        if x[0].real < 0:
            turn = turn + 0.5
        radius = np.sqrt(x[0] ** 2 + x[1] ** 2)
        return np.stack([10.0 * (x[2] - 10.0 * turn), 10.0 * (radius - 1.0), x[2]])

    def jacobian(x):
        square = x[0] ** 2 + x[1] ** 2
        turn, radius = 100.0 / (2.0 * np.pi * square), 10.0 / np.sqrt(square)
        return rows(
            [x[1] * turn, -x[0] * turn, 10.0], [x[0] * radius, x[1] * radius, 0.0], [0.0, 0.0, 1.0]
        )


@problem(8, "Bard", [1.0, 1.0, 1.0], 8.21487e-3, 17.4286)
class Bard:
    y = np.array(
        [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
    )
    u = np.arange(1.0, 16.0)
    v = 16.0 - u
    w = np.minimum(u, v)

    def residuals(x):
        return Bard.y - (x[0] + Bard.u / (Bard.v * x[1] + Bard.w * x[2]))

    def jacobian(x):
        below = (Bard.v * x[1] + Bard.w * x[2]) ** 2
        return columns(-1.0, Bard.u * Bard.v / below, Bard.u * Bard.w / below)


@problem(9, "Gaussian", [0.4, 1.0, 0.0], 1.12793e-8)
class Gaussian:
    half = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521)
    y = np.array([*half, 0.3989, *half[::-1]])
    t = (8.0 - np.arange(1.0, 16.0)) / 2.0

    def residuals(x):
        return x[0] * np.exp(-x[1] * (Gaussian.t - x[2]) ** 2 / 2.0) - Gaussian.y

    def jacobian(x):
        away = Gaussian.t - x[2]
        e = np.exp(-x[1] * away**2 / 2.0)
        return columns(e, -x[0] * e * away**2 / 2.0, x[0] * e * x[1] * away)


@problem(10, "Meyer", [0.02, 4000.0, 250.0], 87.9458)
class Meyer:
    y = np.array(
        [34780.0, 28610.0, 23650.0, 19630.0, 16370.0, 13720.0, 11540.0, 9744.0, 8261.0, 7030.0,
         6005.0, 5147.0, 4427.0, 3820.0, 3307.0, 2872.0]
    )  # fmt: skip
    t = 45.0 + 5.0 * np.arange(1.0, 17.0)

    def residuals(x):
        return x[0] * np.exp(x[1] / (Meyer.t + x[2])) - Meyer.y

    def jacobian(x):
        below = Meyer.t + x[2]
        e = np.exp(x[1] / below)
        return columns(e, x[0] * e / below, -x[0] * x[1] * e / below**2)


@problem(11, "Gulf research and development", [5.0, 2.5, 0.15], 0.0)
class Gulf:
    t = np.arange(1.0, 100.0) / 100.0
    y = 25.0 + (-50.0 * np.log(t)) ** (2.0 / 3.0)

    def residuals(x):
        distance = np.abs(Gulf.y - x[1]) if x.dtype.kind == "f" else Gulf.y - x[1]
        return np.exp(-(distance ** x[2]) / x[0]) - Gulf.t

    def jacobian(x):
        distance = Gulf.y - x[1]  # positive at the start, where it is used
        power = distance ** x[2]
        e = np.exp(-power / x[0])
        return columns(
            e * power / x[0] ** 2,
            e * x[2] * power / distance / x[0],
            -e * power * np.log(distance) / x[0],
        )


@problem(12, "Box three-dimensional", [0.0, 10.0, 20.0], 0.0)
class Box:
    t = np.arange(1.0, 11.0) / 10.0

    def residuals(x):
        t = Box.t
        return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10.0 * t))

    def jacobian(x):
        t = Box.t
        return columns(
            -t * np.exp(-t * x[0]), t * np.exp(-t * x[1]), np.exp(-10.0 * t) - np.exp(-t)
        )


# ------------------------------------------------------------------------ four and more variables
@problem(13, "Powell singular", [3.0, -1.0, 0.0, 1.0], 0.0)
class PowellSingular:
    def residuals(x):
        a, b, c, d = x
        return np.stack(
            [
                a + 10.0 * b,
                np.sqrt(5.0) * (c - d),
                (b - 2.0 * c) ** 2,
                np.sqrt(10.0) * (a - d) ** 2,
            ]
        )

    def jacobian(x):
        a, b, c, d = x
        five, ten = np.sqrt(5.0), 2.0 * np.sqrt(10.0) * (a - d)
        slope = 2.0 * (b - 2.0 * c)
        return rows(
            [1.0, 10.0, 0.0, 0.0],
            [0.0, 0.0, five, -five],
            [0.0, slope, -2.0 * slope, 0.0],
            [ten, 0.0, 0.0, -ten],
        )


@problem(14, "Wood", [-3.0, -1.0, -3.0, -1.0], 0.0)
class Wood:
    def residuals(x):
        a, b, c, d = x
        return np.stack(
            [
                10.0 * (b - a**2),
                1.0 - a,
                np.sqrt(90.0) * (d - c**2),
                1.0 - c,
                np.sqrt(10.0) * (b + d - 2.0),
                (b - d) / np.sqrt(10.0),
            ]
        )

    def jacobian(x):
        a, _, c, _ = x
        ninety, ten = np.sqrt(90.0), np.sqrt(10.0)
        return rows(
            [-20.0 * a, 10.0, 0.0, 0.0],
            [-1.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, -2.0 * ninety * c, ninety],
            [0.0, 0.0, -1.0, 0.0],
            [0.0, ten, 0.0, ten],
            [0.0, 1.0 / ten, 0.0, -1.0 / ten],
        )


@problem(15, "Kowalik and Osborne", [0.25, 0.39, 0.415, 0.39], 3.07505e-4, 1.02734e-3)
class KowalikOsborne:
    y = np.array(
        [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
    )
    u = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])

    def residuals(x):
        u = KowalikOsborne.u
        return KowalikOsborne.y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])

    def jacobian(x):
        u = KowalikOsborne.u
        above, below = u**2 + u * x[1], u**2 + u * x[2] + x[3]
        y = x[0] * above / below**2
        return columns(-above / below, -x[0] * u / below, y * u, y)


@problem(16, "Brown and Dennis", [25.0, 5.0, -5.0, -1.0], 85822.2)
class BrownDennis:
    t = np.arange(1.0, 21.0) / 5.0

    def parts(x):
        t = BrownDennis.t
        return x[0] + t * x[1] - np.exp(t), x[2] + x[3] * np.sin(t) - np.cos(t)

    def residuals(x):
        a, b = BrownDennis.parts(x)
        return a**2 + b**2

    def jacobian(x):
        t = BrownDennis.t
        a, b = BrownDennis.parts(x)
        return columns(2.0 * a, 2.0 * a * t, 2.0 * b, 2.0 * b * np.sin(t))


@problem(17, "Osborne 1", [0.5, 1.5, -1.0, 0.01, 0.02], 5.46489e-5)
class Osborne1:
    y = np.array(
        [0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685,
         0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448,
         0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406]
    )  # fmt: skip
    t = 10.0 * np.arange(33.0)

    def residuals(x):
        t = Osborne1.t
        return Osborne1.y - (x[0] + x[1] * np.exp(-t * x[3]) + x[2] * np.exp(-t * x[4]))

    def jacobian(x):
        t = Osborne1.t
        a, b = np.exp(-t * x[3]), np.exp(-t * x[4])
        return columns(-1.0, -a, -b, x[1] * t * a, x[2] * t * b)


@problem(18, "Biggs EXP6", [1.0, 2.0, 1.0, 1.0, 1.0, 1.0], 0.0, 5.65565e-3)
class Biggs:
    t = np.arange(1.0, 14.0) / 10.0
    y = np.exp(-t) - 5.0 * np.exp(-10.0 * t) + 3.0 * np.exp(-4.0 * t)

    def residuals(x):
        t = Biggs.t
        return (
            x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - Biggs.y
        )

    def jacobian(x):
        t = Biggs.t
        a, b, c = np.exp(-t * x[0]), np.exp(-t * x[1]), np.exp(-t * x[4])
        return columns(-t * x[2] * a, t * x[3] * b, a, -b, -t * x[5] * c, c)


@problem(
    19, "Osborne 2", [1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5], 4.01377e-2
)  # fmt: skip
class Osborne2:
    y = np.array(
        [1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608,
         0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661,
         0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428,
         0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559,
         0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054]
    )  # fmt: skip
    t = np.arange(65.0) / 10.0

    def residuals(x):
        t = Osborne2.t
        y = x[0] * np.exp(-t * x[4])
        for k in (1, 2, 3):
            y = y + x[k] * np.exp(-((t - x[k + 7]) ** 2) * x[k + 4])
        return Osborne2.y - y

    def jacobian(x):
        t = Osborne2.t
        decay = np.exp(-t * x[4])
        away = [t - x[k + 7] for k in (1, 2, 3)]
        peak = [np.exp(-(a**2) * x[k + 4]) for k, a in zip((1, 2, 3), away, strict=True)]
        three = [(x[k], x[k + 4], a, e) for k, a, e in zip((1, 2, 3), away, peak, strict=True)]
        return columns(
            -decay,
            *[-e for e in peak],
            x[0] * t * decay,
            *[height * a**2 * e for height, _, a, e in three],
            *[-2.0 * height * rate * a * e for height, rate, a, e in three],
        )


@problem(20, "Watson", np.zeros(6), 2.28767e-3)
class Watson:
    t = np.arange(1.0, 30.0) / 29.0
    n = 6
    powers = t[:, None] ** np.arange(n)
    slopes = np.concatenate([np.zeros((29, 1)), np.arange(1.0, n) * powers[:, :-1]], axis=1)

    def residuals(x):
        first = Watson.slopes @ x - (Watson.powers @ x) ** 2 - 1.0
        return np.concatenate([first, np.stack([x[0], x[1] - x[0] ** 2 - 1.0])])

    def jacobian(x):
        first = Watson.slopes - 2.0 * (Watson.powers @ x)[:, None] * Watson.powers
        rest = np.zeros((2, Watson.n), x.dtype)
        rest[0, 0], rest[1, 0], rest[1, 1] = 1.0, -2.0 * x[0], 1.0
        return np.concatenate([first, rest])


# ----------------------------------------------------------------------------- any number of variables
def each(n):
    return np.arange(1.0, n + 1.0)


@problem(21, "extended Rosenbrock", [-1.2, 1.0] * 5, 0.0)
class ExtendedRosenbrock:
    def residuals(x):
        odd, even = x[0::2], x[1::2]
        return np.stack([10.0 * (even - odd**2), 1.0 - odd], axis=1).ravel()

    def jacobian(x):
        j = np.zeros((10, 10), x.dtype)
        for i in range(0, 10, 2):
            j[i : i + 2, i : i + 2] = Rosenbrock.jacobian(x[i : i + 2])
        return j


@problem(22, "extended Powell singular", [3.0, -1.0, 0.0, 1.0] * 3, 0.0)
class ExtendedPowell:
    def residuals(x):
        return np.stack(
            [
                x[0::4] + 10.0 * x[1::4],
                np.sqrt(5.0) * (x[2::4] - x[3::4]),
                (x[1::4] - 2.0 * x[2::4]) ** 2,
                np.sqrt(10.0) * (x[0::4] - x[3::4]) ** 2,
            ],
            axis=1,
        ).ravel()

    def jacobian(x):
        j = np.zeros((12, 12), x.dtype)
        for i in range(0, 12, 4):
            j[i : i + 4, i : i + 4] = PowellSingular.jacobian(x[i : i + 4])
        return j


@problem(23, "penalty I", each(4), 2.24997e-5)
class Penalty1:
    def residuals(x):
        return np.concatenate([np.sqrt(1e-5) * (x - 1.0), np.atleast_1d(np.sum(x**2) - 0.25)])

    def jacobian(x):
        return np.concatenate([np.sqrt(1e-5) * np.eye(len(x)), 2.0 * x[None]])


@problem(24, "penalty II", [0.5] * 4, 9.37629e-6)
class Penalty2:
    def residuals(x):
        n = len(x)
        i = np.arange(2.0, n + 1.0)
        y = np.exp(i / 10.0) + np.exp((i - 1.0) / 10.0)
        root = np.sqrt(1e-5)
        pairs = root * (np.exp(x[1:] / 10.0) + np.exp(x[:-1] / 10.0) - y)
        single = root * (np.exp(x[1:] / 10.0) - np.exp(-0.1))
        last = np.sum(np.arange(n, 0, -1) * x**2) - 1.0
        return np.concatenate([x[:1] - 0.2, pairs, single, np.atleast_1d(last)])

    def jacobian(x):
        n = len(x)
        slope = np.diag(np.sqrt(1e-5) * np.exp(x / 10.0) / 10.0)
        return np.concatenate(
            [
                np.eye(n)[:1],
                slope[1:] + slope[:-1],
                slope[1:],
                2.0 * (np.arange(n, 0, -1) * x)[None],
            ]
        )


@problem(25, "variably dimensioned", 1.0 - each(10) / 10.0, 0.0)
class VariablyDimensioned:
    def residuals(x):
        s = np.sum(each(len(x)) * (x - 1.0))
        return np.concatenate([x - 1.0, np.stack([s, s**2])])

    def jacobian(x):
        i = each(len(x))
        s = np.sum(i * (x - 1.0))
        return np.concatenate([np.eye(len(x)), i[None], 2.0 * s * i[None]])


@problem(26, "trigonometric", np.full(10, 0.1), 0.0, 2.79506e-5)
class Trigonometric:
    def residuals(x):
        n = len(x)
        return n - np.sum(np.cos(x)) + each(n) * (1.0 - np.cos(x)) - np.sin(x)

    def jacobian(x):
        own = np.diag(each(len(x)) * np.sin(x) - np.cos(x))
        return own + np.sin(x)[None]


@problem(27, "Brown almost linear", np.full(10, 0.5), 0.0, 1.0)
class BrownAlmostLinear:
    def residuals(x):
        n = len(x)
        return np.concatenate([x[:-1] + np.sum(x) - (n + 1.0), np.atleast_1d(np.prod(x) - 1.0)])

    def jacobian(x):
        n = len(x)
        others = [np.prod(np.delete(x, i)) for i in range(n)]
        return np.concatenate([np.eye(n)[:-1] + 1.0, np.array([others])])


def grid(n):
    h = 1.0 / (n + 1.0)
    return h, h * each(n)


def shifted(x):
    """Return the left and the right neighbour, 0 beyond the ends."""
    zero = np.zeros(1)
    return np.concatenate([zero, x[:-1]]), np.concatenate([x[1:], zero])


@problem(28, "discrete boundary value", grid(10)[1] * (grid(10)[1] - 1.0), 0.0)
class DiscreteBoundaryValue:
    def residuals(x):
        h, t = grid(len(x))
        left, right = shifted(x)
        return 2.0 * x - left - right + h**2 * (x + t + 1.0) ** 3 / 2.0

    def jacobian(x):
        n = len(x)
        h, t = grid(n)
        own = np.diag(2.0 + 1.5 * h**2 * (x + t + 1.0) ** 2)
        return own - np.eye(n, k=1) - np.eye(n, k=-1)


@problem(29, "discrete integral equation", grid(10)[1] * (grid(10)[1] - 1.0), 0.0)
class DiscreteIntegral:
    def kernel(n):
        h, t = grid(n)
        below = t[None] <= t[:, None]
        near, far = (1.0 - t[:, None]) * t[None], t[:, None] * (1.0 - t[None])
        return h / 2.0 * np.where(below, near, far), t

    def residuals(x):
        kernel, t = DiscreteIntegral.kernel(len(x))
        return x + kernel @ (x + t + 1.0) ** 3

    def jacobian(x):
        kernel, t = DiscreteIntegral.kernel(len(x))
        return np.eye(len(x)) + kernel * (3.0 * (x + t + 1.0) ** 2)[None]


@problem(30, "Broyden tridiagonal", np.full(10, -1.0), 0.0)
class BroydenTridiagonal:
    def residuals(x):
        left, right = shifted(x)
        return (3.0 - 2.0 * x) * x - left - 2.0 * right + 1.0

    def jacobian(x):
        n = len(x)
        return np.diag(3.0 - 4.0 * x) - np.eye(n, k=-1) - 2.0 * np.eye(n, k=1)


@problem(31, "Broyden banded", np.full(10, -1.0), 0.0)
class BroydenBanded:
    def band(n):
        away = np.arange(n)[:, None] - np.arange(n)[None]
        return np.where((away != 0) & (away <= 5) & (away >= -1), 1.0, 0.0)

    def residuals(x):
        return x * (2.0 + 5.0 * x**2) + 1.0 - BroydenBanded.band(len(x)) @ (x * (1.0 + x))

    def jacobian(x):
        own = np.diag(2.0 + 15.0 * x**2)
        return own - BroydenBanded.band(len(x)) * (1.0 + 2.0 * x)[None]


@problem(32, "linear, full rank", np.ones(5), 5.0)
class LinearFullRank:
    m = 10

    def residuals(x):
        spread = np.sum(x) * (2.0 / LinearFullRank.m) + 1.0
        first = x - spread
        rest = np.zeros(LinearFullRank.m - len(x)) - spread
        return np.concatenate([first, rest])

    def jacobian(x):
        return np.eye(LinearFullRank.m, len(x), dtype=x.dtype) - 2.0 / LinearFullRank.m


@problem(33, "linear, rank 1", np.ones(5), 10.0 * 9.0 / (2.0 * 21.0))
class LinearRank1:
    m = 10

    def residuals(x):
        return each(LinearRank1.m) * np.sum(each(len(x)) * x) - 1.0

    def jacobian(x):
        return np.outer(each(LinearRank1.m), each(len(x))).astype(x.dtype)


@problem(34, "linear, rank 1 with zero columns and rows", np.ones(5), (100 + 30 - 6) / (2.0 * 17.0))
class LinearRank1Zeros:
    m = 10

    def residuals(x):
        inner = np.sum(each(len(x))[1:-1] * x[1:-1])
        i = each(LinearRank1Zeros.m)[1:-1] - 1.0
        return np.concatenate([[-1.0], i * inner - 1.0, [-1.0]])

    def jacobian(x):
        j = np.zeros((LinearRank1Zeros.m, len(x)), x.dtype)
        j[1:-1, 1:-1] = np.outer(np.arange(1.0, LinearRank1Zeros.m - 1.0), each(len(x))[1:-1])
        return j


@problem(35, "Chebyquad", each(8) / 9.0, 3.51687e-3)
class Chebyquad:
    def means(n):
        i = each(n)
        return np.where(i % 2 == 0, -1.0 / np.maximum(i**2 - 1.0, 1.0), 0.0)

    def residuals(x):
        y = 2.0 * x - 1.0
        before, now = np.ones(len(x)), y
        found = []
        for _ in range(len(x)):
            found.append(np.mean(now))
            before, now = now, 2.0 * y * now - before
        return np.stack(found) - Chebyquad.means(len(x))

    def jacobian(x):
        y = 2.0 * x - 1.0
        before, now = np.ones_like(y), y
        slope_before, slope = np.zeros_like(y), 2.0 * np.ones_like(y)
        found = []
        for _ in range(len(x)):
            found.append(slope / len(x))
            before, now, slope_before, slope = (
                now,
                2.0 * y * now - before,
                slope,
                4.0 * now + 2.0 * y * slope - slope_before,
            )
        return np.stack(found)
