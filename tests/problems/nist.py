"""The 27 nonlinear regressions of NIST's Statistical Reference Datasets, in plain NumPy.

Each model is `model(b, x)`, with its derivatives by hand, one column a parameter, in
`slopes(b, x)`. Both take complex parameters. Data, starts and certified values are in
``nist_strd.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_name("nist_strd.json")


@dataclass(frozen=True)
class Regression:
    """A model, its data, two starts and the certified solution."""

    name: str
    model: Callable
    slopes: Callable
    x: np.ndarray
    y: np.ndarray
    starts: tuple[np.ndarray, ...]
    certified: np.ndarray
    residual_sum_of_squares: float

    def loss(self, b):
        """Return the sum of squares."""
        return np.sum((self.model(b, self.x) - self.y) ** 2)

    def gradient(self, b):
        """Return its gradient by hand."""
        return 2.0 * (self.slopes(b, self.x).T @ (self.model(b, self.x) - self.y))


def columns(*slopes):
    return np.stack(np.broadcast_arrays(*slopes), axis=1)


# --------------------------------------------------------------------------- exponential models
def saturation(b, x):
    return b[0] * (1.0 - np.exp(-b[1] * x))


def saturation_slopes(b, x):
    decay = np.exp(-b[1] * x)
    return columns(1.0 - decay, b[0] * x * decay)


def damped_ratio(b, x):
    return np.exp(-b[0] * x) / (b[1] + b[2] * x)


def damped_ratio_slopes(b, x):
    below = b[1] + b[2] * x
    y = np.exp(-b[0] * x) / below
    return columns(-x * y, -y / below, -x * y / below)


def bell(b, x):
    return b[0] / b[1] * np.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


def bell_slopes(b, x):
    z = (x - b[2]) / b[1]
    e = np.exp(-0.5 * z**2)
    return columns(e / b[1], b[0] / b[1] ** 2 * e * (z**2 - 1.0), b[0] / b[1] ** 2 * e * z)


def two_peaks(b, x):
    return (
        b[0] * np.exp(-b[1] * x)
        + b[2] * np.exp(-((x - b[3]) ** 2) / b[4] ** 2)
        + b[5] * np.exp(-((x - b[6]) ** 2) / b[7] ** 2)
    )


def two_peaks_slopes(b, x):
    decay = np.exp(-b[1] * x)
    peaks = []
    for height, centre, width in (b[2:5], b[5:8]):
        e = np.exp(-((x - centre) ** 2) / width**2)
        z = 2.0 * (x - centre) / width**2
        peaks += [e, height * e * z, height * e * z * (x - centre) / width]
    return columns(decay, -b[0] * x * decay, *peaks)


def three_decays(b, x):
    return b[0] * np.exp(-b[1] * x) + b[2] * np.exp(-b[3] * x) + b[4] * np.exp(-b[5] * x)


def three_decays_slopes(b, x):
    parts = []
    for a, rate in (b[0:2], b[2:4], b[4:6]):
        decay = np.exp(-rate * x)
        parts += [decay, -a * x * decay]
    return columns(*parts)


def arrhenius(b, x):
    return b[0] * np.exp(b[1] / (x + b[2]))


def arrhenius_slopes(b, x):
    e = np.exp(b[1] / (x + b[2]))
    return columns(e, b[0] * e / (x + b[2]), -b[0] * b[1] * e / (x + b[2]) ** 2)


def two_decays(b, x):
    return b[0] + b[1] * np.exp(-x * b[3]) + b[2] * np.exp(-x * b[4])


def two_decays_slopes(b, x):
    fast, slow = np.exp(-x * b[3]), np.exp(-x * b[4])
    return columns(1.0, fast, slow, -b[1] * x * fast, -b[2] * x * slow)


def breakdown(b, x):
    return b[0] - b[1] * x[0] * np.exp(-b[2] * x[1])


def breakdown_slopes(b, x):
    e = np.exp(-b[2] * x[1])
    return columns(1.0, -x[0] * e, b[1] * x[0] * x[1] * e)


def logistic(b, x):
    return b[0] / (1.0 + np.exp(b[1] - b[2] * x))


def logistic_slopes(b, x):
    e = np.exp(b[1] - b[2] * x)
    fall = b[0] * e / (1.0 + e) ** 2
    return columns(1.0 / (1.0 + e), -fall, x * fall)


def richards(b, x):
    return b[0] / (1.0 + np.exp(b[1] - b[2] * x)) ** (1.0 / b[3])


def richards_slopes(b, x):
    e = np.exp(b[1] - b[2] * x)
    power = (1.0 + e) ** (-1.0 / b[3])
    fall = b[0] * power * e / (1.0 + e) / b[3]
    return columns(power, -fall, x * fall, b[0] * power * np.log(1.0 + e) / b[3] ** 2)


# ------------------------------------------------------------------------------ rational models
def cubic_ratio(b, x):
    above = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    return above / (1.0 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def cubic_ratio_slopes(b, x):
    below = 1.0 + b[4] * x + b[5] * x**2 + b[6] * x**3
    y = cubic_ratio(b, x)
    top = [x**k / below for k in range(4)]
    return columns(*top, *[-y * x**k / below for k in (1, 2, 3)])


def quadratic_ratio(b, x):
    return (b[0] + b[1] * x + b[2] * x**2) / (1.0 + b[3] * x + b[4] * x**2)


def quadratic_ratio_slopes(b, x):
    below = 1.0 + b[3] * x + b[4] * x**2
    y = quadratic_ratio(b, x)
    return columns(*[x**k / below for k in range(3)], -y * x / below, -y * x**2 / below)


def enzyme(b, x):
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def enzyme_slopes(b, x):
    below = x**2 + x * b[2] + b[3]
    y = enzyme(b, x)
    return columns((x**2 + x * b[1]) / below, b[0] * x / below, -y * x / below, -y / below)


def adsorption(b, x):
    return b[0] * b[1] * x / (1.0 + b[1] * x)


def adsorption_slopes(b, x):
    below = 1.0 + b[1] * x
    return columns(b[1] * x / below, b[0] * x / below**2)


# ------------------------------------------------------------------------- miscellaneous models
def magnetization(b, x):
    return b[0] * (b[1] + x) ** (-1.0 / b[2])


def magnetization_slopes(b, x):
    power = (b[1] + x) ** (-1.0 / b[2])
    return columns(
        power,
        -b[0] / b[2] * power / (b[1] + x),
        b[0] * power * np.log(b[1] + x) / b[2] ** 2,
    )


def power_law(b, x):
    return b[0] * x ** b[1]


def power_law_slopes(b, x):
    return columns(x ** b[1], b[0] * x ** b[1] * np.log(x))


def waves(b, x):
    year = 2.0 * np.pi * x / 12.0
    y = b[0] + b[1] * np.cos(year) + b[2] * np.sin(year)
    for period, cosine, sine in ((b[3], b[4], b[5]), (b[6], b[7], b[8])):
        phase = 2.0 * np.pi * x / period
        y = y + cosine * np.cos(phase) + sine * np.sin(phase)
    return y


def waves_slopes(b, x):
    year = 2.0 * np.pi * x / 12.0
    parts = [1.0, np.cos(year), np.sin(year)]
    for period, cosine, sine in ((b[3], b[4], b[5]), (b[6], b[7], b[8])):
        phase = 2.0 * np.pi * x / period
        turn = (cosine * np.sin(phase) - sine * np.cos(phase)) * phase / period
        parts += [turn, np.cos(phase), np.sin(phase)]
    return columns(*parts)


def binding(b, x):
    return b[0] * (1.0 - (1.0 + b[1] * x / 2.0) ** -2.0)


def binding_slopes(b, x):
    q = 1.0 + b[1] * x / 2.0
    return columns(1.0 - q**-2.0, b[0] * x * q**-3.0)


def root_binding(b, x):
    return b[0] * (1.0 - (1.0 + 2.0 * b[1] * x) ** -0.5)


def root_binding_slopes(b, x):
    q = 1.0 + 2.0 * b[1] * x
    return columns(1.0 - q**-0.5, b[0] * x * q**-1.5)


def quantum_defect(b, x):
    return b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi


def quantum_defect_slopes(b, x):
    away = x - b[3]
    square = (away**2 + b[2] ** 2) * np.pi
    return columns(1.0, -x, -away / square, -b[2] / square)


MODELS = {
    "Bennett5": (magnetization, magnetization_slopes),
    "BoxBOD": (saturation, saturation_slopes),
    "Chwirut1": (damped_ratio, damped_ratio_slopes),
    "Chwirut2": (damped_ratio, damped_ratio_slopes),
    "DanWood": (power_law, power_law_slopes),
    "ENSO": (waves, waves_slopes),
    "Eckerle4": (bell, bell_slopes),
    "Gauss1": (two_peaks, two_peaks_slopes),
    "Gauss2": (two_peaks, two_peaks_slopes),
    "Gauss3": (two_peaks, two_peaks_slopes),
    "Hahn1": (cubic_ratio, cubic_ratio_slopes),
    "Kirby2": (quadratic_ratio, quadratic_ratio_slopes),
    "Lanczos1": (three_decays, three_decays_slopes),
    "Lanczos2": (three_decays, three_decays_slopes),
    "Lanczos3": (three_decays, three_decays_slopes),
    "MGH09": (enzyme, enzyme_slopes),
    "MGH10": (arrhenius, arrhenius_slopes),
    "MGH17": (two_decays, two_decays_slopes),
    "Misra1a": (saturation, saturation_slopes),
    "Misra1b": (binding, binding_slopes),
    "Misra1c": (root_binding, root_binding_slopes),
    "Misra1d": (adsorption, adsorption_slopes),
    "Nelson": (breakdown, breakdown_slopes),
    "Rat42": (logistic, logistic_slopes),
    "Rat43": (richards, richards_slopes),
    "Roszman1": (quantum_defect, quantum_defect_slopes),
    "Thurber": (cubic_ratio, cubic_ratio_slopes),
}


def regressions() -> list[Regression]:
    """Return all of them, by name."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))["problems"]
    found = []
    for name, (model, slopes) in MODELS.items():
        entry = stored[name]
        data = np.array(entry["data"]).T
        y = np.log(data[0]) if name == "Nelson" else data[0]
        found.append(
            Regression(
                name,
                model,
                slopes,
                data[1] if len(data) == 2 else data[1:],
                y,
                tuple(map(np.array, entry["starts"])),
                np.array(entry["certified"]),
                entry["residual_sum_of_squares"],
            )
        )
    return found
