"""einsum: every pattern against NumPy's own loop, planning, errors, and the other spellings of a product.

Operands hold small integers in floating point, so that values and derivatives of every order are exact, whatever the
order of the products; comparisons are equalities.
"""

import itertools
import string

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.autodiff.ops import einsum as module
from nnmath_core.errors import DtypeError, ShapeError, TraceError

rng_of = np.random.default_rng


def oracle(subscripts, *xs, **kw):
    """NumPy's loop over all indices at once: no path, no BLAS."""
    return np.einsum(subscripts, *xs, optimize=False, **kw)


def whole(rng, shape, dtype=np.float64):
    """Small integers in a dtype."""
    x = rng.integers(-3, 4, shape).astype(dtype)
    if np.dtype(dtype).kind == "c":
        x = x + np.array(1j, dtype) * rng.integers(-3, 4, shape).astype(dtype)
    return x


def random_spec(rng, *, most=4):
    """Subscripts and shapes of 1 to `most` operands, with all that the notation has."""
    count = int(rng.integers(1, most + 1))
    letters = list(rng.permutation(list("ijkLmZ"))[: rng.integers(1, 6)])
    length = {c: int(rng.choice([0, 1, 2, 3, 2, 3, 2, 3])) for c in letters}
    dots = [int(n) for n in rng.choice([1, 2, 3], rng.integers(0, 3))]
    with_dots = bool(rng.random() < 0.4)
    parts, shapes = [], []
    for _ in range(count):
        named = list(rng.choice(letters, rng.integers(0, 4)))  # repeats are diagonals
        own = {c: 1 if rng.random() < 0.15 else length[c] for c in named}
        shape = [own[c] for c in named]
        part = "".join(named)
        if with_dots and rng.random() < 0.7:
            at = int(rng.integers(0, len(named) + 1))
            width = int(rng.integers(0, len(dots) + 1))
            extra = [1 if rng.random() < 0.2 else n for n in dots[len(dots) - width :]]
            part = part[:at] + "..." + part[at:]
            shape[at:at] = extra
        parts.append(part)
        shapes.append(tuple(shape))
    text = ",".join(parts)
    if rng.random() < 0.7:
        present = sorted(set("".join(parts)) - {"."})
        out = "".join(rng.permutation(present)[: rng.integers(0, len(present) + 1)])
        if "..." in text:
            at = int(rng.integers(0, len(out) + 1))
            out = out[:at] + "..." + out[at:]
        text += "->" + out
    return text, shapes


def case(seed):
    """A random specification and operands of it."""
    rng = rng_of([71, seed])
    text, shapes = random_spec(rng)
    return text, [whole(rng, s) for s in shapes], rng


# ------------------------------------------------------------------------------- against NumPy
def same(got, want, what):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert np.array_equal(got, want), what


def derivative(text, xs, ts):
    """The directional derivative, by multilinearity: one operand after the other replaced."""
    return sum(oracle(text, *xs[:i], t, *xs[i + 1 :]) for i, t in enumerate(ts))


def mixed(text, xs, ts, us):
    """The second derivative along two directions, by multilinearity."""
    total = 0.0 * oracle(text, *xs)
    for i, j in itertools.permutations(range(len(xs)), 2):
        total = total + oracle(
            text, *[ts[i] if k == i else us[j] if k == j else x for k, x in enumerate(xs)]
        )
    return total


@pytest.mark.parametrize("block", range(12))
def test_random_specifications_agree_with_numpy_in_value_and_derivatives(block):
    for seed in range(50 * block, 50 * (block + 1)):
        text, xs, rng = case(seed)
        f = lambda *xs, text=text: np.einsum(text, *xs)  # noqa: E731
        want = oracle(text, *xs)
        plain = nm.numpy.einsum(text, *xs)
        same(plain, want, text)
        assert type(plain) is type(want), text
        assert plain.dtype == want.dtype, text
        ts, us = ([whole(rng, x.shape) for x in xs] for _ in range(2))
        g = whole(rng, want.shape)
        value, forward = nm.jvp(f, tuple(xs), tuple(ts))
        same(value, want, text)
        same(forward, derivative(text, xs, ts), text)
        value, pull = nm.vjp(f, *xs)
        same(value, want, text)
        back = pull(g)
        assert [c.shape for c in back] == [x.shape for x in xs], text
        assert sum(float(np.sum(c * t)) for c, t in zip(back, ts, strict=True)) == float(
            np.sum(g * forward)
        ), text

        def pulled(*xs, f=f, g=g):
            return nm.vjp(f, *xs)[1](g)

        second = float(np.sum(g * mixed(text, xs, ts, us)))
        for hv in (
            nm.jvp(pulled, tuple(xs), tuple(ts))[1],
            nm.vjp(lambda *zs, f=f, ts=tuple(ts): nm.jvp(f, zs, ts)[1], *xs)[1](g),
            nm.vjp(pulled, *xs)[1](tuple(ts)),
        ):
            assert sum(float(np.sum(h * u)) for h, u in zip(hv, us, strict=True)) == second, text


def test_the_random_specifications_reach_every_part_of_the_notation():
    seen = dict.fromkeys(
        "diagonal trace ellipsis implicit ones empty scalar many single outer".split(), 0
    )
    for seed in range(600):
        text, xs, _ = case(seed)
        left, arrow, out = text.partition("->")
        parts = [p.replace("...", "") for p in left.split(",")]
        repeated = [c for p in parts for c in set(p) if p.count(c) > 1]
        seen["diagonal"] += any(c in out for c in repeated)
        seen["trace"] += bool(arrow) and any(c not in out for c in repeated)
        seen["ellipsis"] += "..." in text
        seen["implicit"] += not arrow
        seen["ones"] += any(1 in x.shape for x in xs)
        seen["empty"] += any(0 in x.shape for x in xs)
        seen["scalar"] += any(x.ndim == 0 for x in xs)
        seen["many"] += len(xs) > 2
        seen["single"] += len(xs) == 1
        seen["outer"] += len(xs) > 1 and not set(parts[0]) & set("".join(parts[1:]))
    assert min(seen.values()) >= 25, seen


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.complex64, np.complex128, np.int8, np.int64, np.bool_]
)
def test_every_dtype_is_kept(dtype):
    for seed in range(150):
        rng = rng_of([72, seed])
        text, shapes = random_spec(rng, most=3)
        xs = [whole(rng, s, dtype) for s in shapes]
        want, got = oracle(text, *xs), nm.numpy.einsum(text, *xs)
        same(got, want, text)
        assert got.dtype == want.dtype == np.dtype(dtype), text
        staged = nm.stage(lambda *xs, text=text: np.einsum(text, *xs), *xs)
        same(staged(*xs), want, text)
        assert staged.outputs[0].dtype == want.dtype, text


def test_float32_gradients_are_float32_and_mixed_operands_promote_once():
    rng = rng_of(5)
    x, y, z = whole(rng, (2, 3), np.float32), whole(rng, (3, 4)), whole(rng, (4,), np.float32)
    gx, gy, gz = nm.grad(lambda x, y, z: np.einsum("ij,jk,k->", x, y, z), argnums=(0, 1, 2))(
        x, y, z
    )
    assert (gx.dtype, gy.dtype, gz.dtype) == (np.float32, np.float64, np.float32)
    same(gx, oracle("jk,k,i->ij", y, z, np.ones(2)), "gx")
    assert np.einsum("ij,->", x, 2.0).dtype == nm.numpy.einsum("ij,->", x, 2.0).dtype


def test_complex_operands_have_both_modes():
    rng = rng_of(6)
    a, b = whole(rng, (2, 3, 3), np.complex128), whole(rng, (3, 2), np.complex128)
    x, t = whole(rng, (3,)), whole(rng, (3,))

    def f(x):
        y = np.einsum("kij,jk,i->k", a, b * x[:, None], x + 1j * x)
        return np.sum(y.real * y.real + 2.0 * y.imag)

    slope = nm.jvp(f, (x,), (t,))[1]
    assert slope == np.sum(nm.grad(f)(x) * t)
    h = 2.0**-20  # f is of degree 4: the error is c h^2, and rounding eps |f| / h
    difference = (f(x + h * t) - f(x - h * t)) / (2 * h)
    assert abs(slope - difference) <= 1e-6 * max(1.0, abs(slope))


@pytest.mark.parametrize("seed", range(60))
def test_vmap_is_a_loop(seed):
    text, xs, rng = case(1000 + seed)
    on = [i for i in range(len(xs)) if rng.random() < 0.6] or [0]
    batch = [whole(rng, (3, *x.shape)) if i in on else x for i, x in enumerate(xs)]
    axes = tuple(0 if i in on else None for i in range(len(xs)))
    rows = [[x[k] if i in on else x for i, x in enumerate(batch)] for k in range(3)]
    f = lambda *xs: np.einsum(text, *xs)  # noqa: E731
    same(nm.vmap(f, in_axes=axes)(*batch), np.stack([oracle(text, *r) for r in rows]), text)
    total = lambda *xs: np.sum(np.einsum(text, *xs))  # noqa: E731
    gradients = nm.vmap(nm.grad(total, argnums=tuple(range(len(xs)))), in_axes=axes)(*batch)
    for k in range(3):
        for got, want in zip(
            gradients, nm.grad(total, argnums=tuple(range(len(xs))))(*rows[k]), strict=True
        ):
            same(got[k], want, text)


# The expressions of opt_einsum's own tests (tests/test_contract.py): products of Hadamard, GEMM and
# tensor-network kind, random contractions, repeated operands, broadcasting.
EXPRESSIONS = """
    a,ab,abc->abc  a,b,ab->ab  ea,fb,gc,hd,abcd->efgh  ea,fb,abcd,gc,hd->efgh  abcd,ea,fb,gc,hd->efgh
    acdf,jbje,gihb,hfac,gfac,gifabc,hfac  cd,bdhe,aidb,hgca,gc,hgibcd,hgac  abhe,hidj,jgba,hiab,gab
    bde,cdh,agdb,hica,ibd,hgicd,hiac  chd,bde,agbc,hiad,hgc,hgi,hiad  chd,bde,agbc,hiad,bdi,cgh,agdb
    bdhe,acad,hiab,agac,hibd  ab,ab,c->  ab,ab,c->c  ab,ab,cd,cd->  ab,ab,cd,cd->ac  ab,ab,cd,cd->cd
    ab,ab,cd,cd,ef,ef->  ab,cd,ef->abcdef  ab,cd,ef->acdf  ab,cd,de->abcde  ab,cd,de->be  ab,bcd,cd->abcd
    ab,bcd,cd->abd  eb,cb,fb->cef  dd,fb,be,cdb->cef  bca,cdb,dbf,afc->  dcc,fce,ea,dbf->ab  fdf,cdd,ccd,afe->ae
    abcd,ad  ed,fcd,ff,bcf->be  baa,dcf,af,cde->be  bd,db,eac->ace  fff,fae,bef,def->abd  efc,dbc,acf,fd->abe
    ab,ab  ab,ba  abc,abc  abc,bac  abc,cba  ab,bc  ab,cb  ba,bc  ba,cb  abcd,cd  abcd,ab  abcd,cdef
    abcd,cdef->feba  abcd,efdc  aab,bc->ac  ab,bcc->ac  aab,bcc->ac  baa,bcc->ac  aab,ccb->ac  aab,fa,df,ecc->bde
    ecb,fef,bad,ed->ac  bcf,bbb,fbf,fc->  bb,ff,be->e  bcb,bb,fc,fff->  fbb,dfd,fc,fc->  afd,ba,cc,dc->bf
    adb,bc,fa,cfc->d  bbd,bda,fc,db->acf  dba,ead,cad->bce  aef,fbc,dca->bde
    a,ac,ab,ad,cd,bd,bc->  ...ab,...bc->...ac  ab...,bc->ac...  a...a->a...  ...a,...  ...,...
""".split()


@pytest.mark.parametrize("text", EXPRESSIONS)
@pytest.mark.parametrize("optimize", [True, False, "greedy", "optimal"])
def test_expressions_of_opt_einsum(text, optimize):
    rng = rng_of(7)
    length = dict(zip(string.ascii_lowercase, [2, 3, 2, 2, 3, 2, 2, 1, 2, 3], strict=False))
    shapes = []
    for part in text.partition("->")[0].split(","):
        before, dots, after = part.partition("...")
        shapes.append(
            tuple([length[c] for c in before] + [2] * bool(dots) + [length[c] for c in after])
        )
    xs = [rng.integers(-1, 2, s).astype(float) for s in shapes]
    want = oracle(text, *xs)
    same(nm.numpy.einsum(text, *xs, optimize=optimize), want, text)
    g = whole(rng, want.shape)
    for i, c in enumerate(nm.vjp(lambda *xs: np.einsum(text, *xs, optimize=optimize), *xs)[1](g)):
        t = whole(rng, xs[i].shape)
        assert np.sum(c * t) == np.sum(g * oracle(text, *xs[:i], t, *xs[i + 1 :])), (text, i)


# ------------------------------------------------------------------------------- ways to call
def test_sublists_are_subscripts_in_numpys_letters():
    rng = rng_of(8)
    a, b = whole(rng, (2, 3)), whole(rng, (3, 4))
    cases = [
        (a, [0, 1], b, [1, 2]),
        (a, [0, 1], b, [1, 2], [2, 0]),
        (a, [27, 1]),  # 27 is b and 1 is B: the implicit output sorts them
        (a, [Ellipsis, 0], [0, Ellipsis]),
        (a, (np.int64(0), 1), b, (1, 51), (51,)),
    ]
    for args in cases:
        same(nm.numpy.einsum(*args), np.einsum(*args), args[1:])
        traced = nm.jvp(lambda x, args=args: np.einsum(x, *args[1:]), (a,), (a,))
        same(traced[1], np.einsum(*args), args[1:])


def test_letters_beyond_ascii_are_indices():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    same(nm.numpy.einsum("φψ,ψ->φ", a, b), a @ b, "greek")
    same(nm.grad(lambda a: np.einsum("φψ,ψ->", a, b))(a), np.broadcast_to(b, (2, 3)), "greek")
    same(nm.numpy.einsum("éé->é", np.eye(2)), np.ones(2), "accents")


def test_more_indices_than_the_alphabet_has_letters():
    letters = [chr(0x4E00 + i) for i in range(60)]
    xs = [np.full((1, 2, 1), 2.0) for _ in range(20)]
    parts = ["".join(letters[3 * k : 3 * k + 3]) for k in range(20)]
    text = ",".join(parts) + "->" + letters[0]
    assert nm.numpy.einsum(text, *xs).tolist() == [4.0**20]
    grads = nm.grad(lambda x: np.sum(np.einsum(text, x, *xs[1:])))(xs[0])
    same(grads, np.full((1, 2, 1), 4.0**19), "gradient")


def test_lists_and_numbers_are_operands():
    assert nm.numpy.einsum("i,i", [1, 2], [3, 4]) == 11
    assert nm.numpy.einsum(",,", 2.0, 3, 4) == 24.0
    assert nm.grad(lambda x: np.einsum("i,,->", [1.0, 2.0], x, 3.0))(2.0) == 9.0


@pytest.mark.parametrize("optimize", [None, True, False, "greedy", "optimal"])
def test_every_way_to_plan_gives_the_value(optimize):
    rng = rng_of(9)
    xs = [whole(rng, s) for s in [(2, 3), (3, 4), (4, 5), (5, 2), (3,)]]
    text = "ab,bc,cd,de,b->ae"
    same(nm.numpy.einsum(text, *xs, optimize=optimize), oracle(text, *xs), optimize)


@pytest.mark.parametrize(
    "path",
    [
        ["einsum_path", (0, 1), (0, 1), (0, 1)],
        [(0, 3), (0, 2), (0, 1)],
        [(0, 1, 2, 3)],
        [(1, 2, 3), (0, 1)],
        [(2,), (0, 1), (1,), (0, 2), (0, 1)],
        ["einsum_path", (0, 1)],  # the rest from the left
    ],
)
def test_an_explicit_path_is_taken(path):
    rng = rng_of(10)
    xs = [whole(rng, s) for s in [(2, 3), (3, 4), (4, 5), (5, 2)]]
    text = "ab,bc,cd,de->ae"
    same(nm.numpy.einsum(text, *xs, optimize=path), oracle(text, *xs), path)


def test_paths_of_numpy_fit():
    rng = rng_of(11)
    for seed in range(100):
        text, xs, _ = case(2000 + seed)
        for how in ("greedy", "optimal"):
            try:
                path = np.einsum_path(text, *xs, optimize=how)[0]
            except ValueError:  # NumPy's planner refuses some empty operands
                continue
            same(nm.numpy.einsum(text, *xs, optimize=path), oracle(text, *xs), (text, path))
    x = whole(rng, (3, 3))
    paths = []
    nm.grad(lambda x: (paths.append(np.einsum_path("ij,jk,kl->", x, x, x)), np.sum(x))[1])(x)
    assert paths == [np.einsum_path("ij,jk,kl->", x, x, x)]
    assert nm.numpy.einsum_path("ij,jk", x, x)[0] == ["einsum_path", (0, 1)]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("best", TypeError),
        (1, TypeError),
        ([(0, 4)], ValueError),
        ([(0, 0)], ValueError),
        ([(0, -1)], ValueError),
        (("greedy", 1000), TypeError),
        ([()], ValueError),
    ],
)
def test_a_path_that_cannot_be_is_refused(path, error):
    with pytest.raises(error, match="einsum: `optimize` must be"):
        nm.numpy.einsum("i,i,i", *[np.ones(2)] * 3, optimize=path)


def brute(parts, out, length):
    """The least cost of all orders of pairs."""
    if len(parts) == 1:
        return 0
    best = np.inf
    for i, j in itertools.combinations(range(len(parts)), 2):
        rest = [p for k, p in enumerate(parts) if k not in (i, j)]
        needed = set(out).union(*rest)
        c = "".join(sorted((set(parts[i]) | set(parts[j])) & needed))
        cost = step_cost(parts[i], parts[j], c, length) + brute([*rest, c], out, length)
        best = min(best, cost)
    return best


def step_cost(a, b, c, length):
    size = lambda s: int(np.prod([length[k] for k in s]))  # noqa: E731
    return size(set(a) | set(b)) + module._TRAFFIC * (size(a) + size(b) + size(c))


def test_the_exact_planner_finds_the_cheapest_order_and_the_greedy_one_a_good_one():
    rng = rng_of(12)
    ratios = []
    for _ in range(60):
        letters = list("abcdef")
        length = {c: int(rng.integers(1, 30)) for c in letters}
        parts = ["".join(rng.permutation(letters)[: rng.integers(1, 4)]) for _ in range(5)]
        every = "".join(parts)
        out = "".join(c for c in letters if c in every and rng.random() < 0.3)
        parts = ["".join(c for c in p if c in out or every.count(c) > 1) for p in parts]
        costs = {}
        for how in (module._optimal, module._greedy):
            waiting, total = list(parts), 0
            for i, j in how(parts, out, length):
                a, b = waiting[i], waiting[j]
                waiting = [w for k, w in enumerate(waiting) if k not in (i, j)]
                c = module._product(a, b, out, waiting)
                total += step_cost(a, b, c, length)
                waiting.append(c)
            costs[how] = total
        assert costs[module._optimal] == brute(parts, out, length)
        ratios.append(costs[module._greedy] / costs[module._optimal])
    assert np.median(ratios) < 1.05
    assert max(ratios) < 10


def test_a_plan_is_kept_for_its_shapes():
    module._plan.cache_clear()
    x = np.ones((2, 3))
    for _ in range(3):
        nm.numpy.einsum("ab,cb,cd->ad", x, x, x)
    info = module._plan.cache_info()
    assert (info.misses, info.hits) == (1, 2)
    nm.numpy.einsum("ab,cb,cd->ad", x[:1], x, x)
    assert module._plan.cache_info().misses == 2


def test_a_long_chain_is_planned_in_its_order_of_cost():
    # from the left (n, n) matrices would be made; from the vector on only vectors
    n = 200
    rng = rng_of(13)
    xs = [rng.standard_normal((n, n)) for _ in range(8)] + [rng.standard_normal(n)]
    text = "ab,bc,cd,de,ef,fg,gh,hi,i->a"
    plan = module._plan(text, tuple(x.shape for x in xs), True)
    assert all(len(spec[2]) == 1 for _, _, spec in plan.steps)


# ------------------------------------------------------------------------------- keywords
def test_dtype_and_casting_convert_as_in_numpy():
    x = np.arange(6.0).reshape(2, 3)
    same(
        nm.numpy.einsum("ij,ij->i", x, x, dtype=complex),
        np.einsum("ij,ij->i", x, x + 0j),
        "complex",
    )
    low = nm.numpy.einsum("ij,ij->i", x, x, dtype=np.float32, casting="same_kind")
    assert low.dtype == np.float32
    for f in (
        nm.numpy.einsum,
        lambda *a, **k: nm.jvp(lambda x: np.einsum(a[0], x, x, **k), (x,), (x,)),
    ):
        with pytest.raises(
            DtypeError, match="einsum: operand 0 must have a dtype that can be cast to float32"
        ):
            f("ij,ij->i", x, x, dtype=np.float32)
    y, t = nm.jvp(
        lambda x: np.einsum("ij,ij->i", x, x, dtype=np.float32, casting="same_kind"), (x,), (x,)
    )
    assert y.dtype == t.dtype == np.float32
    same(t, 2 * y, "tangent")


def test_order_and_out_of_plain_arrays_are_numpys_and_refused_where_a_derivative_would_be_lost():
    x = np.arange(6.0).reshape(2, 3)
    assert nm.numpy.einsum("ij,jk->ik", x, x.T, order="F").flags.f_contiguous
    assert nm.numpy.einsum("ij,jk->ki", x, x.T[:, :1], order="C").flags.c_contiguous
    out = np.zeros((2, 2))
    assert nm.numpy.einsum("ij,kj->ik", x, x, out=out) is out
    same(out, x @ x.T, "out")
    with pytest.raises(ShapeError, match="einsum: `out` must have shape"):
        nm.numpy.einsum("ij,kj->ik", x, x, out=np.zeros((1, 2, 2)))
    with pytest.raises(TypeError):
        nm.numpy.einsum("ij,kj->ik", x, x, out=np.zeros((2, 2), int))
    with pytest.raises(TraceError, match="keyword `out`"):
        nm.grad(lambda x: np.einsum("ij,kj->ik", x, x, out=out).sum())(x)
    with pytest.raises(ValueError, match="einsum: `order` must be one of"):
        nm.numpy.einsum("i", x[0], order="X")


def test_one_plain_operand_gives_numpys_view():
    x = np.eye(3)
    nm.numpy.einsum("ii->i", x)[:] = 2.0
    same(x, 2 * np.eye(3), "the diagonal was written into")


def test_the_result_of_two_operands_is_no_view_of_either():
    def f(x):
        z = x * 1.0
        y = np.einsum("ii,i->i", z, np.arange(3.0))
        z += 1.0  # NumPy's meaning: y stays what it is
        y *= 2.0
        return np.sum(y) + np.sum(z)

    same(nm.grad(f)(np.ones((3, 3))), np.ones((3, 3)) + 2.0 * np.diag(np.arange(3.0)), "gradient")


# ------------------------------------------------------------------------------- errors
def refused(error, text, *shapes):
    xs = [np.ones(s) for s in shapes]
    with pytest.raises(error) as plain:
        nm.numpy.einsum(text, *xs)
    with pytest.raises(error) as traced:
        nm.grad(lambda x: np.sum(np.einsum(text, x, *xs[1:])))(xs[0])
    assert str(plain.value) == str(traced.value).split("\n")[0]
    with pytest.raises((ValueError, UnicodeError)):
        np.einsum(text, *xs)
    return str(plain.value)


def test_two_lengths_of_an_index_are_named():
    said = refused(ShapeError, "ij,jk->ik", (2, 3), (4, 5))
    assert said == "einsum: index `j` has length 3 in operand 0 and 4 in operand 1 of 'ij,jk->ik'."
    said = refused(ShapeError, "i,j,ik->", (3,), (2,), (4, 2))
    assert said == "einsum: index `i` has length 3 in operand 0 and 4 in operand 2 of 'i,j,ik->'."
    said = refused(ShapeError, "ii->i", (3, 4))
    assert said == "einsum: index `i` has length 3 and 4 in operand 0 of 'ii->i'."
    assert "has length 3 and 1 in operand 0" in refused(ShapeError, "ii", (3, 1))
    assert "has length 1 in" not in refused(ShapeError, "i,i,i->", (1,), (0,), (2,))
    said = refused(ShapeError, "...i,...i->...", (3, 2), (4, 2))
    assert said == (
        "einsum: an axis of `...` has length 3 in operand 0 and 4 in operand 1 of '...i,...i->...'."
    )


@pytest.mark.parametrize(
    ("error", "text", "shapes", "words"),
    [
        (ValueError, "ij,jk", [(2, 3)], "names 2 operands and 1 were given"),
        (ValueError, "ij", [(2, 3), (3, 2)], "names 1 operands and 2 were given"),
        (ShapeError, "i", [(2, 3)], "operand 0 has 2 axes and 'i' names 1"),
        (ShapeError, "ijk", [(2, 3)], "operand 0 has 2 axes and 'ijk' names 3"),
        (ShapeError, "i...jk", [(2, 3)], "operand 0 has 2 axes and 'i...jk' names 3"),
        (ValueError, "ij->k", [(2, 3)], "index `k` of the output of 'ij->k' is in no operand"),
        (ValueError, "ij->ii", [(2, 3)], "index `i` of the output of 'ij->ii' stands there twice"),
        (ValueError, "i1", [(2, 3)], "invalid character '1'"),
        (ValueError, "i.j", [(2, 3)], "invalid character '.'"),
        (ValueError, "i......", [(2, 3)], "invalid character '.'"),
        (ValueError, "ij->i->j", [(2, 3)], "invalid character '-'"),
        (ValueError, "ij>", [(2, 3)], "invalid character '>'"),
        (ValueError, "...i->i", [(2, 3)], "the output of '...i->i' must have '...'"),
    ],
)
def test_subscripts_that_say_nothing_are_refused(error, text, shapes, words):
    said = refused(error, text, *shapes)
    assert said.startswith("einsum: ")
    assert words in said


def test_sublists_that_say_nothing_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(
        ValueError, match=r"einsum: a subscript in a list must be in \[0, 52\), got 60"
    ):
        nm.numpy.einsum(x, [0, 60])
    with pytest.raises(TypeError, match="must be an integer or an ellipsis, got 'i'"):
        nm.numpy.einsum(x, ["i", "j"], ["j"])
    with pytest.raises(TypeError, match="write the subscripts as a string"):
        nm.numpy.einsum(x)
    with pytest.raises(ValueError, match="subscripts and operands are missing"):
        nm.numpy.einsum()


# ------------------------------------------------------------------------------- one product, many spellings
@pytest.mark.parametrize(
    ("f", "text", "shapes"),
    [
        (lambda np, a, b: np.matmul(a, b), "...ij,...jk->...ik", [(2, 1, 2, 3), (4, 3, 2)]),
        (lambda np, a, b: a @ b, "...ij,j->...i", [(2, 2, 3), (3,)]),
        (lambda np, a, b: a @ b, "i,...ij->...j", [(3,), (2, 3, 2)]),
        (lambda np, a, b: np.dot(a, b), "aij,bjk->aibk", [(2, 2, 3), (4, 3, 2)]),
        (lambda np, a, b: np.inner(a, b), "ai,bci->abc", [(2, 3), (4, 2, 3)]),
        (lambda np, a, b: np.outer(a, b), "i,j->ij", [(3,), (2,)]),
        (lambda np, a, b: np.tensordot(a, b, 2), "aij,ijb->ab", [(2, 3, 4), (3, 4, 2)]),
        (
            lambda np, a, b: np.tensordot(a, b, ([0, 2], [1, 0])),
            "iaj,jib->ab",
            [(2, 3, 4), (4, 2, 2)],
        ),
        (lambda np, a, b: np.tensordot(a, b, 0), "a,bc->abc", [(2,), (3, 2)]),
        (lambda np, a, b: np.vecdot(a, b), "...i,...i->...", [(2, 1, 3), (4, 3)]),
        (lambda np, a, b: np.vecdot(a, b, axis=0), "ij,ij->j", [(3, 2), (3, 2)]),
        (lambda np, a, b: np.vdot(a, b), "ij,ij->", [(3, 2), (3, 2)]),
        (lambda np, a, b: np.matvec(a, b), "...ij,...j->...i", [(4, 2, 3), (1, 3)]),
        (lambda np, a, b: np.vecmat(a, b), "...i,...ij->...j", [(1, 3), (4, 3, 2)]),
    ],
)
def test_every_spelling_of_a_product_is_its_einsum(f, text, shapes):
    rng = rng_of(14)
    a, b, ta, tb = (whole(rng, s) for s in shapes * 2)
    want = oracle(text, a, b)
    same(f(nm.numpy, a, b), want, text)
    value, tangent = nm.jvp(lambda a, b: f(nm.numpy, a, b), (a, b), (ta, tb))
    same(value, want, text)
    same(tangent, oracle(text, ta, b) + oracle(text, a, tb), text)
    g = whole(rng, want.shape)
    ca, cb = nm.vjp(lambda a, b: f(nm.numpy, a, b), a, b)[1](g)
    da, db = nm.vjp(lambda a, b: np.einsum(text, a, b), a, b)[1](g)
    same(ca, da, text)
    same(cb, db, text)


@pytest.mark.parametrize("name", ["vecdot", "matvec", "vecmat"])
def test_stacked_products_refuse_core_axes_of_two_lengths(name):
    f = getattr(nm.numpy, name)
    a, b = {
        "vecdot": (np.ones((2, 1)), np.ones((2, 3))),
        "matvec": (np.ones((2, 1)), np.ones(3)),
        "vecmat": (np.ones(1), np.ones((3, 2))),
    }[name]
    with pytest.raises(ShapeError, match=f"{name}: the axes that are summed must have one length"):
        nm.grad(lambda a: np.sum(f(a, b)))(a)
    with pytest.raises(ShapeError, match=f"{name}: the operands must have at least"):
        f(np.float64(2.0), np.float64(3.0))


# ------------------------------------------------------------------------------- peers
def test_opt_einsum_runs_on_tracers():
    contract = pytest.importorskip("opt_einsum").contract
    rng = rng_of(15)
    xs = [whole(rng, s) for s in [(2, 3), (3, 4), (4, 2)]]
    got = nm.grad(lambda x: contract("ab,bc,ca->", x, *xs[1:]))(xs[0])
    same(got, oracle("bc,ca->ab", *xs[1:]), "gradient")
