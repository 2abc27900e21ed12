"""Long graphs, release without recursion, memory freed by the sweep, nothing that grows."""

import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest

import nnmath_core as nm


def run(code):
    """Run a program in a fresh interpreter; a crash shows as its exit status."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def long_chain(x, n):
    for _ in range(n):
        x = x * 0.999999
    return np.sum(x)


def test_a_hundred_thousand_operations_differentiate():
    n = 100_000
    g = nm.grad(long_chain)(np.ones(2), n)
    np.testing.assert_allclose(g, 0.999999**n, rtol=n * np.finfo(float).eps)
    _, t = nm.jvp(lambda x: long_chain(x, n), (np.ones(2),), (np.ones(2),))
    np.testing.assert_allclose(t, 2 * 0.999999**n, rtol=n * np.finfo(float).eps)


def test_a_wide_graph_of_a_hundred_thousand_operations_differentiates():
    def f(x):
        total = 0.0
        for i in range(50_000):
            total = total + x * float(i)
        return total

    assert nm.grad(f)(1.0) == pytest.approx(50_000 * 49_999 / 2, rel=50_000 * np.finfo(float).eps)


@pytest.mark.parametrize("stack", [None, 256 * 1024])
def test_a_million_operations_are_dropped_without_overflow(stack):
    """An exception in the function, and a deleted pullback; on the main thread and on a small stack."""
    out = run(f"""
        import threading, numpy as np, nnmath_core as nm

        def chain(x, n=1_000_000):
            for _ in range(n):
                x = x * 0.999999
            return x

        def broken(x):
            y = chain(x)
            raise RuntimeError("dropped")

        def work():
            try:
                nm.grad(broken)(np.ones(1))
            except RuntimeError as e:
                print(e)
            y, pull = nm.vjp(chain, np.ones(1))
            del pull, y
            print("released")

        if {stack!r} is None:
            work()
        else:
            threading.stack_size({stack!r})
            t = threading.Thread(target=work)
            t.start()
            t.join()
        """)
    assert out.split() == ["dropped", "released"]


def test_the_sweep_frees_what_it_has_used():
    """Traced memory seen by the rules falls as the sweep goes: peak = forward + a few arrays."""
    count, size = 40, 1 << 16
    seen = []

    def rule(xs, y, g):
        seen.append(tracemalloc.get_traced_memory()[0])
        return (g * xs[0],)

    f = nm.custom_rule(lambda x: 0.5 * x * x, vjp=rule)

    def chain(x):
        for _ in range(count):
            x = f(x) + 0.5
        return np.sum(x)

    x = np.ones(size)  # the fixed point of a step
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        nm.grad(chain)(x)
    finally:
        tracemalloc.stop()
    arrays = [(m - before) / (8 * size) for m in seen]
    # a step keeps its operand and its output; each rule that has run has released both
    assert arrays[0] >= count
    assert arrays[0] - arrays[20] >= 30
    assert arrays[-1] <= 8


def test_nothing_grows_over_ten_thousand_steps_without_the_cyclic_collector():
    run("""
        import gc, resource, numpy as np, nnmath_core as nm
        gc.disable()
        x, v = np.ones(10), np.ones(10)
        f = lambda x: np.sum(np.tanh(x * 2.0) * x)
        g = nm.grad(f)

        def steps(n):
            for _ in range(n):
                g(x)
                nm.hvp(f, (x,), (v,))
                nm.vmap(g)(x[None])

        steps(500)
        objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        steps(10_000)
        assert len(gc.get_objects()) - objects < 50, len(gc.get_objects()) - objects
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        assert grown < 1024, f"{grown} KiB"
        """)
