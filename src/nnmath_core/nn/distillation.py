"""Distillation: a student learns the softened probabilities of a teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnmath_core.autodiff.ops.conventions import beside
from nnmath_core.checks import require_in, require_real, sentence
from nnmath_core.errors import ShapeError
from nnmath_core.nn.loss import Loss, same_operands
from nnmath_core.nn.reduction import Reduction
from nnmath_core.nn.softmax import log_softmax, softmax
from nnmath_core.typing import Array, ArrayLike

__all__ = ["Distillation", "distillation"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Distillation(Loss):
    r"""Divergence of a student's softened probabilities from a teacher's.

    .. math::
        \ell = T^2 \, \mathrm{KL}(p \,\|\, q) = T^2 \sum_k p_k (\log p_k - \log q_k), \qquad
        p = \operatorname{softmax}(\text{teacher} / T), \; q = \operatorname{softmax}(\text{student} / T)

    Parameters
    ----------
    student, teacher : array, shape (..., k), float32 or float64
        Logits of one shape and dtype. Both are differentiated; a teacher that is fixed is a constant.
    reduction : {"none", "sum", "mean"}, default "none"
        One number per example, their sum or their mean.
    temperature : float, default 1.0
        T > 0 and finite: above 1 the small probabilities of the teacher, which say what is alike, get weight.
    scaled : bool, default True
        Whether there is the factor T squared, without which gradients vanish as ``1 / T**2``; with it their size hardly
        depends on T, and the weight against another loss need not be changed with it. (Of PyTorch's `kl_div` it is
        yours to write.)

    Returns
    -------
    array, shape (...) or (), dtype of ``student``
        Nats, >= 0 up to rounding; 0 only where both agree.

    Raises
    ------
    DtypeError
        An argument is no array of floats, or the two differ in dtype.
    ShapeError
        They differ in shape, or there are no classes.
    DomainError
        ``temperature`` is not positive; the mean over no examples.

    Notes
    -----
    The gradient in the student is ``T (q - p)``, the Hessian ``diag(q) - q q'`` (without the factor over T squared).
    For large T both are those of ``|student - teacher|^2 / (2 k)``, each less its mean. The cross entropy differs from
    the divergence by the teacher's entropy, which is a constant of the student.
    Absolute error: ``T^2 eps (k + d / T)``, with ``d`` the largest difference of logits in a row. A class that the
    teacher excludes (-inf) adds nothing; one that the student excludes and the teacher does not makes it inf.

    References
    ----------
    Hinton et al., "Distilling the knowledge in a neural network", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import nnmath_core as nm
    >>> student, teacher = np.array([[1.0, 0.0, 0.0]]), np.array([[4.0, 2.0, 0.0]])
    >>> nm.nn.distillation(student, teacher, temperature=2.0).round(6)
    array([0.517443])
    >>> nm.nn.distillation.replace(temperature=2.0).gradient(student, teacher).round(6)
    array([[-0.426756,  0.05868 ,  0.368076]])
    """

    temperature: float = 1.0
    scaled: bool = True

    __name__ = "distillation"
    link = "softmax"
    _why_none = "The teacher's probabilities are no label, of which it would be the logarithm."

    def __call__(
        self,
        student: ArrayLike,
        teacher: ArrayLike,
        *,
        reduction: Reduction | None = None,
        temperature: float | None = None,
        scaled: bool | None = None,
    ) -> Array:
        """Return the loss; see the class."""
        loss = self._with(reduction=reduction, temperature=temperature, scaled=scaled)
        return loss._value(student, teacher)

    def _check_options(self) -> None:
        who, wanted = self.__name__, "positive and finite"
        require_real(who, "temperature", self.temperature, lambda t: 0.0 < t < math.inf, wanted)
        require_in(who, "scaled", self.scaled, (False, True))

    @property
    def _factor(self) -> float:
        return float(self.temperature) ** 2 if self.scaled else 1.0

    def _operands(self, prediction: Any, target: Any) -> tuple[Array, Array]:
        names = ("student", "teacher")
        student, teacher = same_operands(self.__name__, prediction, target, names)
        shape = tuple(student.shape)
        if not shape or not shape[-1]:
            wanted = "of shape (..., k), a column for each class"
            raise ShapeError(sentence(self.__name__, "student", wanted, str(shape)))
        return student, teacher

    def _examples(self, p: Any, t: Any) -> int:
        return math.prod(p.shape[:-1])

    def _each(self, p: Any, t: Any) -> Array:
        rows = softmax(t, temperature=float(self.temperature))
        out = np.equal(rows, 0.0)  # 0 log 0 = 0, whatever the student thinks
        mine = np.where(out, 0.0, log_softmax(t, temperature=float(self.temperature)))
        others = np.where(out, 0.0, log_softmax(p, temperature=float(self.temperature)))
        losses: Array = self._factor * (rows * (mine - others)).sum(axis=-1)
        return losses

    def _gradient(self, p: Any, t: Any) -> Array:
        temperature = float(self.temperature)
        difference = softmax(p, temperature=temperature) - softmax(t, temperature=temperature)
        return (self._factor / temperature) * difference

    def _hessian(self, p: Any, t: Any) -> Array:
        q = softmax(p, temperature=float(self.temperature))
        diagonal = q[..., None] * beside(q, np.eye(q.shape[-1], dtype=q.dtype))
        scale = self._factor / float(self.temperature) ** 2
        hessian: Array = scale * (diagonal - q[..., None] * q[..., None, :])
        return hessian


distillation = Distillation()
