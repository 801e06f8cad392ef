"""x"""
# %% lib:imports
#| export
import inspect
import math
from types import FunctionType
from typing import NamedTuple

import numpy as np

from . import autograd, kernels
from .autograd import Tensor, as_tensor, concatenate, elementwise_op, record, reshape
from .kernels import absolute, exp, expm1, floor, launch, log1p, maximum, minimum, sign, where
from .kernels import sigmoid as _logistic
from .kernels import tanh as _tanh

# %% lib:number
#| export
#| code-fold: true
def _number(op, name, value, least=-math.inf):
    "A parameter of a unit: a plain number, larger than `least`."
    if isinstance(value, Tensor) or not isinstance(value, int | float | np.number):
        learn = "; for a slope that learns use prelu" if op == "leaky_relu" else ""
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}{learn} (chapter Activation functions)")
    if not value > least:
        raise ValueError(f"{op}: {name} must be larger than {least:g}, got {value} (chapter Activation functions)")
    return float(value)

# %% lib:piecewise
#| export
_relu = elementwise_op(lambda x: maximum(x, 0.0),
                       lambda g, x: where(x <= 0.0, 0.0, g), name="relu")
_leaky_relu = elementwise_op(lambda x, slope: where(x <= 0.0, slope * x, x),
                             lambda g, x, slope: where(x > 0.0, g, slope * g), None, name="leaky_relu")
_prelu = elementwise_op(lambda x, slope: where(x <= 0.0, slope * x, x),
                        lambda g, x, slope: where(x > 0.0, g, slope * g),
                        lambda g, x: where(x <= 0.0, x * g, 0.0), name="prelu")
_relu6 = elementwise_op(lambda x: minimum(maximum(x, 0.0), 6.0),
                        lambda g, x: where(x <= 0.0, 0.0, where(x >= 6.0, 0.0, g)), name="relu6")
_threshold = elementwise_op(lambda x, least, value: where(x <= least, value, x),
                            lambda g, x, least: where(x <= least, 0.0, g), None, None, name="threshold")

# %% lib:piecewise_api
#| export
#| code-fold: true
def relu(x):
    r"""Rectified linear unit: what is negative becomes zero.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: \operatorname{relu}(x) = \max(x, 0)

    The derivative at 0 is taken to be 0.

    References
    ----------
    Nair and Hinton (2010); Glorot, Bordes and Bengio (2011).

    Chapter: Activation functions, section A kink
    """
    return _relu(x)


def leaky_relu(x, negative_slope=0.01):
    r"""ReLU with a small slope for negative inputs, so that no unit is ever without a gradient.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    negative_slope : float
        The slope a.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Raises
    ------
    TypeError
        If the slope is not a number; `prelu` takes a Tensor that learns.

    Notes
    -----
    .. math:: f(x) = x \text{ for } x > 0, \quad a x \text{ otherwise}

    References
    ----------
    Maas, Hannun and Ng (2013).

    Chapter: Activation functions, section A kink
    """
    return _leaky_relu(x, _number("leaky_relu", "negative_slope", negative_slope))


def prelu(x, weight):
    r"""Leaky ReLU whose slope is a Tensor, so that it can be learned.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    weight : Tensor or array_like
        One slope, or one for each entry of axis 1 of `x` (of axis 0 if there is no other).

    Returns
    -------
    Tensor
        Same shape and dtype as `x`.

    Raises
    ------
    ValueError
        If `weight` has another number of slopes.

    Notes
    -----
    .. math:: f(x) = x \text{ for } x > 0, \quad a x \text{ otherwise}; \qquad
              \frac{\partial f}{\partial a} = \min(x, 0)

    References
    ----------
    He, Zhang, Ren and Sun (2015).

    Chapter: Activation functions, section A kink
    """
    x, weight = as_tensor(x, "prelu"), as_tensor(weight, "prelu")
    axis = 1 if x.ndim > 1 else 0
    channels = x.shape[axis] if x.ndim else 1
    if weight.size != 1 and weight.shape != (channels,):
        raise ValueError(f"prelu: expected 1 slope or {channels} (one for each entry of axis {axis} of x, which has shape "
                         f"{x.shape}), got weight of shape {weight.shape} (chapter Activation functions, section A kink)")
    if x.ndim:
        weight = reshape(weight, (-1,) + (1,) * (x.ndim - 1 - axis))
    elif weight.ndim:
        weight = reshape(weight, ())
    return _prelu(x, weight)


def relu6(x):
    r"""ReLU that stops at 6, made for arithmetic in few bits.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = \min(\max(x, 0), 6)

    The derivative at 0 and at 6 is taken to be 0.

    References
    ----------
    Howard et al. (2017).

    Chapter: Activation functions, section A kink
    """
    return _relu6(x)


def threshold(x, threshold, value):
    r"""Keep what exceeds a threshold, replace the rest by a value.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    threshold, value : float
        The threshold, and what stands for everything up to it.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \text{ for } x > \text{threshold}, \quad \text{value otherwise}

    Chapter: Activation functions, section A kink
    """
    return _threshold(x, _number("threshold", "threshold", threshold), _number("threshold", "value", value))

# %% lib:saturating
#| export
_logsigmoid = elementwise_op(lambda x: minimum(x, 0.0) - log1p(exp(-absolute(x))),
                             lambda x: _logistic(-x), name="logsigmoid")
_softplus = elementwise_op(lambda x, beta: (maximum(beta * x, 0.0) + log1p(exp(-absolute(beta * x)))) / beta,
                           lambda x, beta: _logistic(beta * x), None, name="softplus")
_softsign = elementwise_op(lambda x: maximum(minimum(x, 1e30), -1e30) / (1.0 + minimum(absolute(x), 1e30)),
                           lambda x: (1.0 / (1.0 + absolute(x))) * (1.0 / (1.0 + absolute(x))), name="softsign")

# %% lib:saturating_api
#| export
#| code-fold: true
def sigmoid(x):
    r"""Logistic sigmoid, from 0 to 1.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}, \qquad \sigma' = \sigma (1 - \sigma) \le \tfrac14

    Chapter: Activation functions, section Curves that flatten
    """
    return autograd.sigmoid(x)


def tanh(x):
    r"""Hyperbolic tangent, from -1 to 1.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: \tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}} = 2 \sigma(2 x) - 1, \qquad \tanh' = 1 - \tanh^2

    Chapter: Activation functions, section Curves that flatten
    """
    return autograd.tanh(x)


def logsigmoid(x):
    r"""Logarithm of the sigmoid, without its underflow.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype, at most 0.

    Notes
    -----
    .. math:: \log \sigma(x) = \min(x, 0) - \log(1 + e^{-|x|})

    Chapter: Activation functions, section Curves that flatten
    """
    return _logsigmoid(x)


def softplus(x, beta=1.0):
    r"""Smooth ReLU: the integral of the sigmoid.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    beta : float
        Sharpness of the bend, positive; towards infinity softplus becomes ReLU.

    Returns
    -------
    Tensor
        Same shape and dtype, not negative.

    Notes
    -----
    .. math:: f(x) = \tfrac1\beta \log(1 + e^{\beta x}) = \tfrac1\beta \left(\max(\beta x, 0) + \log(1 + e^{-|\beta x|})\right)

    The second form overflows nowhere, so no threshold is needed above which the function is called linear.

    References
    ----------
    Dugas, Bengio, Bélisle, Nadeau and Garcia (2001).

    Chapter: Activation functions, section Curves that flatten
    """
    return _softplus(x, _number("softplus", "beta", beta, 0.0))


def softsign(x):
    r"""A sigmoid that flattens as slowly as 1/x.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = \frac{x}{1 + |x|}

    References
    ----------
    Glorot and Bengio (2010).

    Chapter: Activation functions, section Curves that flatten
    """
    return _softsign(x)

# %% lib:exponential
#| export
_elu = elementwise_op(lambda x, alpha: where(x <= 0.0, alpha * expm1(x), x),
                      lambda g, x, alpha: where(x <= 0.0, g * alpha * exp(x), g), None, name="elu")
_celu = elementwise_op(lambda x, alpha: where(x <= 0.0, alpha * expm1(x / alpha), x),
                       lambda g, x, alpha: where(x <= 0.0, g * exp(x / alpha), g), None, name="celu")
_selu = elementwise_op(lambda x: 1.0507009873554805 * where(x <= 0.0, 1.6732632423543772 * expm1(x), x),
                       lambda g, x: 1.0507009873554805 * where(x <= 0.0, g * 1.6732632423543772 * exp(x), g), name="selu")

# %% lib:exponential_api
#| export
#| code-fold: true
def elu(x, alpha=1.0):
    r"""Exponential linear unit: negative inputs run smoothly into -alpha.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    alpha : float
        Where the negative side ends.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \text{ for } x > 0, \quad \alpha (e^x - 1) \text{ otherwise}

    Smooth at 0 only for alpha = 1.

    References
    ----------
    Clevert, Unterthiner and Hochreiter (2016).

    Chapter: Activation functions, section Exponential tails
    """
    return _elu(x, _number("elu", "alpha", alpha))


def celu(x, alpha=1.0):
    r"""ELU stretched so that it is smooth at 0 for every alpha.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    alpha : float
        Where the negative side ends; not 0.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \text{ for } x > 0, \quad \alpha (e^{x / \alpha} - 1) \text{ otherwise}

    References
    ----------
    Barron (2017).

    Chapter: Activation functions, section Exponential tails
    """
    return _celu(x, _number("celu", "alpha", alpha, 0.0))


def selu(x):
    r"""Scaled ELU, with the two constants that keep mean 0 and variance 1 from layer to layer.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = \lambda x \text{ for } x > 0, \quad \lambda \alpha (e^x - 1) \text{ otherwise};
              \qquad \lambda = 1.0507\ldots, \; \alpha = 1.6733\ldots

    The constants solve E f(z) = 0 and E f(z)^2 = 1 for z ~ N(0, 1).

    References
    ----------
    Klambauer, Unterthiner, Mayr and Hochreiter (2017).

    Chapter: Activation functions, section Exponential tails
    """
    return _selu(x)

# %% lib:normal
#| export
def _normal_tail(z):
    "P(Z > z) for z >= 0: exp(-z²/2) times a function so smooth that a polynomial in (z-5)/(z+5) gives it to 16 digits."
    coarse = floor(16.0 * z) / 16.0
    t = (z - 5.0) / (z + 5.0)
    p = 5.151491485332322e-09
    p = -5.814075965453212e-08 + t * (-2.3627806826406506e-09 + t * p)
    p = 4.218019214509211e-07 + t * (2.982859361326789e-08 + t * p)
    p = -2.759874941021964e-06 + t * (-3.2349752237852993e-07 + t * p)
    p = 1.6676472037663173e-05 + t * (3.972040494146394e-06 + t * p)
    p = -5.9374254572626344e-05 + t * (-4.97588940707279e-05 + t * p)
    p = -0.0007978696711036696 + t * (0.0005448979466789302 + t * p)
    p = 0.020795066827479357 + t * (-0.002993376574719397 + t * p)
    p = 0.16502036616910737 + t * (-0.06911863872545303 + t * p)
    p = 0.49530561596999373 + t * (-0.31353315667043613 + t * p)
    p = 0.769193049750063 + t * (-0.6653825028900684 + t * p)
    return exp(-0.5 * coarse * coarse) * exp(-0.5 * (z - coarse) * (z + coarse)) * p / (z + 5.0)


def _normal_cdf(x):
    "P(Z <= x) for a standard normal Z, to full relative precision in the lower tail."
    tail = _normal_tail(minimum(absolute(x), 40.0))
    return where(x <= 0.0, tail, 1.0 - tail)


def _normal_pdf(x):
    "The density of a standard normal."
    return 0.3989422804014327 * exp(-0.5 * x * x)

# %% lib:helpers
#| export
def _finite(x):
    "x with infinities made finite, so that infinity times 0 does not become nan."
    return maximum(minimum(x, 1e30), -1e30)


def _silu_slope(x, beta):
    s = _logistic(beta * x)
    return s + beta * _finite(x) * s * (1.0 - s)


def _gelu_tanh_slope(x):
    z = maximum(minimum(x, 1e12), -1e12)
    s = _logistic(z * (1.5957691216057308 + 0.07135481627260025 * (z * z)))
    return s + z * s * (1.0 - s) * (1.5957691216057308 + 0.21406444881780076 * (z * z))


def _mish_gate(x):
    "tanh(softplus(x)) without logarithm or hyperbolic function: with e = exp(x) it is (e² + 2e) / (e² + 2e + 2)."
    e = exp(minimum(x, 22.0))
    return e * (e + 2.0) / (e * (e + 2.0) + 2.0)


def _mish_slope(x):
    gate = _mish_gate(x)
    return gate + _finite(x) * _logistic(x) * (1.0 - gate * gate)

# %% lib:gating
#| export
_gelu = elementwise_op(lambda x: maximum(x, -1e30) * _normal_cdf(x),
                       lambda x: _normal_cdf(x) + _finite(x) * _normal_pdf(x), name="gelu")
_gelu_tanh = elementwise_op(
    lambda x: maximum(x, -1e30) * _logistic(x * (1.5957691216057308 + 0.07135481627260025 * (x * x))),
    lambda x: _gelu_tanh_slope(x), name="gelu_tanh")
_silu = elementwise_op(lambda x: maximum(x, -1e30) * _logistic(x), lambda x: _silu_slope(x, 1.0), name="silu")
_swish = elementwise_op(lambda x, beta: maximum(x, -1e30) * _logistic(beta * x),
                        lambda x, beta: _silu_slope(x, beta),
                        lambda x, out: _finite(out) * (_finite(x) - _finite(out)), name="swish")
_mish = elementwise_op(lambda x: maximum(x, -1e30) * _mish_gate(x), lambda x: _mish_slope(x), name="mish")

# %% lib:gating_api
#| export
#| code-fold: true
def gelu(x, approximate="none"):
    r"""Gaussian error linear unit: x times the probability that a standard normal variable is below x.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    approximate : {"none", "tanh"}
        "tanh" uses the approximation of the paper, as some published models do; it is no faster here.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Raises
    ------
    ValueError
        If `approximate` is neither.

    Notes
    -----
    .. math:: f(x) = x \, \Phi(x), \qquad f'(x) = \Phi(x) + x \, \varphi(x)

    and with "tanh"

    .. math:: f(x) = x \, \sigma\!\left(2 \sqrt{2 / \pi} \, (x + 0.044715 \, x^3)\right)

    Exact to the last few bits also in the negative tail, where 1 + erf(x / sqrt 2) cancels.

    References
    ----------
    Hendrycks and Gimpel (2016).

    Chapter: Activation functions, section Units that gate themselves
    """
    if approximate == "none":
        return _gelu(x)
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r} (chapter Activation functions, "
                         "section Units that gate themselves)")
    return _gelu_tanh(x)


def silu(x):
    r"""Sigmoid linear unit, also called Swish: x times its own sigmoid.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \, \sigma(x), \qquad f' = \sigma + x \, \sigma (1 - \sigma)

    References
    ----------
    Hendrycks and Gimpel (2016); Elfwing, Uchibe and Doya (2018).

    Chapter: Activation functions, section Units that gate themselves
    """
    return _silu(x)


def swish(x, beta=1.0):
    r"""SiLU with a sharpness: from x/2 at beta = 0 to ReLU as beta grows.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    beta : Tensor, array_like or float
        Sharpness; broadcasts with `x`, and learns if it is a Tensor that requires a gradient.

    Returns
    -------
    Tensor
        Same dtype; shape of `x` and `beta` broadcast.

    Notes
    -----
    .. math:: f(x) = x \, \sigma(\beta x), \qquad \frac{\partial f}{\partial \beta} = f \, (x - f)

    References
    ----------
    Ramachandran, Zoph and Le (2017).

    Chapter: Activation functions, section Units that gate themselves
    """
    return _swish(x, beta)


def mish(x):
    r"""x times the tanh of its softplus.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \tanh(\log(1 + e^x)) = x \, \frac{e^{2x} + 2 e^x}{e^{2x} + 2 e^x + 2}

    References
    ----------
    Misra (2020).

    Chapter: Activation functions, section Units that gate themselves
    """
    return _mish(x)

# %% lib:hard
#| export
def _small_tanhshrink(x):
    "x - tanh(x) for |x| <= 1 from Lambert's continued fraction: nothing is subtracted, so nothing cancels."
    u = x * x
    above = 11486475.0 + u * (810810.0 + u * (12870.0 + u * 44.0))
    below = 34459425.0 + u * (16216200.0 + u * (945945.0 + u * (13860.0 + u * 45.0)))
    return x * u * (above / below)


_hardtanh = elementwise_op(lambda x, low, high: minimum(maximum(x, low), high),
                           lambda g, x, low, high: where(x <= low, 0.0, where(x >= high, 0.0, g)), None, None, name="hardtanh")
_hardsigmoid = elementwise_op(lambda x: minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0,
                              lambda g, x: where(absolute(x) < 3.0, g / 6.0, 0.0), name="hardsigmoid")
_hardswish = elementwise_op(lambda x: maximum(x, -3.0) * (minimum(maximum(x + 3.0, 0.0), 6.0) / 6.0),
                            lambda g, x: where(x <= -3.0, 0.0, where(x >= 3.0, g, g * (x / 3.0 + 0.5))), name="hardswish")
_tanhshrink = elementwise_op(lambda x: where(absolute(x) <= 1.0, _small_tanhshrink(maximum(minimum(x, 1.0), -1.0)), x - _tanh(x)),
                             lambda x: _tanh(x) * _tanh(x), name="tanhshrink")
_softshrink = elementwise_op(lambda x, bound: where(absolute(x) <= bound, 0.0, x - sign(x) * bound),
                             lambda g, x, bound: where(absolute(x) <= bound, 0.0, g), None, name="softshrink")
_hardshrink = elementwise_op(lambda x, bound: where(absolute(x) <= bound, 0.0, x),
                             lambda g, x, bound: where(absolute(x) <= bound, 0.0, g), None, name="hardshrink")

# %% lib:hard_api
#| export
#| code-fold: true
def hardtanh(x, min_val=-1.0, max_val=1.0):
    r"""The identity, cut off at both ends.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    min_val, max_val : float
        The ends.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Raises
    ------
    ValueError
        If max_val is not larger than min_val.

    Notes
    -----
    .. math:: f(x) = \min(\max(x, \text{min\_val}), \text{max\_val})

    The derivative at both ends is taken to be 0.

    Chapter: Activation functions, section Straight lines for few bits
    """
    low = _number("hardtanh", "min_val", min_val)
    return _hardtanh(x, low, _number("hardtanh", "max_val", max_val, low))


def hardsigmoid(x):
    r"""A sigmoid of three straight lines.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = \min(\max(x + 3, 0), 6) / 6

    The derivative at -3 and 3 is taken to be 0.

    References
    ----------
    Courbariaux, Bengio and David (2015), with another slope.

    Chapter: Activation functions, section Straight lines for few bits
    """
    return _hardsigmoid(x)


def hardswish(x):
    r"""Swish with the hard sigmoid as its gate.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \min(\max(x + 3, 0), 6) / 6

    The derivative is taken to be 0 at -3 and 1 at 3.

    References
    ----------
    Howard et al. (2019).

    Chapter: Activation functions, section Straight lines for few bits
    """
    return _hardswish(x)


def tanhshrink(x):
    r"""What tanh takes away.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x - \tanh(x), \qquad f'(x) = \tanh^2(x)

    Below |x| = 1 computed by a continued fraction, because the difference would cancel to nothing.

    Chapter: Activation functions, section Straight lines for few bits
    """
    return _tanhshrink(x)


def softshrink(x, lambd=0.5):
    r"""Move everything towards 0 by a fixed amount, and what is nearer than that onto 0.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    lambd : float
        The amount, not negative.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = \operatorname{sign}(x) \max(|x| - \lambda, 0)

    The step that solves the lasso (Donoho 1995); the derivative at both kinks is taken to be 0.

    References
    ----------
    Donoho (1995).

    Chapter: Activation functions, section Straight lines for few bits
    """
    return _softshrink(x, _number("softshrink", "lambd", lambd, -1e-300))


def hardshrink(x, lambd=0.5):
    r"""Zero for what is small, unchanged for the rest.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    lambd : float
        What is small, not negative.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: f(x) = x \text{ for } |x| > \lambda, \quad 0 \text{ otherwise}

    References
    ----------
    Donoho and Johnstone (1994).

    Chapter: Activation functions, section Straight lines for few bits
    """
    return _hardshrink(x, _number("hardshrink", "lambd", lambd, -1e-300))

# %% lib:gates
#| export
_GATES = {
    "glu": elementwise_op(lambda x, gate: x * _logistic(gate),
                          lambda gate: _logistic(gate), lambda x, gate: x * _logistic(gate) * _logistic(-gate), name="glu_pair"),
    "geglu": elementwise_op(lambda x, gate: x * (maximum(gate, -1e30) * _normal_cdf(gate)),
                            lambda gate: maximum(gate, -1e30) * _normal_cdf(gate),
                            lambda x, gate: x * (_normal_cdf(gate) + _finite(gate) * _normal_pdf(gate)), name="geglu_pair"),
    "swiglu": elementwise_op(lambda x, gate: x * (maximum(gate, -1e30) * _logistic(gate)),
                             lambda gate: maximum(gate, -1e30) * _logistic(gate),
                             lambda x, gate: x * _silu_slope(gate, 1.0), name="swiglu_pair"),
}


def _gated(name, x, axis):
    "One half of x, gated by the other; forward and backward write straight into halves."
    x = as_tensor(x, name)
    if x.dtype.kind != "f":
        x = x.astype(np.float32)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] % 2:
        raise ValueError(f"{name}: expected an axis of even size, a value and a gate for each unit; got shape {x.shape}, "
                         f"axis {axis} (chapter Activation functions, section Gates and groups)")
    op, half = _GATES[name].op, x.shape[axis] // 2
    at = (slice(None),) * (axis % x.ndim)
    first, second = (*at, slice(None, half)), (*at, slice(half, None))

    def rule(g, x):
        values = [x[first], x[second]]
        return concatenate([op.pull_tensors(i, g, [*values, None]) for i in (0, 1)], axis)

    def fast(g, x):
        out, values = np.empty_like(x), (x[first], x[second])
        for (kernel, picks), part in zip(op.pulls, (first, second), strict=True):
            launch(kernel, out[part], g, *[values[j] for j in picks])
        return out

    a, b = x.numpy()[first], x.numpy()[second]
    return record(name, launch(op.kernel, np.empty(a.shape, a.dtype), a, b), (x,), (rule,), saved=(x,), fast=(fast,))

# %% lib:gates_api
#| export
#| code-fold: true
def maxout(x, pieces=2, axis=-1):
    r"""The largest of each group of `pieces` neighbors along an axis.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; the size along `axis` is a multiple of `pieces`.
    pieces : int
        Size of a group: how many straight lines a unit may consist of.
    axis : int
        The axis of the units.

    Returns
    -------
    Tensor
        Same dtype; the axis is shorter by the factor `pieces`.

    Raises
    ------
    ValueError
        If the axis cannot be divided so.

    Notes
    -----
    .. math:: f(x)_i = \max_{0 \le j < k} x_{k i + j}

    The gradient goes to the winner; ties share it.

    References
    ----------
    Goodfellow, Warde-Farley, Mirza, Courville and Bengio (2013).

    Chapter: Activation functions, section Gates and groups
    """
    x = as_tensor(x, "maxout")
    if not -x.ndim <= axis < x.ndim or pieces < 1 or x.shape[axis] % pieces:
        raise ValueError(f"maxout: expected an axis whose size is a multiple of pieces={pieces}; got shape {x.shape}, axis {axis} "
                         "(chapter Activation functions, section Gates and groups)")
    axis %= x.ndim
    groups = reshape(x, (*x.shape[:axis], x.shape[axis] // pieces, pieces, *x.shape[axis + 1:]))
    return autograd.max(groups, axis + 1)


def glu(x, axis=-1):
    r"""Gated linear unit: the first half of an axis times the sigmoid of the second half.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape, of even size along `axis`: values first, then gates.
    axis : int
        The axis that is halved.

    Returns
    -------
    Tensor
        Same dtype; the axis is half as long.

    Raises
    ------
    ValueError
        If the axis has odd size.

    Notes
    -----
    .. math:: f(a, b) = a \, \sigma(b)

    References
    ----------
    Dauphin, Fan, Auli and Grangier (2017).

    Chapter: Activation functions, section Gates and groups
    """
    return _gated("glu", x, axis)


def geglu(x, axis=-1):
    r"""Gated linear unit with GELU in the place of the sigmoid.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape, of even size along `axis`: values first, then gates.
    axis : int
        The axis that is halved.

    Returns
    -------
    Tensor
        Same dtype; the axis is half as long.

    Notes
    -----
    .. math:: f(a, b) = a \operatorname{gelu}(b)

    References
    ----------
    Shazeer (2020).

    Chapter: Activation functions, section Gates and groups
    """
    return _gated("geglu", x, axis)


def swiglu(x, axis=-1):
    r"""Gated linear unit with SiLU in the place of the sigmoid.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape, of even size along `axis`: values first, then gates. Some published models store them the other way round.
    axis : int
        The axis that is halved.

    Returns
    -------
    Tensor
        Same dtype; the axis is half as long.

    Notes
    -----
    .. math:: f(a, b) = a \operatorname{silu}(b)

    References
    ----------
    Shazeer (2020).

    Chapter: Activation functions, section Gates and groups
    """
    return _gated("swiglu", x, axis)

# %% lib:softmax
#| export
#| code-fold: true
def softmax(x, axis=-1):
    r"""Positive numbers that sum to 1 along an axis, in the order of the inputs.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    axis : int
        The axis whose entries compete.

    Returns
    -------
    Tensor
        Same shape and dtype. A row in which all entries are -inf gives nan.

    Notes
    -----
    .. math:: p_i = \frac{e^{x_i}}{\sum_j e^{x_j}}

    References
    ----------
    Bridle (1990).

    Chapter: Activation functions, section Gates and groups
    """
    return autograd.softmax(x, axis)


def log_softmax(x, axis=-1):
    r"""Logarithm of `softmax`, exact also where the probability would underflow.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    axis : int
        The axis whose entries compete.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: \log p_i = x_i - \log \sum_j e^{x_j}

    Chapter: Activation functions, section Gates and groups
    """
    return autograd.log_softmax(x, axis)


def softmin(x, axis=-1):
    r"""Softmax of the negated input: the smallest entry gets the most.

    Parameters
    ----------
    x : Tensor or array_like
        Any shape; integers become float32.
    axis : int
        The axis whose entries compete.

    Returns
    -------
    Tensor
        Same shape and dtype.

    Notes
    -----
    .. math:: p_i = \frac{e^{-x_i}}{\sum_j e^{-x_j}}

    Chapter: Activation functions, section Gates and groups
    """
    return autograd.softmax(-as_tensor(x, "softmin"), axis)

# %% lib:units
#| export
class Unit(NamedTuple):
    """What the chapter knows of an elementwise activation: its function, its operation, and the parameters of its card.

    Chapter: Activation functions, section Cards, written by the code
    """

    function: object
    op: object
    parameters: tuple = ()
    keywords: dict = {}                              # noqa: RUF012 (read, never written)

    def __call__(self, x):
        return self.function(x, *self.parameters, **self.keywords)


UNITS = {
    "sigmoid": Unit(sigmoid, autograd.sigmoid.op), "tanh": Unit(tanh, autograd.tanh.op), "relu": Unit(relu, _relu.op),
    "leaky_relu": Unit(leaky_relu, _leaky_relu.op, (0.01,)), "prelu": Unit(prelu, _prelu.op, (0.25,)), "elu": Unit(elu, _elu.op, (1.0,)),
    "celu": Unit(celu, _celu.op, (2.0,)), "selu": Unit(selu, _selu.op), "gelu": Unit(gelu, _gelu.op),
    "gelu_tanh": Unit(gelu, _gelu_tanh.op, keywords={"approximate": "tanh"}), "silu": Unit(silu, _silu.op),
    "swish": Unit(swish, _swish.op, (2.0,)), "mish": Unit(mish, _mish.op), "softplus": Unit(softplus, _softplus.op, (1.0,)),
    "logsigmoid": Unit(logsigmoid, _logsigmoid.op), "softsign": Unit(softsign, _softsign.op), "relu6": Unit(relu6, _relu6.op),
    "hardsigmoid": Unit(hardsigmoid, _hardsigmoid.op), "hardswish": Unit(hardswish, _hardswish.op),
    "hardtanh": Unit(hardtanh, _hardtanh.op, (-1.0, 1.0)), "tanhshrink": Unit(tanhshrink, _tanhshrink.op),
    "softshrink": Unit(softshrink, _softshrink.op, (0.5,)), "hardshrink": Unit(hardshrink, _hardshrink.op, (0.5,)),
    "threshold": Unit(threshold, _threshold.op, (1.0, 0.0)),
}

# %% lib:numbers
#| export
def value_and_slope(f, x):
    """Value and derivative of an elementwise activation, in float64.

    Parameters
    ----------
    f : callable
        Takes a Tensor, returns one of the same shape.
    x : array_like
        Where.

    Returns
    -------
    value, slope : ndarray of float64
        Of the shape of `x`.

    Chapter: Activation functions, section Cards, written by the code
    """
    t = Tensor(np.array(x, np.float64), requires_grad=True)
    with autograd.enable_grad():
        y = f(t)
        y.backward(np.ones(y.shape))
    return y.numpy(), t.grad.numpy()


def kinks(f, low=-8.0, high=8.0):
    """Where the derivative of an elementwise activation jumps, found by bisection.

    Parameters
    ----------
    f : callable
        Takes a Tensor, returns one of the same shape.
    low, high : float
        Where to look.

    Returns
    -------
    list of float

    Notes
    -----
    Finds jumps above 0.05 that are at least 1/64 apart.

    Chapter: Activation functions, section Cards, written by the code
    """
    x = np.linspace(low, high, round(64 * (high - low)) + 1)
    slope = value_and_slope(f, x)[1]
    jumps = np.flatnonzero(np.abs(np.diff(slope)) > 0.05)
    left, right = x[jumps], x[jumps + 1]
    for _ in range(48):
        middle = (left + right) / 2
        at = [value_and_slope(f, points)[1] for points in (left, middle, right)]
        go_left = np.abs(at[1] - at[0]) > np.abs(at[2] - at[1])
        left, right = np.where(go_left, left, middle), np.where(go_left, middle, right)
    real = np.abs(value_and_slope(f, right)[1] - value_and_slope(f, left)[1]) > 0.05
    return sorted({round(k, 9) + 0.0 for k in ((left + right) / 2)[real].tolist()})


def expectation(f, scale=1.0, breaks=()):
    """E[f(z)] for z ~ N(0, scale²), by Gauss-Legendre quadrature between the breaks.

    Parameters
    ----------
    f : callable
        Takes an ndarray of float64, returns one of the same shape.
    scale : float
        Standard deviation of z.
    breaks : sequence of float
        Where f or its derivatives jump.

    Returns
    -------
    float
        Right to about 1e-12 of the integral of |f|.

    Notes
    -----
    Chapter: Activation functions, section Cards, written by the code
    """
    edges = np.unique(np.concatenate([np.linspace(-13.0, 13.0, 53), np.asarray(breaks, float) / scale]))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2
    z = edges[:-1, None] + half * (nodes + 1)
    return float((half * weights * np.exp(-z * z / 2) * f(scale * z)).sum() / math.sqrt(2 * math.pi))

# %% lib:symbol
#| export
class Symbol:
    r"""A stand-in for a number that writes down, in TeX, what a formula does with it.

    Parameters
    ----------
    tex : str
        How the symbol is written.
    level : int
        How tightly the expression binds: 1 a sum, 2 a product, 3 a power or sign, 9 everything else.

    Chapter: Activation functions, section Cards, written by the code
    """

    def __init__(self, tex, level=9):
        self.tex, self.level = tex, level

    def __deepnotes_op__(self, name, args):
        return _TEX_OPS[name](*args)

    def __neg__(self):
        return Symbol("-" + _tex(self, 2), 1)

    def __add__(self, other):
        return _sum(self, other, "+")

    def __radd__(self, other):
        return _sum(other, self, "+")

    def __sub__(self, other):
        return _sum(self, other, "-")

    def __rsub__(self, other):
        return _sum(other, self, "-")

    def __mul__(self, other):
        return _product(self, other)

    def __rmul__(self, other):
        return _product(other, self)

    def __truediv__(self, other):
        return self if _is(other, 1) else Symbol(rf"\frac{{{_tex(self)}}}{{{_tex(other)}}}", 3)

    def __rtruediv__(self, other):
        return Symbol(rf"\frac{{{_tex(other)}}}{{{_tex(self)}}}", 3)

    def __le__(self, other):
        return Symbol(rf"{_tex(self)} \le {_tex(other)}", 0)

    def __ge__(self, other):
        return Symbol(rf"{_tex(self)} \ge {_tex(other)}", 0)

    def __lt__(self, other):
        return Symbol(f"{_tex(self)} < {_tex(other)}", 0)

    def __gt__(self, other):
        return Symbol(f"{_tex(self)} > {_tex(other)}", 0)

# %% lib:symbol_rules
#| export
#| code-fold: true
def _is(x, number):
    return not isinstance(x, Symbol) and x == number


def _tex(x, level=0):
    "TeX of a symbol or number, in parentheses if it binds less tightly than `level`."
    if not isinstance(x, Symbol):
        x = Symbol(f"{x:.5g}", 9 if x >= 0 else 1)
    return x.tex if x.level >= level else rf"\left({x.tex}\right)"


def _sum(a, b, sign):
    if _is(b, 0):
        return a
    if _is(a, 0):
        return b if sign == "+" else -b
    return Symbol(f"{_tex(a, 1)} {sign} {_tex(b, 1 if sign == '+' else 2)}", 1)


def _product(a, b):
    for one, other in ((a, b), (b, a)):
        if _is(one, 1) or _is(one, 0):
            return other if _is(one, 1) else 0.0
    if isinstance(a, Symbol) and isinstance(b, Symbol) and a.tex == b.tex:
        return Symbol(f"{_tex(a, 9)}^2", 3)
    return Symbol(rf"{_tex(a, 2)} \, {_tex(b, 3 if isinstance(b, Symbol) and b.tex.startswith('-') else 2)}", 2)


def _bounded(name):
    def bound(x, y):
        for a, b in ((x, y), (y, x)):
            if not isinstance(a, Symbol) and abs(a) >= 1e12:        # only there to keep infinities out
                return b
        return Symbol(rf"\{name}({_tex(x)}, {_tex(y)})")
    return bound


def _cases(condition, x, y):
    rows = getattr(y, "rows", rf"{_tex(y)} & \text{{otherwise}}")
    made = rf"{_tex(x)} & {condition.tex} \\ {rows}"
    result = Symbol(rf"\begin{{cases}} {made} \end{{cases}}")
    result.rows = made
    return result


def _called(tex):
    return lambda x: Symbol(rf"{tex}\left({_tex(x)}\right)")


_TEX_OPS = {
    "maximum": _bounded("max"), "minimum": _bounded("min"), "where": _cases,
    "exp": lambda x: Symbol(f"e^{{{_tex(x)}}}", 3), "expm1": lambda x: Symbol(f"e^{{{_tex(x)}}} - 1", 1),
    "log1p": lambda x: Symbol(rf"\log\left(1 + {_tex(x, 1)}\right)"), "absolute": lambda x: Symbol(f"|{_tex(x)}|"),
    "sigmoid": _called(r"\sigma"), "tanh": _called(r"\tanh"), "sign": _called(r"\operatorname{sign}"),
}
_TEX_HELPERS = {"_normal_cdf": _called(r"\Phi"), "_normal_pdf": _called(r"\varphi"),
                "_mish_gate": _called(r"\tanh\operatorname{softplus}"),
                "_small_tanhshrink": _called(r"\operatorname{series}")}
_TEX_NAMES = {"slope": "a", "alpha": r"\alpha", "beta": r"\beta", "bound": r"\lambda", "least": "t", "value": "v", "low": "l",
              "high": "h", "out": "f"}

# %% lib:formula_tex
#| export
def formula_tex(function):
    r"""The TeX of a formula, found by calling it with symbols in the place of numbers.

    Parameters
    ----------
    function : callable
        A formula in operators and the vocabulary of `deepnotes.kernels`. If its first parameter is g, the incoming gradient,
        the formula is written for g = 1.

    Returns
    -------
    str
        TeX without dollar signs. Bounds that only keep infinities out are not written.

    Chapter: Activation functions, section Cards, written by the code
    """
    if isinstance(function, FunctionType) and not hasattr(function, "kernel"):
        known = {name: _traceable(value) for name, value in function.__globals__.items() if name in function.__code__.co_names}
        function = FunctionType(function.__code__, known | {"__builtins__": __builtins__}, function.__name__, None, function.__closure__)
    names = list(inspect.signature(function).parameters)
    return _tex(function(*[1.0 if name == "g" else Symbol(_TEX_NAMES.get(name, name)) for name in names]))


def _traceable(value):
    "A helper as it is written in a formula: by its name, or by what it computes."
    name = getattr(value, "__name__", None)
    if name in _TEX_HELPERS:
        return _TEX_HELPERS[name]
    if isinstance(value, FunctionType) and value.__module__ == __name__:
        known = {key: _traceable(x) for key, x in value.__globals__.items() if key in value.__code__.co_names}
        return FunctionType(value.__code__, known | {"__builtins__": __builtins__}, name, None, value.__closure__)
    return value

# %% lib:card
#| export
class Card(NamedTuple):
    """What can be said of a unit in numbers. Made by `card`; shows itself in a notebook.

    Chapter: Activation functions, section Cards, written by the code
    """

    name: str
    formula: str
    derivative: str
    parameters: dict
    range: str
    limits: tuple
    end_slopes: tuple
    steepest: float
    saturation: tuple
    kinks: list
    mean: float
    mean_square: float
    mean_square_slope: float

    def _repr_markdown_(self):
        given = ", ".join(f"${_TEX_NAMES.get(k, k)} = {v:g}$" for k, v in self.parameters.items())
        return "\n".join([
            f"**{self.name}**" + (f" with {given}" if given else ""), "",
            f"$$ f(x) = {self.formula} $$", "", f"$$ f'(x) = {self.derivative} $$", "",
            f"range ${self.range}$; largest slope {self.steepest:.4g}; "
            f"at $-\\infty$: value {_plain(self.limits[0])}, slope {self.end_slopes[0]:.4g}; "
            f"at $+\\infty$: value {_plain(self.limits[1])}, slope {self.end_slopes[1]:.4g}; "
            f"saturated {self.saturated()}; kinks: {', '.join(f'{k:g}' for k in self.kinks) or 'none'}; for $z \\sim N(0, 1)$: "
            f"$E f = {round(self.mean, 4) + 0.0:.4f}$, $E f^2 = {self.mean_square:.4f}$, $E f'^2 = {self.mean_square_slope:.4f}$"])

    def saturated(self):
        "Where the slope stays below 0.01, in words."
        left, right = self.saturation
        parts = ([f"below {left:.2f}"] if left is not None else []) + ([f"above {right:.2f}"] if right is not None else [])
        return " and ".join(parts) or "nowhere"


def _plain(x):
    return f"{x + 0.0:.4g}" if math.isfinite(x) else (r"$\infty$" if x > 0 else r"$-\infty$")


def card(name):
    """Measure a unit: formula and derivative from the code, everything else from running it.

    Parameters
    ----------
    name : str
        A key of `UNITS`.

    Returns
    -------
    Card

    Raises
    ------
    ValueError
        If there is no such unit.

    Notes
    -----
    Range, slopes and saturation are read off a grid of step 1/1000 between -10 and 10 and at both infinities; the
    expectations are integrals over N(0, 1), right to about 1e-12.

    Chapter: Activation functions, section Cards, written by the code
    """
    if name not in UNITS:
        raise ValueError(f"card: no unit is called {name!r}; there are {', '.join(UNITS)}")
    unit = UNITS[name]
    x = np.linspace(-10.0, 10.0, 20001)
    (value, slope), (ends, end_slopes) = value_and_slope(unit, x), value_and_slope(unit, [-np.inf, np.inf])
    breaks = kinks(unit)
    steep = np.flatnonzero(np.abs(slope) >= 0.01)
    flat = (x[steep[0]] if end_slopes[0] == 0 else None, x[steep[-1]] if end_slopes[1] == 0 else None)
    formula = unit.op.kernel.formula
    names = list(inspect.signature(formula).parameters)[1:]
    made = [expectation(lambda z, m=moment: m(*value_and_slope(unit, z)), breaks=breaks)
            for moment in (lambda f, d: f, lambda f, d: f**2, lambda f, d: d**2)]
    return Card(name, formula_tex(formula), formula_tex(unit.op.derivatives[0]),
                dict(zip(names, unit.parameters, strict=True)), _interval(value, ends), tuple(ends.tolist()), tuple(end_slopes.tolist()),
                float(np.abs(slope).max()), flat, breaks, *made)


def _interval(value, ends):
    "The range in TeX: an end that is reached is closed."
    low, high = min(value.min(), ends.min()), max(value.max(), ends.max())
    tex = [f"{end:.4g}".replace("inf", r"\infty") for end in (low + 0.0, high + 0.0)]
    return f"{'[' if value.min() == low else '('}{tex[0]}, {tex[1]}{']' if value.max() == high else ')'}"
