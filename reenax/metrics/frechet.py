"""The Fréchet distance of two sets of features (Heusel et al., 2017): FID of pictures, FVD of clips.

On the host in float64: features have 2048 numbers, and the trace of the root needs all digits. The features come from
any network; those of FID from :func:`fid_features`.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Float64

from reenax.core.errors import UserError
from reenax.core.types import Collections
from reenax.metrics.weights import draw
from reenax.nn.inception import FidInception, frozen_inception


@dataclasses.dataclass(frozen=True)
class Stats:
    """Mean and scatter of a set of features; two sets merge into that of both, in any order.

    Attributes:
        count: number of features.
        mean: their mean.
        scatter: the sum of outer products of deviations from the mean; plain sums of products would cancel where the
            mean is large.
    """

    count: int
    mean: Float64[np.ndarray, " d"]
    scatter: Float64[np.ndarray, "d d"]

    @classmethod
    def empty(cls, size: int) -> "Stats":
        """No features yet, of the given length."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Stats":
        """Those of a batch of features, of any number.

        Raises:
            UserError: a feature is not finite.
        """
        features = np.asarray(features, np.float64)
        if not np.isfinite(features).all():
            raise UserError("features hold values that are not finite; look at the network or the pictures")
        if not len(features):
            return cls.empty(features.shape[1])
        mean = features.mean(axis=0)
        deviations = features - mean[None, :]
        return cls(len(features), mean, deviations.T @ deviations)

    @classmethod
    def from_moments(cls, mean: Float[np.ndarray, " d"], covariance: Float[np.ndarray, "d d"], count: int) -> "Stats":
        """Those of published moments (``mu`` and ``sigma`` of the statistics files that FID tools write).

        Args:
            mean: the features' mean.
            covariance: the sample covariance (divided by ``count - 1``).
            count: how many features there were, two at least. It matters to merging alone.
        """
        if count < 2:
            raise UserError(f"a covariance is of two features at least, got count={count}")
        return cls(count, np.asarray(mean, np.float64), np.asarray(covariance, np.float64) * (count - 1))

    def merge(self, other: "Stats") -> "Stats":
        """Those of both sets together (Chan, Golub and LeVeque, 1979).

        Raises:
            UserError: the features have different lengths.
        """
        _same_length(self, other)
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Stats(count, mean, self.scatter + other.scatter + between)

    def update(self, features: Float[np.ndarray, "n d"]) -> "Stats":
        """With one more batch."""
        return self.merge(Stats.of(features))

    @property
    def covariance(self) -> Float64[np.ndarray, "d d"]:
        """The sample covariance.

        Raises:
            UserError: there are fewer than two features.
        """
        if self.count < 2:
            raise UserError(f"a covariance needs two features at least, there is {self.count or 'none'}")
        return self.scatter * (1 / (self.count - 1))


def distance(a: Stats, b: Stats) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``. Equal sets give about 1e-13, of either sign.

    The trace of the root is that of the eigenvalues of S1^(1/2) S2 S1^(1/2), which are real, and precise for singular
    covariances too. Fewer features than they are long leave the covariances singular: the value is then defined, but
    far from that of the distribution.

    Args:
        a, b: the two sets.

    Raises:
        UserError: features of different lengths, or fewer than two of them.
    """
    _same_length(a, b)
    first, second = a.covariance, b.covariance
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(first) + np.trace(second) - 2 * _trace_of_root(first, second))


def _trace_of_root(first: Float64[np.ndarray, "d d"], second: Float64[np.ndarray, "d d"]) -> float:
    values, vectors = scipy.linalg.eigh(first)
    half = (vectors * np.sqrt(np.maximum(values, 0))[None, :]) @ vectors.T
    inner = scipy.linalg.eigvalsh(half @ second @ half)
    return float(np.sqrt(np.maximum(inner, 0)).sum())


def _same_length(a: Stats, b: Stats) -> None:
    if a.mean.shape != b.mean.shape:
        raise UserError(f"features of {a.mean.size} and of {b.mean.size} numbers cannot be compared")


def fid_features(
    pictures: Float[Array, "b h w 3"], variables: Collections | None = None, *, random_weights: bool = False
) -> Float[Array, "b 2048"]:
    """The features of FID of pictures in [-1, 1], which are resized to 299 x 299 as pytorch-fid does.

    Args:
        pictures: a batch of a size that stays the same, since every size is compiled anew.
        variables: the weights, of :func:`reenax.interop.inception.load`.
        random_weights: draw the weights when there are none; for tests, the distances mean nothing.

    Raises:
        UserError: no weights.
    """
    if variables is None:
        if not random_weights:
            raise UserError(
                "FID needs weights: load them by reenax.interop.inception.load(FILE) from "
                "pt_inception-2015-12-05-6726825d.pth, or ask for random_weights=True"
            )
        variables = draw(frozen_inception())
    return _features(variables, pictures)


@jax.jit
def _features(variables: Collections, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
    seen: Any = FidInception().apply(variables, (pictures + 1) / 2)
    return seen["pool3"]
