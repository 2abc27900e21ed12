"""What losses say to bad input: one clear error, or NaN where values do not exist yet; and empty batches."""

import math

import numpy as np
import pytest

import nnmath_core as nm
from nnmath_core.errors import DomainError, DtypeError, ShapeError

nn = nm.nn
EPS = np.finfo(np.float64).eps
ONE, NOTHING, LABEL = np.zeros(3), np.zeros(0), np.array([0, 1, 2])
LOGITS = np.zeros((3, 4))
W = np.ones(4)
CE, BCE, NLL = nn.softmax_cross_entropy, nn.binary_cross_entropy, nn.gaussian_nll

# what is called -> the error, and words of its message
BAD = {
    "mean over no examples": (
        lambda: CE(np.zeros((0, 4)), np.zeros(0, int), reduction="mean"),
        DomainError,
        "over no examples",
    ),
    "mean over no entries": (
        lambda: nn.huber(NOTHING, NOTHING, reduction="mean"),
        DomainError,
        "over no examples",
    ),
    "mean over no pairs": (
        lambda: NLL((NOTHING, NOTHING), NOTHING, reduction="mean"),
        DomainError,
        "over no examples",
    ),
    "gradient of a mean over nothing": (
        lambda: nn.huber.replace(reduction="mean").gradient(NOTHING, NOTHING),
        DomainError,
        "over no examples",
    ),
    "rows of nothing": (
        lambda: nn.mean_squared_error(np.zeros((2, 0)), np.zeros((2, 0))),
        DomainError,
        "over no entries",
    ),
    "all ignored": (
        lambda: CE(LOGITS, np.full(3, -1), ignore_label=-1, reduction="mean"),
        DomainError,
        "all ignored",
    ),
    "all of weight 0": (
        lambda: CE(LOGITS, LABEL, class_weights=np.array([0.0, 0, 0, 1]), reduction="mean"),
        DomainError,
        "weight 0",
    ),
    "gradient of all ignored": (
        lambda: CE.replace(ignore_label=-1, reduction="mean").gradient(LOGITS, np.full(3, -1)),
        DomainError,
        "all ignored",
    ),
    "label beside the ignored one": (
        lambda: CE(LOGITS, np.array([0, -100, -1]), ignore_label=-100),
        DomainError,
        r"in \[0, 4\), got -1 at index 2",
    ),
    "label out of range": (
        lambda: CE(LOGITS, np.array([0, 4, 1])),
        DomainError,
        r"in \[0, 4\), got 4 at index 1",
    ),
    "ignored rows": (
        lambda: CE(LOGITS, np.full((3, 4), 0.25), ignore_label=0),
        DomainError,
        "class number, and `labels` are rows",
    ),
    "ignored label no integer": (
        lambda: CE(LOGITS, LABEL, ignore_label=0.5),
        DtypeError,
        "`ignore_label` must be an integer",
    ),
    "smoothing above 1": (
        lambda: CE(LOGITS, LABEL, label_smoothing=1.5),
        DomainError,
        r"number in \[0, 1\], got 1\.5",
    ),
    "weights of other classes": (
        lambda: CE(LOGITS, LABEL, class_weights=np.ones(3)),
        ShapeError,
        r"shape \(4,\), got \(3,\)",
    ),
    "negative weight": (
        lambda: CE(LOGITS, LABEL, class_weights=-W),
        DomainError,
        "`class_weights` must be >= 0, got -1 at index 0",
    ),
    "weights of another dtype": (
        lambda: CE(LOGITS, LABEL, class_weights=np.ones(4, np.float32)),
        DtypeError,
        "`class_weights` must be float64",
    ),
    "weights in a list": (
        lambda: CE(LOGITS, LABEL, class_weights=[1.0, 1, 1, 1]),
        DtypeError,
        "got a list",
    ),
    "fisher of a weighted mean": (
        lambda: CE.replace(class_weights=W, reduction="mean").fisher(LOGITS),
        DomainError,
        "divided by the weights",
    ),
    "target above 1": (
        lambda: BCE(ONE, np.array([0.0, 2.0, 1.0])),
        DomainError,
        r"in \[0, 1\], got 2 at index 1",
    ),
    "negative pos_weight": (
        lambda: BCE(ONE, ONE, pos_weight=-1.0),
        DomainError,
        "`pos_weight` must be a number >= 0, got -1.0",
    ),
    "pos_weight of another shape": (
        lambda: BCE(ONE, ONE, pos_weight=np.ones(2)),
        ShapeError,
        r"broadcasts to \(3,\), got \(2,\)",
    ),
    "sigma 0": (
        lambda: NLL(ONE, ONE, sigma=0.0),
        DomainError,
        "`sigma` must be a number > 0, got 0.0",
    ),
    "sigma negative at one": (
        lambda: NLL(ONE, ONE, sigma=np.array([1.0, -2.0, 1.0])),
        DomainError,
        "`sigma` must be > 0, got -2 at index 1",
    ),
    "sigma too large": (
        lambda: NLL(ONE, ONE, sigma=np.ones((2, 3))),
        ShapeError,
        r"broadcasts to \(3,\)",
    ),
    "sigma of another dtype": (
        lambda: NLL(ONE, ONE, sigma=np.ones(3, np.float32)),
        DtypeError,
        "`sigma` must be float64",
    ),
    "sigma beside a pair": (
        lambda: NLL((ONE, ONE), ONE, sigma=2.0),
        DomainError,
        "`sigma` is 2.0, and `prediction` is a pair",
    ),
    "scale of 0 in a pair": (
        lambda: NLL((ONE, ONE), ONE, spread="scale"),
        DomainError,
        r"`prediction\[1\]` must be > 0, got 0 at index 0",
    ),
    "variance negative": (
        lambda: nn.crps_gaussian((ONE, ONE - 1), ONE, spread="variance"),
        DomainError,
        "must be > 0, got -1 at index 0. A log",
    ),
    "pair of other shapes": (
        lambda: NLL((ONE, np.zeros(1)), ONE),
        ShapeError,
        r"`prediction\[1\]` must be of shape \(3,\)",
    ),
    "pair of three": (
        lambda: NLL((ONE, ONE, ONE), ONE),
        ShapeError,
        r"a pair \(mean, log_scale\), got 3 of them",
    ),
    "unknown spread": (
        lambda: NLL((ONE, ONE), ONE, spread="std"),
        DomainError,
        "`spread` must be one of 'log_scale'",
    ),
    "target of another shape": (
        lambda: NLL((ONE, ONE), np.zeros((3, 1))),
        ShapeError,
        "Nothing is broadcast",
    ),
    "negative count": (
        lambda: nn.poisson_nll(ONE, np.array([1, -2, 0])),
        DomainError,
        "`target` must be >= 0, got -2 at index 1. It is a count",
    ),
    "count NaN": (
        lambda: nn.poisson_nll(ONE, np.full(3, np.nan)),
        DomainError,
        "got nan at index 0",
    ),
    "counts of booleans": (
        lambda: nn.poisson_nll(ONE, np.ones(3, bool)),
        DtypeError,
        "got bool array",
    ),
    "counts of another shape": (
        lambda: nn.poisson_nll(ONE, np.zeros((3, 1), int)),
        ShapeError,
        "Nothing is broadcast",
    ),
    "scale 0": (
        lambda: nn.laplace_nll(ONE, ONE, scale=0),
        DomainError,
        "`scale` must be a number > 0, got 0",
    ),
    "df 0": (lambda: nn.student_t_nll(ONE, ONE, df=0), DomainError, "`df` must be a number > 0"),
    "df NaN": (
        lambda: nn.student_t_nll(ONE, ONE, df=math.nan),
        DomainError,
        "`df` must be a number > 0 and finite, got nan",
    ),
    "delta 0": (lambda: nn.huber(ONE, ONE, delta=0.0), DomainError, "`delta` must be a number > 0"),
    "delta no number": (
        lambda: nn.huber(ONE, ONE, delta="1"),
        DtypeError,
        "`delta` must be a number > 0, got '1'",
    ),
    "level 1": (
        lambda: nn.quantile(ONE, ONE, level=1.0),
        DomainError,
        "`level` must be a number between 0 and 1",
    ),
    "level 0 of several": (
        lambda: nn.quantile(ONE, ONE, level=np.array([0.1, 0.0, 0.5])),
        DomainError,
        "got 0 at index 1",
    ),
    "sign 0": (
        lambda: nn.hinge(ONE, np.array([1, 0, -1])),
        DomainError,
        "`target` must be -1 or 1, got 0 at index 1",
    ),
    "margin 0": (
        lambda: nn.hinge(ONE, ONE + 1, margin=0.0),
        DomainError,
        "`margin` must be a number > 0",
    ),
    "power 3": (
        lambda: nn.hinge(ONE, ONE + 1, power=3),
        DomainError,
        "`power` must be one of 1, 2, got 3",
    ),
    "rivals unknown": (
        lambda: nn.hinge(LOGITS, LABEL, rivals="all"),
        DomainError,
        "`rivals` must be one of",
    ),
    "class number of a hinge": (
        lambda: nn.hinge(LOGITS, LABEL + 2),
        DomainError,
        r"`target` must be integers in \[0, 4\), got 4",
    ),
    "float class numbers of a hinge": (
        lambda: nn.hinge(LOGITS, ONE),
        DtypeError,
        "integers, class numbers, got a float64",
    ),
    "labels of another shape": (
        lambda: nn.hinge(LOGITS, np.zeros(4, int)),
        ShapeError,
        r"or \(3,\), class numbers, got \(4,\)",
    ),
    "prediction of integers": (
        lambda: nn.huber(LABEL, LABEL),
        DtypeError,
        "`prediction` must be a float32 or float64",
    ),
    "complex prediction": (lambda: nn.laplace_nll(ONE + 1j, ONE), DtypeError, "complex128 array"),
    "mixed dtypes": (
        lambda: nn.quantile(ONE, np.zeros(3, np.float32)),
        DtypeError,
        "`target` must be float64 as `prediction`",
    ),
    "broadcast": (
        lambda: nn.crps_gaussian(np.zeros((3, 1)), ONE),
        ShapeError,
        "Nothing is broadcast",
    ),
    "unknown reduction": (
        lambda: nn.huber(ONE, ONE, reduction="avg"),
        DomainError,
        "`reduction` must be one of 'none'",
    ),
    "full no flag": (
        lambda: NLL(ONE, ONE, full="yes"),
        DomainError,
        "`full` must be one of False, True",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case):
    f, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        f()
    assert str(caught.value).split(":")[0].split(".")[0] in {
        x.__name__ for x in vars(nn).values() if isinstance(x, nn.Loss)
    }


def test_empty_batches_have_no_losses():
    for loss in (
        nn.huber,
        nn.laplace_nll,
        NLL,
        nn.quantile,
        nn.crps_gaussian,
        nn.mean_squared_error,
    ):
        assert loss(NOTHING, NOTHING).shape == (0,)
        assert loss(NOTHING, NOTHING, reduction="sum") == 0.0
        assert loss.gradient(NOTHING, NOTHING).shape == (0,)
        assert loss.hessian(NOTHING, NOTHING).shape == (0,)
    assert CE(np.zeros((0, 4)), np.zeros(0, int)).shape == (0,)
    assert CE.gradient(np.zeros((0, 4)), np.zeros(0, int)).shape == (0, 4)
    assert CE.hessian(np.zeros((0, 4)), np.zeros(0, int)).shape == (0, 4, 4)
    assert nn.hinge(np.zeros((0, 4)), np.zeros(0, int)).shape == (0,)


def test_what_is_wrong_gives_nan_where_it_cannot_be_checked():
    t = np.array([0.5, 0.5, 0.5])
    sigma = nm.stage(lambda s: NLL(ONE, t, sigma=s), np.ones(3))
    assert np.isnan(sigma(np.array([1.0, -1.0, 0.0]))).tolist() == [False, True, True]
    spread = nm.stage(lambda s: nn.crps_gaussian((ONE, s), t, spread="scale"), np.ones(3))
    assert np.isnan(spread(np.array([1.0, -1.0, 2.0]))).tolist() == [False, True, False]
    count = nm.stage(lambda y: nn.poisson_nll(ONE, y), LABEL)
    assert np.isnan(count(np.array([1, -1, 0]))).tolist() == [False, True, False]
    sign = nm.stage(lambda y: nn.hinge(ONE, y), LABEL)
    assert np.isnan(sign(np.array([1, -1, 2]))).tolist() == [False, False, True]
    number = nm.stage(lambda y: nn.hinge.gradient(LOGITS, y), LABEL)
    assert np.isnan(number(np.array([0, 4, 2]))[:, 0]).tolist() == [False, True, False]
    for f in (CE.gradient, CE.hessian):
        wrong = nm.stage(lambda y, f=f: f(LOGITS, y), LABEL)(np.array([0, 4, -1]))
        assert np.isnan(wrong).reshape(3, -1).all(axis=1).tolist() == [False, True, True]
    mean = nm.stage(lambda y: CE(LOGITS, y, ignore_label=-1, reduction="mean"), LABEL)
    assert abs(mean(np.array([-1, 0, 1])) - math.log(4)) <= 4 * EPS
    assert np.isnan(mean(np.array([-1, -1, -1])))
