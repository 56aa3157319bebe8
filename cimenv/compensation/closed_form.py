"""Corrections of one chip at one site in closed form: regressions of clean outputs on the chip's, from their moments.

A chip's deviation is fixed, so a chip can be measured: a few unlabelled inputs run through the clean network and
through the chip. With outputs Y of the chip, clean outputs T and inputs X of the site, `[rows, channels]` (positions of
a convolution are rows), every correction here is linear in Y or X and follows from means and covariances alone:

    affine      a = cov(Y, T) / var(Y),  y -> a y + (mean T - a mean Y)          least squares, 2 c numbers
    matched     a = sd(T) / sd(Y)                                                equal moments (as AdaBS, batch norm)
    linear      Z = a (Y - mean Y), R = T - mean T - Z,
                B = (Z'Z/n + l diag Z'Z/n)^-1 Z'R/n,  y -> Z + Z B + mean T      ridge regression of what affine leaves
    low rank    B V V', V the leading right singular vectors of Z B              reduced-rank regression
    on input    the same with X - mean X as the regressor of R                   approximates -dW
    tiles       a scale for every output and array, one shift                    ridge towards the layer's scale

The affine map comes first, so that a chip's gains and offsets do not matter. Leading dimensions are chips.

Sources: reduced-rank regression, Izenman (J. Multivariate Analysis 5:248, 1975); the closed low-rank form for
quantisation errors, QERA (arXiv 2410.06040); statistics re-estimated on a chip, AdaBS (Joshi et al., Nature
Communications 11:2473, 2020); layer-wise tuning on a chip, NeuRRAM (Wan et al., Nature 608:504, 2022) and arXiv
2111.06457; feature distillation by gradient, DoRA calibration (arXiv 2504.03763).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

RIDGE = 0.01  # l: of every regressor's own variance


@dataclass(frozen=True)
class Moments:
    """Means and covariances of two sets of columns over the same rows, in float64.

    Attributes:
        mean_x: of the regressors, `[..., p]`.
        mean_t: of the targets, `[..., c]`.
        xx: covariance of the regressors, `[..., p, p]`.
        xt: covariance of regressors and targets, `[..., p, c]`.
        tt: variance of the targets, `[..., c]`.
        rows: how many.
    """

    mean_x: Tensor
    mean_t: Tensor
    xx: Tensor
    xt: Tensor
    tt: Tensor
    rows: int


@dataclass
class RowSums:
    """Gathers moments over rows that come in blocks, in memory for the moments alone.

    Columns are taken relative to the first block's means, so that large means cost no digits.
    """

    rows: int = 0
    _origin: tuple[Tensor, Tensor] | None = None
    _sums: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor, t: Tensor) -> None:
        """Add rows: regressors `[..., n, p]` and targets `[..., n, c]`."""
        x, t = x.double(), t.double()
        if self._origin is None:
            self._origin = x.mean(-2, keepdim=True), t.mean(-2, keepdim=True)
        x, t = x - self._origin[0], t - self._origin[1]
        new = [x.sum(-2), t.sum(-2), x.mT @ x, x.mT @ t, t.square().sum(-2)]
        self._sums = [old + more for old, more in zip(self._sums, new, strict=True)] if self._sums else new
        self.rows += x.shape[-2]

    def moments(self) -> Moments:
        """Return the moments of all rows so far.

        Raises:
            ValueError: there are none.
        """
        if self._origin is None:
            raise ValueError("rows: got none; add some first.")
        sum_x, sum_t, xx, xt, tt = (each / self.rows for each in self._sums)
        return Moments(
            mean_x=sum_x + self._origin[0].squeeze(-2),
            mean_t=sum_t + self._origin[1].squeeze(-2),
            xx=xx - sum_x.unsqueeze(-1) * sum_x.unsqueeze(-2),
            xt=xt - sum_x.unsqueeze(-1) * sum_t.unsqueeze(-2),
            tt=(tt - sum_t.square()).clamp_min(0.0),
            rows=self.rows,
        )


@dataclass(frozen=True)
class Affine:
    """A scale and a shift for every channel: `y -> scale * y + shift`, both `[..., c]`."""

    scale: Tensor
    shift: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        """Return corrected outputs `[..., n, c]`."""
        return self.scale.unsqueeze(-2) * y + self.shift.unsqueeze(-2)


@dataclass(frozen=True)
class Linear:
    """An affine map, and what a matrix adds: `y -> affine(y) + (x - mean_x) @ matrix`, x being y or the site's input.

    Attributes:
        affine: comes first.
        mean_x: of the regressor, `[..., p]`.
        matrix: `[..., p, c]`.
        rank: of the matrix, which is kept as two factors where that is smaller.
    """

    affine: Affine
    mean_x: Tensor
    matrix: Tensor
    rank: int

    def __call__(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """Return corrected outputs `[..., n, c]`; `x` are the regressors, by default y itself."""
        return self.affine(y) + ((y if x is None else x) - self.mean_x.unsqueeze(-2)) @ self.matrix

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return the matrix as `[..., p, rank]` and `[..., rank, c]`."""
        u, s, v = torch.linalg.svd(self.matrix, full_matrices=False)
        r = self.rank
        return u[..., :r] * s[..., None, :r], v[..., :r, :]


def _diagonal(square: Tensor) -> Tensor:
    return square.diagonal(dim1=-2, dim2=-1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return a ratio, 0 where the denominator is: a dead channel gets its mean."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)


def affine(y: Moments) -> Affine:
    """Return the least-squares scale and shift of every channel."""
    return _through_means(_ratio(_diagonal(y.xt), _diagonal(y.xx)), y)


def matched(y: Moments) -> Affine:
    """Return the scale and shift that give every channel the clean mean and standard deviation."""
    return _through_means(_ratio(y.tt, _diagonal(y.xx)).sqrt(), y)


def _through_means(scale: Tensor, y: Moments) -> Affine:
    return Affine(scale, y.mean_t - scale * y.mean_x)


def linear(y: Moments, ridge: float = RIDGE, rank: int | None = None) -> Linear:
    """Return the ridge regression, on the chip's outputs, of what the affine map leaves; of a rank on request.

    Args:
        y: moments of the chip's outputs and the clean ones.
        ridge: l.
        rank: of the matrix; None keeps it whole.
    """
    first = affine(y)
    a = first.scale
    zz = a.unsqueeze(-1) * y.xx * a.unsqueeze(-2)
    matrix, rank = _ridge(zz, a.unsqueeze(-1) * y.xt - zz, ridge, rank)
    return Linear(first, y.mean_x, a.unsqueeze(-1) * matrix, rank)


def linear_on_input(y: Moments, x: Moments, xy: Tensor, ridge: float = RIDGE, rank: int | None = None) -> Linear:
    """Return the ridge regression, on the site's inputs, of what the affine map leaves; of a rank on request.

    Args:
        y: moments of the chip's outputs and the clean ones.
        x: moments of the unfolded inputs and the clean outputs.
        xy: covariance of inputs and the chip's outputs, `[..., p, c]`.
        ridge: l.
        rank: of the matrix; None keeps it whole.
    """
    first = affine(y)
    matrix, rank = _ridge(x.xx, x.xt - xy * first.scale.unsqueeze(-2), ridge, rank)
    return Linear(first, x.mean_x, matrix, rank)


def _ridge(xx: Tensor, xr: Tensor, ridge: float, rank: int | None) -> tuple[Tensor, int]:
    """Return the matrix of a ridge regression, and its rank; regressors that never vary count for nothing."""
    variance = _diagonal(xx)
    alive = variance > 0
    held = xx + torch.diag_embed(torch.where(alive, ridge * variance, 1.0))
    solved, singular = torch.linalg.solve_ex(held, xr)
    matrix = torch.where(alive.unsqueeze(-1), solved, 0.0)
    if bool(singular.any()) or not bool(matrix.isfinite().all()):  # collinear regressors without a ridge
        matrix = torch.linalg.pinv(held, hermitian=True) @ xr
    largest = min(matrix.shape[-2:])
    if rank is None or rank >= largest:
        return matrix, largest
    _, vectors = torch.linalg.eigh(matrix.mT @ xx @ matrix)  # of fitted values; ascending
    leading = vectors[..., -rank:]
    return matrix @ leading @ leading.mT, rank


@dataclass(frozen=True)
class Tiles:
    """A scale for every array's part of every output, and one shift: `[..., c, k]` and `[..., c]`."""

    scales: Tensor
    shift: Tensor

    def __call__(self, parts: Tensor) -> Tensor:
        """Return corrected outputs `[..., n, c]` of the arrays' parts `[..., n, c, k]`."""
        return (self.scales.unsqueeze(-3) * parts).sum(-1) + self.shift.unsqueeze(-2)


def tiles(parts: Tensor, t: Tensor, ridge: float = RIDGE) -> Tiles:
    """Return the scales of every array's part of an output, ridge-regressed towards the scale of the whole layer.

    For every output, `(G + m I) A = h + m a` with G = P'P/n and h = P'T/n of centred parts and targets,
    m = l mean(diag G), and a the layer's own scale.

    Args:
        parts: of the chip's outputs by array, `[..., n, c, k]`; their sums are the outputs.
        t: clean outputs, `[..., n, c]`.
        ridge: l.
    """
    parts, t = parts.double(), t.double()
    mean_p, mean_t = parts.mean(-3), t.mean(-2)
    p, r = parts - mean_p.unsqueeze(-3), t - mean_t.unsqueeze(-2)
    n = parts.shape[-3]
    gram = torch.einsum("...nck,...ncj->...ckj", p, p) / n
    cross = torch.einsum("...nck,...nc->...ck", p, r) / n
    whole = _ratio(cross.sum(-1), gram.sum((-2, -1)))
    pull = ridge * _diagonal(gram).mean(-1)
    pull = torch.where(pull > 0, pull, 1.0)
    held = gram + torch.diag_embed(pull.unsqueeze(-1).expand(cross.shape))
    scales = torch.linalg.solve(held, (cross + (pull * whole).unsqueeze(-1)).unsqueeze(-1)).squeeze(-1)
    return Tiles(scales, mean_t - (scales * mean_p).sum(-1))
