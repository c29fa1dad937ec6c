"""How the method is trained: reconstruction of one frame from another, then the network that swaps shapes.

Two players. "reconstruction" moves generator, region predictor and background predictor with one optimiser; "avd" moves
the AVD network, which reads the regions of the other's networks and changes nothing in them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.rng import stream
from reenax.core.types import Batch, Every, LossOut, Player, Variables
from reenax.core.updates import Gradient
from reenax.geometry.grids import inverse_2x2, matmul_2x2
from reenax.geometry.tps import TPS, TransformParams, random_tps, transform_image, transform_jacobian, transform_points
from reenax.losses.equivariance import equivariance_value_loss
from reenax.losses.terms import PictureWeights, landmark_terms, picture_terms, total
from reenax.methods.mraa.generator import Generated, Generator
from reenax.methods.mraa.networks import AVDNetwork, BackgroundPredictor, RegionPredictor, Regions
from reenax.methods.mraa.principal_axes import without_axis_swap


@dataclasses.dataclass(frozen=True)
class LossParams(PictureWeights):
    """Weights of the losses, further to those that compare pictures; a weight of 0 leaves the term out.

    Attributes:
        equivariance_shift, equivariance_affine: of the regions' positions and of their frames.
        avd_shift, avd_affine: of the AVD network's error in positions and frames.
    """

    equivariance_shift: float = 10.0
    equivariance_affine: float = 10.0
    avd_shift: float = 1.0
    avd_affine: float = 1.0


@dataclasses.dataclass(frozen=True)
class Stages:
    """Which player moves when, in steps. The published training is two runs, one per player.

    Attributes:
        reconstruction_stop: the first step on which generator, region and background predictor stay as they are; None
            for never.
        avd_start: the first step on which the AVD network moves; None for never.
    """

    reconstruction_stop: int | None = None
    avd_start: int | None = None


class Forward(NamedTuple):
    """One training forward pass.

    Attributes:
        source, driving: regions of both frames.
        transformed_frame: the driving frame under the random warp.
        transformed: its regions.
        background: motion of the background; None where the method has none.
        generated: what the generator made.
        mutated: network -> moved running statistics.
    """

    source: Regions
    driving: Regions
    transformed_frame: Float[Array, "b h w 3"]
    transformed: Regions
    background: Float[Array, "b 3 3"] | None
    generated: Generated
    mutated: Mapping[str, Any]


def equivariance_affine_loss(
    affine: Float[Array, "b r 2 2"],
    warp_jacobian: Float[Array, "b r 2 2"],
    transformed: Float[Array, "b r 2 2"],
    *,
    revert_axis_swap: bool,
) -> Float[Array, ""]:
    """Mean absolute difference of ``A_D^-1 (dT/dz) A_T`` from the identity, up to a common sign of its columns.

    Args:
        affine: frames of the driving picture's regions.
        warp_jacobian: dT/dz at the regions of the warped picture.
        transformed: frames of the warped picture's regions.
        revert_axis_swap: whether the sign is free.
    """
    product = matmul_2x2(inverse_2x2(affine), matmul_2x2(warp_jacobian, transformed))
    product = without_axis_swap(product) if revert_axis_swap else product
    return jnp.mean(jnp.abs(jnp.broadcast_to(jnp.eye(2, dtype=product.dtype), product.shape) - product))


def scaled(regions: Regions, scale: Float[Array, "b 2"]) -> Regions:
    """The regions of a picture that is stretched by two factors, one along x and one along y."""
    stretch = scale[:, None, :, None]
    covar = regions.covar * stretch * jnp.swapaxes(stretch, -1, -2)
    return Regions(regions.shift * scale[:, None], covar, regions.affine * stretch)


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        region_predictor, generator, avd_network: the networks.
        bg_predictor: the network of the background's motion; None where that is always none.
        losses: weights.
        transform: the random warp of the equivariance losses.
        stages: which player moves when.
        avd_scale: largest relative change of size of the poses that the AVD network learns from.
        avd_batch_statistics: the AVD player runs the region predictor in training mode.
        dtype: compute type of the perceptual network.
        remat: whether the perceptual network's activations are computed again in the backward pass.
    """

    region_predictor: RegionPredictor
    bg_predictor: BackgroundPredictor | None
    generator: Generator
    avd_network: AVDNetwork
    losses: LossParams
    transform: TransformParams
    stages: Stages
    avd_scale: float
    avd_batch_statistics: bool
    dtype: Any
    remat: bool

    @property
    def reconstructing(self) -> tuple[str, ...]:
        """The networks that "reconstruction" moves."""
        background = () if self.bg_predictor is None else ("bg_predictor",)
        return ("generator", "region_predictor", *background)

    def background(
        self, variables: Variables, source: Float[Array, "b h w 3"], driving: Float[Array, "b h w 3"]
    ) -> Float[Array, "b 3 3"] | None:
        """The background's motion between pictures in [0, 1], in evaluation mode."""
        if self.bg_predictor is None:
            return None
        found: Any = self.bg_predictor.apply(variables["bg_predictor"], source, driving, train=False)
        return found

    def forward(
        self, variables: Variables, source: Float[Array, "b h w 3"], driving: Float[Array, "b h w 3"], tps: TPS
    ) -> Forward:
        """Pictures in [0, 1] through all networks but the AVD one, in training mode.

        The region predictor sees source, driving and transformed frame in this order, and its running statistics move
        thrice.
        """
        transformed = transform_image(tps, driving, align_corners=self.generator.align_corners)
        predictor, found = variables["region_predictor"], []
        for picture in (source, driving, transformed):
            regions, moved = self.region_predictor.apply(predictor, picture, train=True, mutable=["batch_stats"])
            predictor = {**predictor, **moved}
            found.append(regions)
        mutated = {"region_predictor": {"batch_stats": predictor["batch_stats"]}}
        background: Any = None
        if self.bg_predictor is not None:
            background, moved = self.bg_predictor.apply(
                variables["bg_predictor"], source, driving, train=True, mutable=["batch_stats"]
            )
            mutated["bg_predictor"] = dict(moved)
        generated, moved = self.generator.apply(
            variables["generator"], source, found[0], found[1], background, train=True, mutable=["batch_stats"]
        )
        mutated["generator"] = dict(moved)
        return Forward(found[0], found[1], transformed, found[2], background, generated, mutated)  # pyright: ignore[reportArgumentType]

    def equivariance_terms(self, forward: Forward, tps: TPS) -> dict[str, Float[Array, ""]]:
        """The weighted terms that ask the region predictor to follow a known warp; nothing is detached in them."""
        w, terms = self.losses, {}
        driving, transformed = forward.driving, forward.transformed
        if w.equivariance_shift:
            moved = transform_points(tps, transformed.shift)
            terms["equivariance_shift"] = w.equivariance_shift * equivariance_value_loss(driving.shift, moved)
        if w.equivariance_affine:
            slope = transform_jacobian(tps, transformed.shift)
            loss = equivariance_affine_loss(
                driving.affine, slope, transformed.affine, revert_axis_swap=self.generator.revert_axis_swap
            )
            terms["equivariance_affine"] = w.equivariance_affine * loss
        return terms

    def loss_under(
        self,
        variables: Variables,
        source: Float[Array, "b h w 3"],
        driving: Float[Array, "b h w 3"],
        tps: TPS,
        batch: Batch | None = None,
    ) -> tuple[LossOut, Forward]:
        """The loss of the reconstruction for pictures in [0, 1] and a given warp, with the forward pass itself.

        ``batch`` gives the labels where labelled terms weigh; without it these are left out.
        """
        forward = self.forward(variables, source, driving, tps)
        made = forward.generated
        terms = picture_terms(
            self.losses,
            variables,
            made.prediction,
            made.deformed,
            driving,
            batch=batch,
            dtype=self.dtype,
            remat=self.remat,
        )
        terms |= self.equivariance_terms(forward, tps)
        terms |= landmark_terms(self.losses, forward.source.shift, forward.driving.shift, batch)
        return LossOut(total(terms), terms, forward.mutated), forward

    def reconstruction_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The loss of generator, region predictor and background predictor."""
        source, driving = to_unit(batch["source"]), to_unit(batch["driving"])
        tps = random_tps(stream(rng, "transform"), driving.shape[0], self.transform)
        return self.loss_under(variables, source, driving, tps, batch)[0]

    def avd_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The loss of the AVD network: the pose comes from a stretched frame, so that the shape must come from another.

        Both frames are of one person; the regions of the driving one, unstretched, are what it must find.
        """
        predictor, found, train = variables["region_predictor"], [], self.avd_batch_statistics
        for name in ("source", "driving"):
            regions, moved = self.region_predictor.apply(
                predictor, to_unit(batch[name]), train=train, mutable=["batch_stats"]
            )
            predictor = {**predictor, **moved}
            found.append(jax.lax.stop_gradient(regions))
        shape = (batch["source"].shape[0], 2)
        scale = jax.random.uniform(stream(rng, "scale"), shape, minval=1 - self.avd_scale, maxval=1 + self.avd_scale)
        out, _ = self.avd_loss_under(variables, found[0], found[1], scale)
        mutated = dict(out.mutated)
        if train:
            mutated["region_predictor"] = {"batch_stats": predictor["batch_stats"]}
        return out._replace(mutated=mutated)

    def avd_loss_under(
        self, variables: Variables, identity: Regions, target: Regions, scale: Float[Array, "b 2"]
    ) -> tuple[LossOut, Regions]:
        """The loss of the AVD network for given regions and a given stretch, with the regions that it finds."""
        swapped, moved = self.avd_network.apply(
            variables["avd_network"], identity, scaled(target, scale), train=True, mutable=["batch_stats"]
        )
        assert isinstance(swapped, Regions)
        w = self.losses
        terms = {
            "shift": w.avd_shift * jnp.mean(jnp.abs(swapped.shift - target.shift)),
            "affine": w.avd_affine * jnp.mean(jnp.abs(swapped.affine - target.affine)),
        }
        return LossOut(terms["shift"] + terms["affine"], terms, {"avd_network": dict(moved)}), swapped

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """ "reconstruction", then "avd"; one that never moves is left out.

        Raises:
            UserError: an optimiser is missing, or nobody would ever move.
        """
        made = []
        if self.stages.reconstruction_stop != 0:
            update = Gradient(self.reconstruction_loss, _chosen(optim, "reconstruction"), accumulate)
            when = Every() if self.stages.reconstruction_stop is None else Every(stop=self.stages.reconstruction_stop)
            made.append(Player("reconstruction", self.reconstructing, update, when))
        if self.stages.avd_start is not None:
            update = Gradient(self.avd_loss, _chosen(optim, "avd"), accumulate)
            moved = ("avd_network", "region_predictor") if self.avd_batch_statistics else ("avd_network",)
            when = Every(start=self.stages.avd_start)
            made.append(Player("avd", ("avd_network",), update, when, persists=moved))
        if not made:
            raise UserError("config.model.stages leaves nothing to train: raise reconstruction_stop or set avd_start")
        return tuple(made)


def _chosen(optim: Mapping[str, optax.GradientTransformation], name: str) -> optax.GradientTransformation:
    if name not in optim:
        raise UserError(f'config.optim.{name} is missing; mraa has the players "reconstruction" and "avd"')
    return optim[name]
