"""What the tests of iterations share: matrices of a known spectrum, and bars that are watched."""

import sys
import types

import numpy as np


def with_spectrum(rng, w, dtype=np.float64):
    """Return a symmetric matrix whose eigenvalues are w, to rounding in dtype."""
    q = np.linalg.qr(rng.standard_normal((len(w), len(w))))[0]
    a = (q * w) @ q.T
    return ((a + a.T) / 2).astype(dtype)


def watched_bars(monkeypatch):
    """Put a stand-in in the place of tqdm, and return the list of the bars that are made."""
    bars = []

    class Bar(types.SimpleNamespace):
        def __init__(self, **options):
            super().__init__(**options, n=0, open=True)
            bars.append(self)

        def set_postfix(self, **values):
            self.steps = values["steps"]

        def close(self):
            self.open = False

    auto = types.ModuleType("tqdm.auto")
    auto.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)
    return bars
