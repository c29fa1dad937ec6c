"""How X2Face is trained: two stages over the same two networks, and the players that fit the maps.

"photometric" (stage 1) compares the generated with the driving frame. "content" (stage 2) adds what a frozen network of
faces sees: driven by a frame of the same person the result must look like that frame, driven by somebody else's it must
look like the source. "pose_from_vector" (P), "vector_from_pose" (Q) and "vector_from_audio" (R) read driving vectors in
evaluation mode and change nothing in the two networks.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.audio.spectrum import SpectrumParams, log_mel
from reenax.core.errors import UserError
from reenax.core.pictures import to_unit
from reenax.core.precision import wide
from reenax.core.types import Batch, Every, FrozenNetwork, LossOut, Player, Variables
from reenax.core.updates import Gradient
from reenax.geometry.sampling import grid_sample
from reenax.losses.terms import PictureWeights, picture_terms, total
from reenax.methods.x2face.maps import LeastSquares, normed_params
from reenax.methods.x2face.networks import OF_CODE, Embedded, Networks, driven_grid, embed
from reenax.nn.vgg_m import FACE_NETWORKS, face_features, frozen_face_network, layers_of

TINY = 1e-8  # in the denominators of running ratios


@dataclasses.dataclass(frozen=True)
class LossParams(PictureWeights):
    """Weights of what compares pictures; the published loss is the photometric term alone.

    Attributes:
        photometric: of the mean absolute difference from the driving frame.
        canonical: of how far landmarks are from where they belong. Not published: for synthetic heads. A landmark of
            the driving frame must be sampled at its canonical place in the embedded face, and what lies there must
            come from the same landmark of the source. With the landmarks of the mean head neither says anything of the
            person's shape, so that the driving vector of one person fits another's embedded face.
        canonical_points: x and y in [-1, 1] of the canonical place of every one of ``landmark_points``.
        landmarks: of how far landmarks are from where a linear map finds them that reads the driving vector behind its
            ReLU. Not published: what should be driven by linear maps must be linear in the vector.
        others: see the parent.
    """

    scales: tuple[float, ...] = (1.0,)
    perceptual: tuple[float, ...] = ()
    deformed: float = dataclasses.field(default=0.0, init=False)  # no key: all that is made is the warped source
    photometric: float = 1.0
    canonical: float = 0.0
    canonical_points: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        prefix = "config.model.losses"
        if (self.canonical or self.landmarks) and not self.landmark_points:
            raise UserError(f"{prefix}.landmark_points is empty: canonical and landmarks need some of 0 to 67")
        if self.canonical and len(self.canonical_points) != 2 * len(self.landmark_points):
            raise UserError(
                f"{prefix}.canonical_points has {len(self.canonical_points)} numbers for "
                f"{len(self.landmark_points)} landmark_points; give x and y of each"
            )


@dataclasses.dataclass(frozen=True)
class ContentParams:
    """The content losses of stage 2, each the mean absolute difference of one layer's features.

    Attributes:
        network: the frozen network of faces, one of `reenax.nn.vgg_m.FACE_NETWORKS`.
        same: layers compared where the driver is the same person; the paper's conv2, 3, 4, 5 and 7, after the ReLU.
        other: layers compared with the source where the driver is another; the paper's conv6 and 7.
        same_share, other_share: every term is made as large as so many times the photometric loss, by the ratio of
            both in the batch, through which no gradient flows.
        same_weights, other_weights: fixed weights, one per layer, in place of running ratios; () for ratios.
    """

    network: str = "vggface11"
    same: tuple[str, ...] = ("relu2_1", "relu3_1", "relu3_2", "relu4_1", "relu5_1")
    other: tuple[str, ...] = ("relu4_2", "relu5_1")
    same_share: float = 1.0
    other_share: float = 0.1
    same_weights: tuple[float, ...] = ()
    other_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("same", "other"):
            weights, layers = getattr(self, f"{name}_weights"), getattr(self, name)
            if weights and len(weights) != len(layers):
                raise UserError(
                    f"config.model.content.{name}_weights has {len(weights)} numbers for {len(layers)} layers; "
                    f"give one per layer, or none for running ratios"
                )

    def frozen_network(self) -> FrozenNetwork:
        """The network of faces.

        Raises:
            UserError: there is none of that name, or it lacks a layer.
        """
        prefix = "config.model.content"
        if self.network not in FACE_NETWORKS:
            raise UserError(f"{prefix}.network={self.network!r} is unknown; use one of {', '.join(FACE_NETWORKS)}")
        layers = layers_of(self.network)
        if unknown := [n for n in (*self.same, *self.other) if n not in layers]:
            raise UserError(f"{prefix}: {self.network} has no layer {unknown[0]!r}; it has {', '.join(layers)}")
        return frozen_face_network(self.network)


@dataclasses.dataclass(frozen=True)
class Stages:
    """Which player moves when, in steps.

    Attributes:
        photometric_stop: the first step without stage 1; None for never.
        content_start: the first step of stage 2; None for never.
        maps_start: the first step on which the maps are fitted; None for never.
    """

    photometric_stop: int | None = None
    content_start: int | None = None
    maps_start: int | None = None


@dataclasses.dataclass(frozen=True)
class MapParams:
    """How the maps are fitted.

    Attributes:
        ridge: weight of the kernels' squares, in units of the inputs' mean variance.
        rectified: R tells the driving vector behind the ReLU, as the published audio demo reads it, or before.
        labels: what they are fitted to: "pose" for P and Q, "audio" for R.
    """

    ridge: float = 1e-3
    rectified: bool = True
    labels: tuple[str, ...] = ("pose", "audio")

    def __post_init__(self) -> None:
        if not self.labels or set(self.labels) - {"pose", "audio"}:
            raise UserError(f"config.model.maps.labels={self.labels}: maps are fitted to 'pose', 'audio' or both")


class Forward(NamedTuple):
    """One training forward pass.

    Attributes:
        embedded: what became of the source frames.
        vector: driving vectors.
        grid: where every pixel of the result lies in the embedded face.
        generated: the result.
        mutated: network -> moved running statistics.
    """

    embedded: Embedded
    vector: Float[Array, "b e"]
    grid: Float[Array, "b h w 2"]
    generated: Float[Array, "b h w 3"]
    mutated: Mapping[str, Any]


def require(batch: Batch, *names: str) -> None:
    """Refuses examples that lack what losses or maps read of them.

    Raises:
        UserError: naming what is missing.
    """
    for name in names:
        if name not in batch:
            _, _, label = name.partition("_")
            cure = f" with {label!r} among config.data.labels" if label else ""
            raise UserError(f"x2face reads {name!r}, which the examples lack: use config.data.sampler='pair'{cure}")


def frames_of(batch: Batch) -> tuple[Float[Array, "b k h w 3"], Float[Array, "b h w 3"]]:
    """Source frames and driving frame in [0, 1]: of a pair, or of a window, whose last frame is the driving one.

    Raises:
        UserError: the examples are neither.
    """
    if "frames" in batch:
        frames = to_unit(batch["frames"])
        return frames[:, :-1], frames[:, -1]
    require(batch, "source", "driving")
    return to_unit(batch["source"])[:, None], to_unit(batch["driving"])


def sampled_at(grid: Float[Array, "b h w 2"], points: Float[Array, "b p 2"]) -> Float[Array, "b p 2"]:
    """What a grid says at some places in [-1, 1]."""
    return grid_sample(grid, points[:, None], padding="border")[:, 0]


@dataclasses.dataclass(frozen=True)
class Game:
    """The networks with their losses.

    Attributes:
        networks: all of them.
        losses, content, stages, maps: weights, and which player moves when.
        sound: how sound is described.
        dtype: compute type of the frozen network.
        remat: whether the two large networks' activations are computed again in the backward pass.
    """

    networks: Networks
    losses: LossParams
    content: ContentParams
    stages: Stages
    maps: MapParams
    sound: SpectrumParams
    dtype: Any
    remat: bool

    def forward(
        self, variables: Variables, sources: Float[Array, "b k h w 3"], driving: Float[Array, "b h w 3"]
    ) -> Forward:
        """Pictures in [0, 1] through both networks in training mode.

        The embedding network is called once per source frame, with the statistics of those frames, as in the published
        code.
        """
        embedder, outputs = variables["embedder"], []
        for k in range(sources.shape[1]):
            (output, _), moved = self._trained(self.networks.embedder, embedder, sources[:, k])
            embedder = {**embedder, **moved}
            outputs.append(output)
        embedded = embed(sources, jnp.stack(outputs, axis=1), self.networks.confidence_bias)
        (output, vector), moved = self._trained(self.networks.driver, variables["driver"], driving)
        grid = driven_grid(output)
        mutated = {"embedder": {"batch_stats": embedder["batch_stats"]}, "driver": dict(moved)}
        return Forward(embedded, wide(vector[:, 0, 0]), grid, grid_sample(embedded.face, grid), mutated)

    def _trained(self, network: Any, variables: Any, frames: Array) -> Any:
        run = functools.partial(network.apply, train=True, mutable=["batch_stats"])
        return (jax.checkpoint(run) if self.remat else run)(variables, frames)

    def picture_terms(self, variables: Variables, forward: Forward, driving: Array, batch: Batch) -> dict[str, Array]:
        """The weighted terms of stage 1.

        Raises:
            UserError: the examples lack a label that one of them reads.
        """
        w, made, terms = self.losses, forward.generated, {}
        require(batch, *(["driving_landmarks"] if w.mouth or w.eyes else []))
        if w.photometric:
            terms["photometric"] = w.photometric * jnp.mean(jnp.abs(made - driving))
        layout = {"dtype": self.dtype, "remat": self.remat}
        terms |= picture_terms(w, variables, made, made, driving, batch=batch, **layout)
        if w.canonical:
            terms["canonical"] = w.canonical * self._off_canonical(forward, batch)
        if w.landmarks:
            require(batch, "driving_landmarks_mean")
            found = self.networks.landmarks(variables, forward.vector)
            away = found - batch["driving_landmarks_mean"][:, jnp.asarray(w.landmark_points, jnp.int32)]
            terms["landmarks"] = w.landmarks * jnp.mean(jnp.abs(away))
        return terms

    def _off_canonical(self, forward: Forward, batch: Batch) -> Float[Array, ""]:
        """Mean distance in [-1, 1] of landmarks from where both grids should find them."""
        require(batch, "source_landmarks_mean", "driving_landmarks_mean")
        chosen = jnp.asarray(self.losses.landmark_points, jnp.int32)
        points = jnp.asarray(self.losses.canonical_points, forward.grid.dtype).reshape(1, -1, 2)
        source, driving = (batch[f"{name}_landmarks_mean"][:, chosen] for name in ("source", "driving"))
        points = jnp.broadcast_to(points, source.shape)
        away = (sampled_at(forward.grid, driving) - points, sampled_at(forward.embedded.grid[:, 0], points) - source)
        return jnp.mean(jnp.abs(jnp.stack(away)))

    def photometric_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Stage 1."""
        sources, driving = frames_of(batch)
        forward = self.forward(variables, sources, driving)
        terms = self.picture_terms(variables, forward, driving, batch)
        return LossOut(total(terms), terms, forward.mutated)

    def content_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Stage 2: stage 1 and the content losses. The other driver of a source is the one of the next example."""
        sources, driving = frames_of(batch)
        if driving.shape[0] < 2:
            raise UserError("stage 2 takes an example's other driver from the next one: it needs batches of 2 or more")
        forward = self.forward(variables, sources, driving)
        terms = self.picture_terms(variables, forward, driving, batch)
        photometric = jnp.mean(jnp.abs(forward.generated - driving))
        by_other = grid_sample(forward.embedded.face, jnp.roll(forward.grid, -1, axis=0))
        p, metrics = self.content, {}
        for name, made, wanted in (("same", forward.generated, driving), ("other", by_other, sources[:, 0])):
            layers, share, weights = (getattr(p, f"{name}{part}") for part in ("", "_share", "_weights"))
            if not layers:
                continue
            away = self._feature_distances(variables[p.network], layers, made, wanted)
            metrics |= {f"{name}_{layer}": value for layer, value in away.items()}
            ratios = [jax.lax.stop_gradient(share * photometric / (value + TINY)) for value in away.values()]
            terms[f"{name}_content"] = sum(
                (w * value for w, value in zip(weights or ratios, away.values(), strict=True)), jnp.zeros(())
            )
        return LossOut(total(terms), {**terms, **metrics}, forward.mutated)

    def _feature_distances(
        self, network: Any, layers: tuple[str, ...], made: Array, wanted: Array
    ) -> dict[str, Float[Array, ""]]:
        features = face_features(self.content.network, network, layers, self.dtype)
        features = jax.checkpoint(features) if self.remat else features
        seen, known = features(made), features(jax.lax.stop_gradient(wanted))
        return {n: jnp.mean(jnp.abs(seen[n].astype(made.dtype) - known[n].astype(made.dtype))) for n in layers}

    def labelled_vectors(self, variables: Variables, batch: Batch, label: str) -> tuple[Array, Array]:
        """Driving vectors of both frames of every pair, in evaluation mode, and their labels.

        Raises:
            UserError: the examples are no pairs, or lack the label.
        """
        require(batch, "source", "driving", f"source_{label}", f"driving_{label}")
        frames = jnp.concatenate([batch["source"], batch["driving"]])
        labels = jnp.concatenate([batch[f"source_{label}"], batch[f"driving_{label}"]])
        return self.networks.vectors(variables, to_unit(frames)), labels

    def _vectors_and_codes(self, variables: Variables, batch: Batch) -> tuple[Array, Array]:
        vectors, poses = self.labelled_vectors(variables, batch, "pose")
        return vectors, poses[:, jnp.asarray(OF_CODE)]

    def _codes_and_vectors(self, variables: Variables, batch: Batch) -> tuple[Array, Array]:
        vectors, codes = self._vectors_and_codes(variables, batch)
        return codes, vectors

    def _sounds_and_vectors(self, variables: Variables, batch: Batch) -> tuple[Array, Array]:
        vectors, sound = self.labelled_vectors(variables, batch, "audio")
        if sound.shape[1] != self.sound.samples:
            raise UserError(
                f"the examples have {sound.shape[1]} samples of sound, config.model.sound.window={self.sound.window} s "
                f"are {self.sound.samples}: set config.data.audio_window={self.sound.window} too"
            )
        features = log_mel(sound.astype(vectors.dtype) / 32768, self.sound)
        return features, jax.nn.relu(vectors) if self.maps.rectified else vectors

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int) -> tuple[Player, ...]:
        """Those of both stages and of the maps; one that never moves is left out.

        Raises:
            UserError: an optimiser is missing, or nobody would ever move.
        """
        s, large, players = self.stages, self.networks.large, []

        def gradient(name: str, loss: Any) -> Gradient:
            if name not in optim:
                raise UserError(f"config.optim.{name} is missing; it is the optimiser of x2face's player {name}")
            return Gradient(loss, optim[name], accumulate)

        if s.photometric_stop != 0:
            when = Every() if s.photometric_stop is None else Every(stop=s.photometric_stop)
            players.append(Player("photometric", large, gradient("photometric", self.photometric_loss), when))
        if s.content_start is not None:
            when = Every(start=s.content_start)
            players.append(Player("content", large, gradient("content", self.content_loss), when))
        if s.maps_start is not None:
            n, ridge = self.networks, self.maps.ridge
            updates = {}
            if "pose" in self.maps.labels:
                updates["pose_from_vector"] = LeastSquares(self._vectors_and_codes, n.codes, ridge=ridge)
                updates["vector_from_pose"] = LeastSquares(self._codes_and_vectors, n.from_codes, normed_params, ridge)
            if "audio" in self.maps.labels:
                updates["vector_from_audio"] = LeastSquares(self._sounds_and_vectors, n.from_sound, ridge=ridge)
            players += [Player(name, (name,), update, Every(start=s.maps_start)) for name, update in updates.items()]
        if not players:
            raise UserError("config.model.stages leaves nothing to train: no stage ever begins")
        return tuple(players)
