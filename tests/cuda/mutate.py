"""Are the tests of the kernels any good? Each kernel, broken in one place at a time: ``make mutants``.

    PYTHONPATH=tests/cuda python tests/cuda/mutate.py [-j PROCESSES] [--list] [TARGET ...]

An edit is made by a rule over the text: a barrier is dropped, a mask halved, a comparison moved by one, a term, a
factor or a condition dropped, a stride, a shift or a coefficient changed. The emulated device compiles the edited text,
and the tests of that kernel run on it. An edit that no test notices survives: then either a test is missing, or the
edit changes nothing that counts, which mutants.toml must say, with the reason.

Processes are forks of one that has imported everything, so that an edit costs the compilation and its tests. An edit
that never ends is killed after the work that all tests and their kernels took to compile, and counts as noticed; one
that g++ refuses counts for nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import os
import re
import resource
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ACCEPTED = HERE / "mutants.toml"
MOST_SECONDS = 60
SURVIVED, NOTICED, REFUSED = 0, 1, 3


Key = tuple[str, str, str, int, int]
"""Target, rule, line, which match in it, which of the lines that are alike."""


@dataclass(frozen=True)
class Target:
    """A text that kernels are made of, and how to run the tests that know it.

    Attributes
    ----------
    name : str
    text : str
        It stands verbatim in the sources that are compiled.
    tests : callable
        From the line number of an edit (from 0) to the arguments of pytest.
    """

    name: str
    text: str
    tests: Callable[[int], list[str]]


@dataclass(frozen=True)
class Mutant:
    """One edit: which rule, at which match in the line, and what the whole text becomes."""

    rule: str
    line: int
    place: int
    before: str
    after: str
    text: str = field(repr=False)

    def key(self, target: Target) -> Key:
        """Return what the file of accepted survivors knows it by: it outlives edits of other lines."""
        before = self.before.strip()
        above = [line.strip() for line in target.text.split("\n")[: self.line]]
        return target.name, self.rule, before, self.place, above.count(before)


# ------------------------------------------------------------------------------------------------ rules

_NUMBER = r"(?<![\w.])\d+\.\d{6,}(?:e[+-]?\d+)?"

RULES: list[tuple[str, str, str | Callable[[re.Match[str]], str]]] = [
    ("barrier dropped", r"__sync(?:threads|warp)\(\);", ""),
    ("half the mask", r"0xffffffffu?", "0x0000ffffu"),
    ("half the warp", r"(\w+) = 16; \1 > 0", r"\1 = 8; \1 > 0"),
    ("< to <=", r"(?<= )<(?= )", "<="),
    ("<= to <", r"(?<= )<=(?= )", "<"),
    ("> to >=", r"(?<= )>(?= )", ">="),
    (">= to >", r"(?<= )>=(?= )", ">"),
    ("== to !=", r"(?<= )==(?= )", "!="),
    ("!= to ==", r"(?<= )!=(?= )", "=="),
    ("stride + 1", r"\+= (stride|gridDim\.x|blockDim\.x)", r"+= (\1 + 1)"),
    ("grid without blocks", r"\* blockDim\.x \+ threadIdx\.x", "+ threadIdx.x"),
    ("+ to -", r"(?<=[\w)\]]) \+ ", " - "),
    ("- to +", r"(?<=[\w)\]]) - ", " + "),
    ("* to /", r"(?<=[\w)\]]) \* (?=[\w(-])(?!\(int\)1\b)", " / "),
    ("/ to *", r"(?<=[\w)\]]) / (?=[\w(-])", " * "),
    ("+= to =", r"\+= (?!stride|gridDim|blockDim|rows|1\b)", "= "),
    ("-= to +=", r"-= ", "+= "),
    ("from 1", r"(?<= = )0(?=[;,])", "1"),
    ("top from 0", r"(?<= = )-(?:nnm_infinity<\w+>|infinite)\(\)", "0"),
    ("condition dropped", r"(?<=if \().*(?=\)(?: \{)?$)", "true"),
    ("condition never", r"(?<=if \().*(?=\)(?: \{)?$)", "false"),
    ("second condition dropped", r" && [^;)]+(?=[;)])", ""),
    ("branches exchanged", r"\? ([^?:]+) : ([^?:;,]+)(?=[;,])", r"? \2 : \1"),
    ("shift by one less", r"(?<=>> )\d+|(?<=<< )\d+", lambda m: str(int(m[0]) - 1)),
    ("bit of a word", r"0x[0-9A-Fa-f]{6,}(?=u|ull|\b)", lambda m: f"0x{int(m[0], 16) ^ 0x100:X}"),
    ("coefficient by 1/1000 more", _NUMBER, lambda m: repr(float(m[0]) * 1.001)),
    ("minus dropped", r"(?<=[(,=:?] )-(?=[\w(])|(?<=\()-(?=[\w(])|(?<=return )-(?=[\w(])", ""),
]


# The smaller or the larger of two integers: which of two that are equal is the same.
_INTEGER = r"((?:[\w.+*-]|::|(?<=[^=,]) (?=[^?:=]))+)"
EXTREME = re.compile(
    rf"{_INTEGER} (?:<|<=|>|>=) {_INTEGER} \? (?:\(int\)\(\1\)|\(int\)\1|\1) : \2(?=[;,)])"
    r"|(\w+) - (.+) < (\w+) \? \3 : \4 \+ \5(?=;)"
)
COMPARISONS = ("<", "<=", ">", ">=")


def code_lines(text: str) -> list[str]:
    """Return the lines without comments and literals of strings, each as long as it was."""
    blanked = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
    return blanked.split("\n")


def mutants(text: str) -> Iterator[Mutant]:
    """Yield every edit of every rule."""
    lines, code = text.split("\n"), code_lines(text)
    unread = False  # what stands behind #else is for another compiler
    for at, line in enumerate(code):
        if line.startswith("#"):
            unread = line.startswith("#else") or (unread and not line.startswith("#endif"))
        if unread or line.startswith("#"):
            continue
        stripped = re.sub(r"template <[^>]*>", lambda m: " " * len(m[0]), line)
        extremes = (
            [m.span() for m in EXTREME.finditer(stripped)]
            if re.search(r"\b(long long|int)\b", line)
            else []
        )
        for rule, pattern, replacement in RULES:
            for place, match in enumerate(re.finditer(pattern, stripped.rstrip())):
                if match[0] in COMPARISONS and any(a < match.start() < b for a, b in extremes):
                    continue
                new = (
                    match.expand(replacement)
                    if isinstance(replacement, str)
                    else replacement(match)
                )
                edited = lines[at][: match.start()] + new + lines[at][match.end() :]
                if edited != lines[at]:
                    whole = "\n".join([*lines[:at], edited, *lines[at + 1 :]])
                    yield Mutant(rule, at, place, lines[at], edited, whole)


# ------------------------------------------------------------------------------------------------ targets


# Of a family: the file of its tests, and which of them know a kernel, by words of their names; "*" stands for every
# kernel, and {} for the name of the one. An edit outside of kernels has the tests of those that reach it. Families that
# are not here are tested by test_<family>*.py.
TESTS: dict[str, tuple[str, dict[str, str]]] = {
    "optim": ("test_our_kernels.py", {"*": "optimizer and {}"}),
    "random": (
        "test_our_kernels.py",
        {"random_blocks": "blocks_of_random", "*": "rows_of_random and {}"},
    ),
    "linalg": ("test_our_kernels.py", {"*": "matrix"}),
    "rows": ("test_our_kernels.py", {"*": "row_kernels and {}"}),
    "iterations": (
        "test_iterations.py",
        {
            "row_products": "products_of_rows or not_finite_stays",
            "basis_products": "gram_schmidt",
            "take_away": "gram_schmidt",
            "next_vectors": "run_that_closes",
            "cg_move": "step_of_conjugate",
            "cg_turn": "step_of_conjugate",
            "power_rest": "step_of_powers",
            "power_step": "step_of_powers",
        },
    ),
    "attention": (
        "test_attention_kernels.py",
        {
            "*": "127x129x52x33 or 20x70x1x256 or 33x31x8x3 or few_blocks or masks_biases "
            "or rows_that_see or far_below or any_strides or minus_infinity or large_scores or small_cotangents"
        },
    ),
}

FUNCTION = re.compile(
    r"^(?:template <[^>]*> ?)?\n?(__global__|__device__)[^;{}]*?\b(?!__)(\w+)\([^;{}]*\)\s*\{(?:[^\n]*\}$|.*?^\})",
    re.DOTALL | re.MULTILINE,
)


def kernels_of(text: str, line: int) -> list[str]:
    """Return the kernels that a line belongs to, by what they call; all, where it is in no function."""
    at = len("\n".join(text.split("\n")[:line])) + (line > 0)
    functions = list(FUNCTION.finditer(text))
    wanted = {m[2] for m in functions if m.start() <= at < m.end()}
    if not wanted:
        return [m[2] for m in functions if m[1] == "__global__"]
    seen = set[str]()
    while wanted - seen:
        seen |= wanted
        wanted |= {m[2] for m in functions for w in seen if re.search(rf"\b{w}\b[<(]", m[0])}
    return [m[2] for m in functions if m[1] == "__global__" and m[2] in seen]


def targets() -> list[Target]:
    """Return all texts: the families, the functions that kernels include, and what generators offer."""
    from nnmath_core.device import launch

    sources = HERE.parents[1] / "src" / "_ext"
    found = []
    for path in sorted([*sources.glob("*/*.cu"), *sources.glob("*/*.cuh")]):
        text = launch.read_text(path.name)
        if path.name == "vector.cuh":
            found.append(
                Target("vector", text, lambda line, text=text: functions_tests(text, line))
            )
        else:
            tests = functools.partial(tests_of, path.stem, text)
            found.append(Target(path.name, text, tests))
    return [*found, *generated()]


def tests_of(family: str, text: str, line: int) -> list[str]:
    """Return the arguments of pytest that run the tests of an edit of a line of a family's file."""
    if family in TESTS:
        file, words = TESTS[family]
        chosen = [words.get(k, words.get("*", "")).format(k) for k in kernels_of(text, line)]
        return [str(HERE / file), "-k", " or ".join(f"({w})" for w in dict.fromkeys(chosen))]
    files = sorted(map(str, HERE.glob(f"test_{family}*.py")))
    if not files:
        raise SystemExit(f"mutate: no tests are known of {family}.cu")
    return files


def functions_tests(text: str, line: int) -> list[str]:
    """The tests of the function in which a line of vector.cuh stands, and of those that call it."""
    import test_vector_functions as known

    lines = text.split("\n")
    names = [
        found[1]
        for x in lines[line::-1]
        if (found := re.search(r"^.*__forceinline__.* (nnm_\w+)\(", x))
    ]
    if not names:
        return [str(HERE / "test_vector_functions.py")]
    wanted, seen = {names[0]}, set[str]()
    body = r"__forceinline__ \S+ (nnm_\w+)\(.*?(?=\n(?:\n|template|//|__dev)|\Z)"
    bodies = {found[1]: found[0] for found in re.finditer(body, text, re.DOTALL)}
    while wanted - seen:
        seen |= wanted
        wanted |= {
            who for who, body in bodies.items() for w in seen if re.search(rf"\b{w}\b", body)
        }
    groups = [
        g for g, inside in known.GROUPS.items() if {f"nnm_{x}" for x in inside.split()} & seen
    ]
    return [str(HERE / "test_vector_functions.py"), "-k", " or ".join(groups)]


def generated() -> list[Target]:
    """Return the kernels of the programs of generated_kernels.py."""
    import generated_kernels

    return [
        Target(name, text, lambda line, tests=tests: [str(HERE / tests[0]), *tests[1:]])
        for name, text, tests in generated_kernels.targets()
    ]


# ------------------------------------------------------------------------------------------------ trials

QUIET = [
    *(
        "-p",
        "emulated.plugin",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:unraisableexception",
        "-p",
        "no:threadexception",
        "-p",
        "no:faulthandler",
        "-q",
        "-x",
        "--no-header",
        "--no-summary",
        "--tb=line",
    ),
    *("-o", "filterwarnings=", "-W", "ignore"),
]


def warm() -> None:
    """Import what the trials will need, so that each fork has it."""
    from nnmath_core.device import backend_for

    for place in ("cpu", "cuda:0", "cuda:1"):
        backend_for(place)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"


def collected(files: list[str], then: Callable[[Any], None]) -> None:
    """Call a function with a session of pytest that has collected files: a fork of it need not do so again."""
    import pytest

    class Loop:
        def pytest_runtestloop(self, session: Any) -> bool:
            with contextlib.redirect_stdout(sys.__stdout__):
                then(session)
            return True

    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        pytest.main([*QUIET, "-s", *files], plugins=[Loop()])


def run_tests(session: Any, words: str) -> int:
    """Run the tests of a session whose names have words, up to the first that fails, and return how it ended."""
    from _pytest import mark

    session.config.option.keyword = words
    items = list(session.items)
    mark.deselect_by_keyword(items, session.config)
    failed = False

    class Failures:
        def pytest_runtest_logreport(self, report: Any) -> None:
            nonlocal failed
            if report.failed:
                failed = True
                print(report.longreprtext, flush=True)

    session.config.pluginmanager.register(Failures())
    for item in items:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        if failed:
            return NOTICED
    return SURVIVED if items else 4


class OneByOne:
    """In place of a family's module: each kernel is compiled by itself, when it is asked for."""

    def __init__(self, cupy: Any, source: str) -> None:
        self.cupy, self.source = cupy, source

    def get_function(self, expression: str) -> Any:
        """Return one kernel."""
        module = self.cupy.RawModule(code=self.source, name_expressions=(expression,))
        return module.get_function(expression)


def trial(session: Any, target: Target, mutant: Mutant | None, folder: Path, seconds: int) -> int:
    """Run the tests on an edited text, in this process, which ends with it; without an edit on the text itself."""
    import cupy
    from emulated import build, modules

    from nnmath_core.device import launch
    from nnmath_core.program.cuda.plan import kernel_of

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    os.environ["NNMATH_CUDA_RUN"] = f"mutant-{os.getpid()}"
    out = os.open(folder / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    made, text, reached = modules.compile_source, launch.expanded(target.text), mutant is None
    kernels = kernels_of(target.text, mutant.line if mutant else 0)

    def compile_edited(source: str, *args: Any) -> Path:
        nonlocal reached
        asked = {name.partition("<")[0] for name in (args[-1] or {}).values()}
        if asked.isdisjoint(kernels) and asked and kernels:
            return made(source, *args)  # it is compiled already
        if mutant is not None and text in source:
            source = source.replace(text, launch.expanded(mutant.text), 1)
            reached = True
        try:
            return made(source, *args)
        except build.CompilationError as error:
            print(error)
            os._exit(REFUSED)

    modules.compile_source = compile_edited
    cupy.clear_memo()  # what making the list of targets has compiled
    kernel_of.cache_clear()
    begin = launch.Family.__init__

    def one_by_one(self: launch.Family, cupy: Any, index: int, family: str, source: str) -> None:
        begin(self, cupy, index, family, source)
        self.module = OneByOne(cupy, source)

    launch.Family.__init__ = one_by_one

    *_, option, words = ["", *target.tests(0 if mutant is None else mutant.line)]
    code = run_tests(session, words if option == "-k" else "")
    if not reached and code == 0:
        print("no test compiles this text")
        return 4
    return code


def run_all(
    session: Any,
    target: Target,
    edits: list[Mutant | None],
    jobs: int,
    folder: Path,
    reasons: Reasons,
    seconds: int = MOST_SECONDS,
) -> dict[Mutant | None, int]:
    """Return how each trial ended, and print what survives without a reason."""
    waiting, busy, found = list(reversed(edits)), dict[int, Mutant | None](), {}
    gc.collect()
    gc.freeze()  # the forks need not look at what is here
    while waiting or busy:
        while waiting and len(busy) < jobs:
            edit = waiting.pop()
            pid = os.fork()
            if pid == 0:
                status = 4
                try:
                    status = trial(session, target, edit, folder, seconds)
                finally:
                    os._exit(status)
            busy[pid] = edit
        for pid in list(busy):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                edit = busy.pop(pid)
                # a signal is a crash, or the end of the time: noticed
                code = os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else NOTICED
                if code not in (SURVIVED, NOTICED, REFUSED):
                    print((folder / f"{pid}.txt").read_text()[-3000:])
                    raise SystemExit(
                        f"mutate: the tests of {target.name} could not be run on {edit}"
                    )
                (folder / f"{pid}.txt").unlink(missing_ok=True)
                found[edit] = code
                if edit is not None and code == SURVIVED and not reasons.of(target, edit):
                    which = f"place {edit.place}, nth {edit.key(target)[-1]}"
                    print(f"  {target.name}:{edit.line + 1}: {edit.rule} ({which}) survives")
                    print(f"    {edit.before.strip()}\n    {edit.after.strip()}", flush=True)
        time.sleep(0.005)
    return found


def judge(
    target: Target,
    edits: list[Mutant],
    jobs: int,
    folder: Path,
    reasons: Reasons,
    found: dict[Mutant | None, int],
    session: Any,
) -> None:
    """Put into ``found`` how the trials of the text and of its edits ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    found.update(run_all(session, target, [None], 1, folder, reasons))
    if found[None] == SURVIVED:
        work = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        seconds = min(MOST_SECONDS, int(work) + 5)
        found.update(run_all(session, target, list(edits), jobs, folder, reasons, seconds))


@dataclass(frozen=True)
class Pattern:
    """Edits of lines that are alike in texts of several targets.

    Attributes
    ----------
    target : str
        How the names of the targets begin.
    rules : tuple of str
    line, above : str
        Regular expressions of the whole line before the edit, and of the line above it.
    places : tuple of int
        Which matches of the rule in the line.
    reason : str
    """

    target: str
    rules: tuple[str, ...]
    line: str
    above: str
    places: tuple[int, ...]
    reason: str

    def is_about(self, name: str) -> bool:
        """Whether a target has such edits."""
        return name.startswith(self.target)

    def has(self, target: Target, mutant: Mutant) -> bool:
        """Whether an edit is one of these."""
        above = target.text.split("\n")[mutant.line - 1] if mutant.line else ""
        return (
            self.is_about(target.name)
            and mutant.rule in self.rules
            and mutant.place in self.places
            and re.fullmatch(self.line, mutant.before.strip()) is not None
            and re.fullmatch(self.above, above.strip()) is not None
        )


class Reasons:
    """The survivors that are redundant: those that are named one by one, and those that patterns describe."""

    def __init__(self) -> None:
        rows = tomllib.loads(ACCEPTED.read_text()).get("survivor", []) if ACCEPTED.exists() else []

        def each(x: Any) -> tuple[Any, ...]:
            return tuple(x) if isinstance(x, list) else (x,)

        self.keys: dict[Key, str] = {
            (target, rule, line, place, nth): row["reason"]
            for row in rows
            if "lines" not in row
            for target in each(row["target"])
            for rule in each(row["rule"])
            for line in each(row["line"])
            for place in each(row.get("place", 0))
            for nth in each(row.get("nth", 0))
        }
        self.patterns = [
            Pattern(target, each(row["rule"]), lines, row.get("above", ".*"), places, row["reason"])
            for row in rows
            if "lines" in row
            for places in [each(row.get("place", 0))]
            for target in each(row["target"])
            for lines in each(row["lines"])
        ]

    def but_for(self, names: Collection[str]) -> set[Key | Pattern]:
        """Return all that accept edits, without those that targets of some names may need."""
        return {k for k in self.keys if k[0] not in names} | {
            p for p in self.patterns if not any(map(p.is_about, names))
        }

    def of(self, target: Target, mutant: Mutant) -> Key | Pattern | None:
        """Return what accepts an edit."""
        if mutant.key(target) in self.keys:
            return mutant.key(target)
        return next((p for p in self.patterns if p.has(target, mutant)), None)


def main() -> int:
    """Print what survives and return 1 where a survivor has no reason."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", help="names; by default all")
    parser.add_argument("-j", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--list", action="store_true", help="print the edits and run nothing")
    parser.add_argument("--every", type=int, default=1, help="take one edit of so many")
    parser.add_argument("--first", type=int, default=0, help="from which one on")
    parser.add_argument("--rule", help="a part of a rule's name")
    parser.add_argument("--lines", type=int, nargs="+", help="of the text, from 1")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from emulated import build, plugin

    if plugin.device is None:
        print(f"mutate: nothing is run: {plugin.REASON or 'REAL_GPU is set'}")
        return 1
    reasons, open_ends = Reasons(), 0
    named, known = tuple(options.targets), targets()
    chosen = [t for t in known if not named or t.name.startswith(named)]
    unused = reasons.but_for([t.name for t in known if t not in chosen])
    warm()
    with tempfile.TemporaryDirectory() as folder:
        cache = build.CACHE
        for target in chosen:
            edits = [
                m
                for m in mutants(target.text)
                if (not options.rule or options.rule in m.rule)
                and (not options.lines or m.line + 1 in options.lines)
            ][options.first :: options.every]
            if options.list:
                for m in edits:
                    print(f"{target.name}:{m.line + 1}: {m.rule}: {m.after.strip()}")
                continue
            start = time.monotonic()
            build.CACHE = Path(folder)
            for name in (
                "headers",
                "scheduler",
                "device",
            ):  # the compiled header and the device serve all
                for path in cache.glob(f"{name}*"):
                    if not (Path(folder) / path.name).exists():
                        (Path(folder) / path.name).symlink_to(path)
            found = dict[Mutant | None, int]()
            files = [argument for argument in target.tests(0) if argument.endswith(".py")]
            judged = functools.partial(
                judge, target, edits, options.j, Path(folder), reasons, found
            )
            collected(files, judged)
            if found.pop(None, None) != SURVIVED:
                print(f"mutate: the tests of {target.name} fail as it is")
                return 1
            alive = [m for m in edits if found[m] == SURVIVED]
            refused = sum(found[m] == REFUSED for m in edits)
            explained = [x for m in alive if (x := reasons.of(target, m))]
            print(
                f"{target.name}: {len(edits) - refused} edits, {len(edits) - refused - len(alive)} noticed, "
                f"{len(explained)} redundant, {len(alive) - len(explained)} unexplained; {refused} not compiled; "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )
            unused -= set(explained)
            open_ends += len(alive) - len(explained)
    if unused and not (options.rule or options.lines or options.list or options.every > 1):
        print(*sorted(f"no longer survives: {reason}" for reason in unused), sep="\n")
        open_ends += len(unused)
    return min(open_ends, 1)


if __name__ == "__main__":
    sys.exit(main())
