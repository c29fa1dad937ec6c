"""The second stage: a game of maps between the target (A) and every other person (B_1, B_2, ...), in cycles.

G_BA, "transformer", turns the maps of any other person into the target's; G_AB_i, one of "inverse_transformers", turns
the target's into those of person i. The networks of the other people are stacked along a first axis, and one pass over
that axis plays the game with all of them. Within it networks of one kind take turns in the same way, so that what is
compiled is one network of each kind, however many people there are.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from reenax.core.errors import UserError
from reenax.core.precision import wide
from reenax.core.rng import stream
from reenax.core.types import Batch, LossOut, Variables
from reenax.losses.adversarial import least_squares_loss
from reenax.methods.reenactgan.augmentation import AffineParams, random_affine, warp_pictures
from reenax.methods.reenactgan.encoder import BoundaryEncoder
from reenax.methods.reenactgan.encoder_game import draw, frames_of
from reenax.methods.reenactgan.shape import Aligner, coordinates
from reenax.methods.reenactgan.transformer import BoundaryTransformer, edges
from reenax.nn.patchgan import PatchGAN

Terms = dict[str, Float[Array, " i"]]  # unweighted, one number per other person


class Maps(NamedTuple):
    """Boundary maps of the target and of the others, person by person."""

    target: Float[Array, "b m m 15"]
    others: Float[Array, "i b m m 15"]


@dataclasses.dataclass(frozen=True)
class TransformerGame:
    """The transformers with their discriminators and losses.

    Attributes:
        encoder, aligner: networks that the game reads.
        transformer: of both directions.
        discriminator: of edges of maps, of every person.
        affine: random warps of the pictures.
        cycle: weight of the mean absolute error of maps that come back.
        shape: weight of the mean absolute change of the first coordinates of the shape.
        helper_batch_statistics: encoder and aligner run in training mode, and their running statistics move.
        unroll: all turns are compiled one after the other and not as loops.
    """

    encoder: BoundaryEncoder
    aligner: Aligner
    transformer: BoundaryTransformer
    discriminator: PatchGAN
    affine: AffineParams
    cycle: float
    shape: float
    helper_batch_statistics: bool
    unroll: bool = False

    def maps_of(self, variables: Variables, batch: Batch, rng: Key[Array, ""]) -> tuple[Maps, dict[str, Any]]:
        """Maps of warped pictures, and the encoder's moved statistics.

        Raises:
            UserError: the batch holds one person alone.
        """
        frames = frames_of(batch)
        if frames.shape[1] < 2:
            raise UserError(
                "the transformer's stage needs the target and at least one other person: take data.sampler=people and "
                "name them all in data.people, the target first"
            )
        flat = frames.reshape(-1, *frames.shape[2:])
        affine = random_affine(rng, flat.shape[0], flat.shape[1], self.affine)
        warped = warp_pictures(flat, affine, nearest=self.affine.nearest).reshape(frames.shape)
        maps, mutated = draw(self.encoder, variables, warped, train=self.helper_batch_statistics)
        return Maps(maps[:, 0], jnp.moveaxis(maps[:, 1:], 1, 0)), mutated

    def discriminator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """Least squares of real maps against 1 and of made ones against 0; hands the maps to the transformers."""
        maps, drawn = self.maps_of(variables, batch, stream(rng, "affine"))
        loss, terms = self.judged(variables, maps)
        metrics = {name: term.sum() for name, term in terms.items()}
        # the batch first, as gradients that are accumulated over parts of it need
        handed = {"target": maps.target, "others": jnp.moveaxis(maps.others, 0, 1)}
        return LossOut(loss, metrics, drawn, handed)

    def judged(self, variables: Variables, maps: Maps) -> tuple[Float[Array, ""], Terms]:
        """The discriminators' loss of given maps, and its terms."""
        target = variables["target_discriminator"]
        real = least_squares_loss(self._judge(target, edges(maps.target)), 1.0)
        wanted = {"fake_other": 0.0, "fake_target": 0.0, "real_other": 1.0}

        def one(_: None, person: Any) -> Any:
            inverse, judge, maps_b = person
            made, _ = self._translate(_stack(inverse, variables["transformer"]), jnp.stack([maps.target, maps_b]))
            seen = jnp.concatenate([lax.stop_gradient(made), maps_b[None]])
            scores = self._judge_all(_stack(judge, target, judge), jnp.stack([edges(m) for m in seen]))
            return None, {name: least_squares_loss(scores[i], goal) for i, (name, goal) in enumerate(wanted.items())}

        people = (variables["inverse_transformers"], variables["other_discriminators"], maps.others)
        terms = {"real_target": real[None], **self._scan(one, None, people)[1]}
        return sum((term.sum() for term in terms.values()), jnp.zeros((), real.dtype)), terms

    def generator_loss(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut:
        """The transformers' loss for the maps that the discriminators have seen."""
        maps = Maps(shared["target"], jnp.moveaxis(shared["others"], 1, 0))
        loss, terms, mutated = self.translated(variables, maps)
        weights = {"cycle": self.cycle, "shape": self.shape, "adversarial": 1.0}
        metrics = {
            name: weight * sum((t.sum() for n, t in terms.items() if n.startswith(name)), jnp.zeros(()))
            for name, weight in weights.items()
        }
        return LossOut(loss, metrics, mutated)

    def translated(self, variables: Variables, maps: Maps) -> tuple[Float[Array, ""], Terms, dict[str, Any]]:
        """The transformers' loss of given maps, its unweighted terms, and moved statistics.

        Terms end with the direction: "ab" from the target to a person, "ba" to the target. The shape that must stay is
        that of the maps that were translated, so pose and size are the driver's.
        """
        mine, target, aligner = (variables[n] for n in ("transformer", "target_discriminator", "aligner"))

        def one(carry: Any, person: Any) -> Any:
            statistics, aligned = carry
            inverse, judge, maps_b = person
            given, pair = jnp.stack([maps.target, maps_b]), _stack(inverse, {**mine, "batch_stats": statistics})

            def turn(going: Any, _: Array) -> Any:
                seen, moving = going
                made, moving = self._translate({**pair, "batch_stats": moving}, seen)
                return (made[::-1], moving), made  # what became of the target's maps goes to the transformer next

            (_, moving), (made, back) = self._scan(turn, (given, pair["batch_stats"]), jnp.arange(2))
            scores = self._judge_all(_stack(judge, target), jnp.stack([edges(m) for m in made]))
            turned = jnp.stack([made[0], given[0], made[1], given[1]])  # the order in which its statistics move
            shapes, aligned = self._align(aligner, aligned, turned)
            terms = {}
            for i, way in enumerate(("ab", "ba")):
                terms[f"adversarial_{way}"] = least_squares_loss(scores[i], 1.0)
                terms[f"cycle_{way}"] = jnp.mean(jnp.abs(back[1 - i] - given[i]))
                terms[f"shape_{way}"] = jnp.mean(jnp.abs(shapes[2 * i] - lax.stop_gradient(shapes[2 * i + 1])))
            theirs, ours = (jax.tree.map(lambda x, i=i: x[i], moving) for i in (0, 1))
            return (ours, aligned), (terms, theirs)

        people = (variables["inverse_transformers"], variables["other_discriminators"], maps.others)
        carried = (mine["batch_stats"], aligner["batch_stats"])
        (statistics, aligned), (terms, theirs) = self._scan(one, carried, people)
        weights = {"adversarial": 1.0, "cycle": self.cycle, "shape": self.shape}
        loss = sum((weights[n.split("_")[0]] * t.sum() for n, t in terms.items()), jnp.zeros((), maps.target.dtype))
        moved = {"transformer": statistics, "inverse_transformers": theirs}
        moved |= {"aligner": aligned} if self.helper_batch_statistics else {}
        return loss, terms, {n: {"batch_stats": lax.stop_gradient(s)} for n, s in moved.items()}

    def _scan(self, turn: Any, carried: Any, given: Any) -> Any:
        return lax.scan(turn, carried, given, unroll=self.unroll)

    def _translate(self, pair: Any, maps: Float[Array, "2 b m m 15"]) -> tuple[Float[Array, "2 b m m 15"], Any]:
        """Each transformer of a pair on its own maps; and their moved statistics."""

        def one(_: None, given: Any) -> Any:
            made, moved = self.transformer.apply(*given, train=True, mutable=["batch_stats"])
            return None, (made, moved["batch_stats"])

        return self._scan(one, None, (pair, maps))[1]

    def _judge(self, network: Any, seen: Array) -> Array:
        """Scores of edges. Nothing ever reads the running statistics of a discriminator: they stay as they are."""
        score, _ = self.discriminator.apply(network, seen, train=True, mutable=["batch_stats"])
        return wide(jnp.asarray(score))

    def _judge_all(self, networks: Any, seen: Float[Array, "n b m m 15"]) -> Float[Array, "n b _ _"]:
        """Scores of edges by as many discriminators."""
        return self._scan(lambda _, given: (None, self._judge(*given)), None, (networks, seen))[1]

    def _align(self, network: Any, statistics: Any, maps: Float[Array, "4 b m m 15"]) -> tuple[Array, Any]:
        """The first coordinates of the shapes in maps, and the aligner's statistics."""

        def one(moving: Any, seen: Array) -> Any:
            variables = {"params": network["params"], "batch_stats": moving}
            if not self.helper_batch_statistics:
                points: Any = self.aligner.apply(variables, seen, train=False)
                return moving, coordinates(network["shape"], points)
            points, moved = self.aligner.apply(variables, seen, train=True, mutable=["batch_stats"])
            return moved["batch_stats"], coordinates(network["shape"], points)

        statistics, placed = self._scan(one, statistics, maps)
        return placed, statistics


def _stack(*networks: Any) -> Any:
    """Variables of networks of one kind along a new first axis, over which a scan compiles one of them."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def stacked_init(network: Any, key: Key[Array, ""], count: int, example: Array) -> Any:
    """The variables of ``count`` networks of one kind, stacked along a first axis."""
    return jax.vmap(lambda k: network.init(k, example, train=False))(jax.random.split(key, count))
