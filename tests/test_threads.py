"""The pool of threads: every share of every run, and what may come between."""

import copy
import os
import pickle
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core._ext import _threads

ROOT = Path(__file__).parents[1]
LINUX = sys.platform == "linux"
several_cpus = pytest.mark.skipif(_threads.usable_cpus() < 2, reason="needs two CPUs")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
PATIENT = 20  # seconds: other work on the machine may keep a worker away for as long as it likes


@pytest.fixture(autouse=True)
def two_threads():
    with nm.threads(2):
        yield


def python(code, *options, **environment):
    """Run code in a fresh interpreter and return what it printed; standard error must be empty."""
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    begin = "import os, sys, time\nimport nnmath_core as nm\n"
    if "_threads." in code:
        begin += "from nnmath_core._ext import _threads\n"
    run = subprocess.run(
        [sys.executable, *options, "-c", begin + code],
        capture_output=True,
        text=True,
        timeout=120,
        env=env | environment,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.strip()


# A run in several threads, in a fresh interpreter; the machine may be busy, so it is tried for a while.
PARALLEL = """
def parallel(seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got, wrong, _, blas_wrong = _threads.trial(2)
        assert wrong == blas_wrong == 0
        if got == 2:
            return True
        time.sleep(0.004)
    return False
nm.threads(2)
"""


def until_parallel(trial):
    """Repeat a trial until it had two threads, and return its result."""
    end = time.monotonic() + PATIENT
    while time.monotonic() < end:
        result = trial()
        if result[0] == 2:
            return result
        time.sleep(0.004)
    pytest.fail(f"no run had two threads within {PATIENT} s: {_threads.statistics()}")


# ------------------------------------------------------------------------------ the setting


def test_the_number_is_an_int_that_can_be_read_and_set():
    assert nm.threads() == 2
    assert isinstance(nm.threads(), int)
    assert nm.threads(3) == 3
    assert nm.threads() == _threads.number() == 3
    assert repr(nm.threads(4)) == "4"


def test_a_block_restores_the_number_that_was_before():
    with nm.threads(1) as n:
        assert n == nm.threads() == 1
        with nm.threads(5):
            assert nm.threads() == 5
        assert nm.threads() == 1
    assert nm.threads() == 2


def test_a_block_that_fails_restores_it_too():
    with pytest.raises(KeyError), nm.threads(7):
        raise KeyError
    assert nm.threads() == 2


def test_a_setting_can_be_entered_again():
    one = nm.threads(1)
    nm.threads(2)
    for _ in range(2):
        with one:
            assert nm.threads() == 1
        assert nm.threads() == 2


def test_asking_changes_nothing_and_its_answer_restores():
    with nm.threads():
        nm.threads(9)
    assert nm.threads() == 2


def test_the_number_can_be_copied_and_pickled():
    for n in (copy.deepcopy(nm.threads(3)), pickle.loads(pickle.dumps(nm.threads(3)))):
        assert n == 3


@pytest.mark.parametrize("n", [2.0, True, "2", [2]])
def test_what_is_no_integer_is_refused(n):
    with pytest.raises(nm.DtypeError, match=r"^threads: `n` must be a positive integer, got "):
        nm.threads(n)
    assert nm.threads() == 2


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_is_refused(n):
    with pytest.raises(
        nm.DomainError, match=rf"^threads: `n` must be a positive integer, got {n}\. One thread"
    ):
        nm.threads(n)
    assert nm.threads() == 2


def test_more_than_1024_are_refused():
    assert nm.threads(1024) == 1024
    with pytest.raises(nm.DomainError, match=r"^threads: `n` must be at most 1024, got 1025\.$"):
        nm.threads(1025)


def test_without_a_variable_the_number_is_that_of_the_cpus():
    assert int(python("print(nm.threads())")) == _threads.usable_cpus()


@pytest.mark.parametrize(
    ("text", "n"), [("1", 1), ("3", 3), (" 2 ", 2), ("4,2", 4), ("9" * 30, 1024), ("007", 7)]
)
def test_omp_num_threads_is_honoured(text, n):
    assert int(python("print(nm.threads())", "-Werror", OMP_NUM_THREADS=text)) == n


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_omp_num_threads_says_nothing(text):
    printed = python("print(nm.threads())", "-Werror", OMP_NUM_THREADS=text)
    assert int(printed) == _threads.usable_cpus()


@pytest.mark.parametrize("text", ["two", "0", "-2", "1.5", ",2", "0x2", "\u0662"])
def test_a_malformed_omp_num_threads_is_ignored_with_a_warning_that_names_it(text):
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(nm.threads(), nm.threads())
for w in caught:
    print(w.category.__name__, w.message)
"""
    numbers, *caught = python(code, OMP_NUM_THREADS=text, OPENBLAS_NUM_THREADS="1").split("\n")
    assert numbers == f"{_threads.usable_cpus()} {_threads.usable_cpus()}"
    assert caught == [
        "RuntimeWarning threads: the environment variable OMP_NUM_THREADS must be a positive integer, "
        f"got {text!r}. It is ignored: runs use the CPUs of this process."
    ]


@pytest.mark.skipif(not LINUX, reason="sets the affinity mask")
def test_with_one_cpu_in_the_mask_everything_is_serial():
    code = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(nm.threads())
nm.threads(2)
from nnmath_core._ext import _threads as pool
print([pool.trial(2)[0] for _ in range(5)], pool.statistics()["workers"])
"""
    assert python(code) == "1\n[1, 1, 1, 1, 1] 0"


@several_cpus
@pytest.mark.skipif(not LINUX, reason="sets the affinity mask")
def test_a_mask_narrowed_later_makes_runs_serial_and_a_new_setting_looks_again():
    code = """
assert parallel()
every = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(every)})
nm.threads(2)
before = _threads.statistics()
assert all(_threads.trial(2)[:2] == (1, 0) for _ in range(10))
assert _threads.statistics()["late"] == before["late"]
os.sched_setaffinity(0, every)
nm.threads(2)
print(parallel())
"""
    assert python(PARALLEL + code) == "True"


# --------------------------------------------------------------------------------- runs


@several_cpus
def test_every_share_of_ten_thousand_runs_is_right():
    parallel, k, end = 0, 0, time.monotonic() + PATIENT
    while k < 10_000 or (parallel < 1000 and time.monotonic() < end):
        got, wrong, _, blas_wrong = _threads.trial(2, n=k % 300, rounds=1 + k % 5)
        assert wrong == blas_wrong == 0
        parallel += got == 2
        k += 1
        if k % 500 == 0:
            time.sleep(0.004)  # the worker falls asleep
    assert parallel > 0


@pytest.mark.parametrize("nt", [0, 1])
def test_a_run_of_one_thread_is_the_callers(nt):
    before = _threads.statistics()
    assert _threads.trial(nt)[:2] == (1, 0)
    assert _threads.statistics() == before


def test_a_run_has_no_more_threads_than_the_setting():
    with nm.threads(1):
        before = _threads.statistics()
        assert _threads.trial(2)[:2] == (1, 0)
        assert _threads.statistics() == before | {
            "runs": before["runs"] + 1,
            "alone": before["alone"] + 1,
        }
    with nm.threads(1024):
        assert _threads.trial(1024, n=5000)[1] == 0
    assert _threads.statistics()["workers"] < _threads.usable_cpus()


@several_cpus
def test_runs_of_eight_python_threads_at_once_are_right():
    wrong, threads_of, start = [], [], threading.Barrier(8)

    def body():
        start.wait()
        for k in range(1000):
            got, *bad = _threads.trial(2, n=k % 200, rounds=2)
            threads_of.append(got)
            wrong.append(bad[0] + bad[2])

    callers = [threading.Thread(target=body) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(wrong) == 8000
    assert not any(wrong)
    assert set(threads_of) <= {1, 2}


@several_cpus
def test_a_run_inside_of_a_run_is_serial():
    got, wrong, inner, _ = until_parallel(lambda: _threads.trial(2, rounds=10, nested=True))
    assert (got, wrong, inner) == (2, 0, 10)


@several_cpus
def test_a_run_beside_another_is_serial_and_does_not_wait():
    until_parallel(lambda: _threads.trial(2))
    parallel = _threads.statistics()["parallel"]
    slow = threading.Thread(target=until_parallel, args=(lambda: _threads.trial_late(2, 0.5),))
    slow.start()
    while _threads.statistics()["parallel"] == parallel and slow.is_alive():
        time.sleep(0.001)
    busy, begin = _threads.statistics()["busy"], time.monotonic()
    got, wrong, _, _ = _threads.trial(2)
    took = time.monotonic() - begin
    assert slow.is_alive()
    assert (got, wrong) == (1, 0)
    assert took < 0.25  # half of what the other one takes
    assert _threads.statistics()["busy"] > busy
    slow.join()


def test_a_short_run_is_serial():
    before = _threads.statistics()["brief"]
    assert _threads.trial(2, seconds=1e-6)[:2] == (1, 0)
    assert _threads.statistics()["brief"] == before + 1


@several_cpus
def test_a_plan_far_too_short_to_share_asks_the_pool_one_time_in_64():
    f, x = nm.compile(lambda x: x + 1.0), np.zeros(8)
    with nm.threads(2):
        for _ in range(200):  # after the first runs it knows how long it takes
            f(x)
        before = _threads.statistics()["runs"]
        for _ in range(640):
            f(x)
        assert 10 <= _threads.statistics()["runs"] - before <= 20


@several_cpus
def test_a_run_that_is_not_worth_it_wakes_nobody_unless_runs_come_in_a_row():
    until_parallel(lambda: _threads.trial(2))
    time.sleep(0.05)  # the worker sleeps
    before = _threads.statistics()["brief"]
    assert _threads.trial(2, seconds=30e-6)[:2] == (1, 0)
    assert _threads.statistics()["brief"] == before + 1
    end, most = time.monotonic() + PATIENT, 0
    while most < 2 and time.monotonic() < end:
        time.sleep(0.004)
        most = max(_threads.trial(2, seconds=30e-6)[0] for _ in range(50))
    assert most == 2


@several_cpus
def test_a_long_run_waits_longer_for_its_worker():
    assert until_parallel(lambda: _threads.trial(2, seconds=1.0))[1] == 0


@several_cpus
def test_the_barrier_says_how_long_the_others_waited():
    _, waited = until_parallel(lambda: _threads.trial_late(2, 3e-3))
    assert 2e-3 < waited < 1.0  # what the late one needs, less the spinning that is not counted


@several_cpus
def test_runs_that_lose_by_several_threads_make_the_next_ones_serial():
    until_parallel(lambda: _threads.trial(2))
    _threads.feedback(-1.0)  # a good run: forgets what was before
    before = _threads.statistics()
    _threads.feedback(60e-6)
    assert _threads.statistics()["slow"] == before["slow"]
    _threads.feedback(60e-6)  # more than a tenth of a millisecond in a row
    assert _threads.trial(2)[0] == 1
    after = _threads.statistics()
    assert (after["slow"], after["resting"]) == (before["slow"] + 1, before["resting"] + 1)
    until_parallel(lambda: _threads.trial(2))


@several_cpus
def test_a_rest_is_sixteen_times_as_long_as_what_was_lost():
    def rest(lost):
        _threads.feedback(lost)
        begin = time.monotonic()
        resting = _threads.statistics()["resting"]
        while _threads.trial(2) and _threads.statistics()["resting"] > resting:
            resting = _threads.statistics()["resting"]
        return time.monotonic() - begin

    _threads.feedback(-1.0)
    lost = (0.5e-3, 2e-3, 8e-3, 2e-3)
    lengths = [rest(s) for s in lost]
    # it may end late on a busy machine, but not early
    assert all(length > 15 * s for length, s in zip(lengths, lost, strict=True))
    assert rest(10.0) < 80  # two seconds at most, not 160


@pytest.mark.parametrize("lost", [0.0, -1.0, 50e-6, float("nan"), float("-inf")])
def test_feedback_of_good_runs_is_no_reason_to_rest(lost):
    _threads.feedback(-1.0)
    before = _threads.statistics()["slow"]
    _threads.feedback(lost)
    assert _threads.statistics()["slow"] == before
    _threads.feedback(-1.0)


@several_cpus
def test_a_plan_learns_how_long_it_takes_alone_and_is_shared_again():
    x = np.random.default_rng(0).standard_normal((400, 2000))
    f = nm.compile(lambda x: np.tanh(x) * np.exp(x))
    with nm.threads(2):
        f(x)
        before = _threads.statistics()
        f(x)
        after = _threads.statistics()
        assert after["runs"] == before["runs"]  # the second run asks for one thread
        until_parallel(
            lambda: (f(x), _threads.statistics()["parallel"] - after["parallel"] + 1)[1:]
        )


@several_cpus
def test_a_worker_without_work_sleeps():
    until_parallel(lambda: _threads.trial(2))
    time.sleep(0.05)
    begin = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - begin < 0.03  # a spinning thread would have used 0.3


# ------------------------------------------------------------------ what is started, and its end


@pytest.mark.skipif(not LINUX, reason="counts the threads in /proc")
@several_cpus
def test_threads_are_started_by_the_first_run_that_has_several():
    code = """
tasks = lambda: len(os.listdir("/proc/self/task"))
counts = [tasks()]
nm.threads(2)
_threads.trial(1)
_threads.trial(2, seconds=1e-6)
counts.append(tasks())
_threads.trial(2)
counts.append(tasks())
print(counts)
"""
    assert python(code, OMP_NUM_THREADS="1") == "[1, 1, 2]"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
@several_cpus
def test_workers_take_no_signals():
    code = """
assert parallel()
worker, = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
status = dict(line.split(":", 1) for line in open(f"/proc/self/task/{worker}/status"))
blocked = int(status["SigBlk"], 16)
print([bool(blocked >> n - 1 & 1) for n in (2, 10, 14, 15)])  # INT, USR1, ALRM, TERM
"""
    assert python(PARALLEL + code, OMP_NUM_THREADS="1") == "[True, True, True, True]"


FORK = """
def child(body):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(w, repr(body()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(w)
    text = b""
    while part := os.read(r, 4096):
        text += part
    os.close(r)
    assert os.waitpid(pid, 0)[1] == 0
    return text.decode()
def runs():
    alone = _threads.statistics()["alone"]
    seen = {_threads.trial(2)[:2] for _ in range(50)}
    assert _threads.statistics()["alone"] == alone + 50  # nothing was tried
    return seen, _threads.statistics()["workers"], int(nm.threads())
"""


@several_cpus
@needs_fork
def test_a_forked_child_is_serial_and_the_parent_goes_on():
    code = """
assert parallel()
print(child(runs), child(lambda: len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 1))
print(child(lambda: child(runs)))
assert parallel()
"""
    printed = python(PARALLEL + FORK + code, "-Wignore::DeprecationWarning", OMP_NUM_THREADS="1")
    assert re.sub("[\"']", "", printed) == "({(1, 0)}, 0, 2) 1\n({(1, 0)}, 0, 2)"


@several_cpus
@needs_fork
def test_a_child_forked_before_the_first_run_is_serial_too():
    printed = python(PARALLEL + FORK + "print(child(runs))\nassert parallel()", OMP_NUM_THREADS="1")
    assert printed == "({(1, 0)}, 0, 2)"


@several_cpus
@needs_fork
def test_children_forked_while_another_thread_runs_are_serial():
    code = """
import threading
stop = threading.Event()
def body():
    while not stop.is_set():
        assert _threads.trial(2, rounds=50)[1] == 0
thread = threading.Thread(target=body, daemon=True)
thread.start()
print({child(runs) for _ in range(40)})
stop.set()
thread.join()
assert parallel()
print(_threads.blas_threads())
"""
    for blas in ("1", "2"):
        printed = python(
            PARALLEL + FORK + code, "-Wignore::DeprecationWarning", OMP_NUM_THREADS=blas
        )
        assert printed.replace('"', "") == "{'({(1, 0)}, 0, 2)'}\n" + blas


@several_cpus
@needs_fork
def test_processes_of_multiprocessing_by_fork_are_serial():
    code = """
import multiprocessing
assert parallel()
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(set(pool.map(_threads.trial, [2] * 60)))
assert parallel()
"""
    printed = python(PARALLEL + code, "-Wignore::DeprecationWarning", OMP_NUM_THREADS="1")
    assert printed == "{(1, 0, 0, 0)}"


@several_cpus
def test_processes_of_multiprocessing_by_spawn_have_threads():
    code = """
import multiprocessing
with multiprocessing.get_context("spawn").Pool(1) as pool:
    pool.map(_threads.set_number, [2])
    end, seen = time.monotonic() + 20, set()
    while (2, 0, 0, 0) not in seen and time.monotonic() < end:
        seen.update(pool.map(_threads.trial, [2] * 20))
    print(max(seen))
"""
    assert python(code, OMP_NUM_THREADS="1") == "(2, 0, 0, 0)"


@several_cpus
@pytest.mark.parametrize(
    "code",
    [
        "print(parallel())",
        "import atexit\natexit.register(lambda: print(_threads.trial(2)[1] == 0))\nparallel()",
        "parallel()\n_threads.end()\n_threads.end()\nprint(_threads.trial(2)[:2] == (1, 0))",
        "parallel()\nprint(True, flush=True)\nos._exit(0)",
        # a thread that nobody waits for is in its runs when the interpreter ends
        """
import threading
def body():
    while True:
        _threads.trial(2, n=2000, rounds=20)
threading.Thread(target=body, daemon=True).start()
parallel()
print(True)
""",
        "class Late:\n    def __del__(self): _threads.trial(2)\nlate = Late()\nprint(parallel())",
    ],
    ids=["at once", "in a handler", "ended twice", "without handlers", "daemon", "in a finaliser"],
)
def test_the_interpreter_ends_after_a_run(code):
    begin = time.monotonic()
    assert python(PARALLEL + code) == "True"
    assert time.monotonic() - begin < 60


@several_cpus
def test_the_workers_leave_at_the_end():
    code = """
assert parallel()
before = _threads.statistics()["workers"]
_threads.end()
print(before, _threads.statistics()["workers"])
"""
    assert python(PARALLEL + code) == "1 0"


# ---------------------------------------------------------------------------------- BLAS


controlled = pytest.mark.skipif("one thread" not in _threads.blas(), reason=_threads.blas())


@several_cpus
@controlled
def test_blas_has_one_thread_inside_of_runs_and_its_own_number_after():
    code = """
assert _threads.blas_threads() == 2
assert parallel()                  # asks BLAS from inside
print(_threads.blas_threads())
nm.threads(1)
assert _threads.trial(2)[3] == 0   # serial runs too
print(_threads.blas_threads())
import threading
def body():
    for _ in range(300):
        assert _threads.trial(2)[1::2] == (0, 0)
threads = [threading.Thread(target=body) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(_threads.blas_threads())
"""
    assert python(PARALLEL + code, OMP_NUM_THREADS="2") == "2\n2\n2"


@controlled
def test_what_blas_was_set_to_between_runs_is_kept():
    code = """
for n in (1, 2, 1):
    _threads.set_blas_threads(n)
    _threads.trial(2)
    print(_threads.blas_threads())
"""
    assert python(code, OMP_NUM_THREADS="2").split() == ["1", "2", "1"]


@several_cpus
@controlled
@needs_fork
def test_a_child_forked_from_a_run_gets_back_the_number_of_its_blas():
    code = """
import threading
stop = threading.Event()
def body():
    while not stop.is_set():
        _threads.trial(2, n=20000, rounds=200)
thread = threading.Thread(target=body, daemon=True)
thread.start()
def blas():
    _threads.trial(2)
    return _threads.blas_threads()
print({child(blas) for _ in range(20)})
stop.set()
thread.join()
"""
    printed = python(PARALLEL + FORK + code, "-Wignore::DeprecationWarning", OMP_NUM_THREADS="2")
    assert printed == "{'2'}"


def test_a_blas_that_cannot_be_set_is_said_to_be_so(tmp_path):
    from nnmath_core._ext import _cpu

    assert _threads.find_blas(_cpu.__file__) == "not controlled: SciPy's BLAS is no OpenBLAS"
    assert _threads.find_blas(str(tmp_path / "none.so")).startswith("not controlled: ")
    assert nm.show_config(mode="dicts")["threads"] == {"number": 2, "blas": _threads.blas()}


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize(
    ("prefix", "suffix", "parallel", "want"),
    [
        ("scipy_openblas", "", 1, "scipy_openblas"),
        ("scipy_openblas", "64_", 1, "scipy_openblas64_"),
        ("openblas", "", 1, "openblas"),
        ("openblas", "", 0, "has no threads of its own"),
        ("openblas", "", 2, "not controlled: it has the threads of OpenMP"),
    ],
)
def test_the_functions_of_openblas_are_found_by_any_of_their_names(
    tmp_path, prefix, suffix, parallel, want
):
    source = tmp_path / "blas.c"
    source.write_text(f"""
static int threads = 3;
void {prefix}_set_num_threads{suffix}(int n) {{ threads = n; }}
int {prefix}_get_num_threads{suffix}(void) {{ return threads; }}
int {prefix}_get_parallel{suffix}(void) {{ return {parallel}; }}
""")
    library = tmp_path / "libblas.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    found = _threads.find_blas(str(library))
    if isinstance(found, str):
        assert found.startswith(want)
    else:
        name, put, ask = found
        put(5)
        assert (name, ask()) == (want, 5)


# ------------------------------------------------------------------------------ without Python


FLAGS = {
    "plain": ["-O2"],
    "condition": ["-O2", "-DNNM_NO_FUTEX"],
    "sanitized": ["-O1", "-g", "-fsanitize=thread"],
    "condition-sanitized": ["-O1", "-g", "-fsanitize=thread", "-DNNM_NO_FUTEX"],
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder, built = tmp_path_factory.mktemp("pool"), {}

    def build(kind):
        if kind not in built:
            cc = sysconfig.get_config_var("CC").split()[0]
            cc = shutil.which("cc") or shutil.which(cc) or pytest.skip("needs a C compiler")
            plan = ROOT / "src/_ext/plan"
            sources = [plan / "pool.c", plan / "waiting.c", ROOT / "tests/pool_driver.c"]
            command = [
                cc,
                "-std=c11",
                "-Wall",
                "-Wextra",
                *FLAGS[kind],
                "-pthread",
                "-I",
                ROOT / "src/_ext",
            ]
            run = subprocess.run(
                [*command, *sources, "-o", folder / kind], capture_output=True, text=True
            )
            if run.returncode and "sanitized" in kind:
                pytest.skip("the compiler has no thread sanitizer")
            assert (run.returncode, run.stderr) == (0, "")
            built[kind] = folder / kind
        return built[kind]

    return build


def counts_of(command):
    run = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "WARNING: ThreadSanitizer" not in run.stderr
    words = run.stdout.split()
    return (
        dict(zip((w.rstrip("_") for w in words[::2]), map(int, words[1::2]), strict=True))
        if words
        else {}
    )


@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize(
    "arguments", [(2, 2000, 1), (2, 400, 8), (4, 1000, 1, 4), (7, 200, 4, 8)], ids=str
)
def test_the_pool_in_c_is_right(driver, kind, arguments):
    threads, runs, callers, *_ = arguments
    counts = counts_of([driver(kind), *arguments])
    assert counts["wrong"] == counts["left"] == 0
    assert counts["runs"] == runs * callers
    kinds = ("fewer", "late", "resting", "busy", "brief", "alone")
    serial = sum(counts[name] for name in kinds)
    assert serial + counts["parallel"] == counts["runs"]
    assert counts["workers"] <= threads - 1


@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
def test_threads_that_share_one_cpu_finish_and_are_right(driver):
    cpu = min(os.sched_getaffinity(0))
    begin = time.monotonic()
    counts = counts_of(["taskset", "-c", cpu, driver("plain"), 4, 1000, 2, 4])
    assert counts["wrong"] == counts["left"] == 0
    assert time.monotonic() - begin < 60
