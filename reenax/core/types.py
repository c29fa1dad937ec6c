"""What a method, a player and a training state are. Everything else is built on these few types."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key, PyTree

Batch = Mapping[str, Array]
Params = Mapping[str, PyTree]  # network name -> its params
Collections = Mapping[str, Any]  # one network's flax collections, "params" among them
Variables = Mapping[str, Collections]  # network name -> its collections
Metrics = Mapping[str, Float[Array, ""]]


class LossOut(NamedTuple):
    """What a loss returns: the scalar that is differentiated, and what else the step needs to know.

    Attributes:
        loss: the scalar.
        metrics: named scalars to log.
        mutated: network name -> its changed collections (batch statistics, spectral vectors, pools).
        shared: handed to the later players of the same step, so that a forward pass is run once.
    """

    loss: Float[Array, ""]
    metrics: Metrics = {}  # noqa: RUF012 (nobody changes it; a read-only mapping is no pytree)
    mutated: Mapping[str, Any] = {}
    shared: PyTree = None


@runtime_checkable
class LossFn(Protocol):
    """A pure function of (variables, batch, key)."""

    def __call__(
        self, variables: Variables, batch: Batch, rng: Key[Array, ""], *, step: Int[Array, ""], shared: PyTree
    ) -> LossOut: ...


@runtime_checkable
class Update(Protocol):
    """How a player turns the params that it owns and a batch into new params."""

    def init(self, params: Params) -> PyTree: ...

    def __call__(
        self,
        variables: Variables,
        owns: tuple[str, ...],
        opt_state: PyTree,
        batch: Batch,
        rng: Key[Array, ""],
        *,
        step: Int[Array, ""],
        shared: PyTree,
    ) -> tuple[Params, PyTree, LossOut]: ...


@dataclasses.dataclass(frozen=True)
class Every:
    """Due on steps ``start + offset``, ``start + offset + n``, ... below ``stop``."""

    n: int = 1
    offset: int = 0
    start: int = 0
    stop: int = 2**31 - 1

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.offset < self.n:
            raise ValueError(f"Every needs n >= 1 and 0 <= offset < n, got n={self.n}, offset={self.offset}")

    def __call__(self, step: int) -> bool:
        return self.start <= step < self.stop and (step - self.start) % self.n == self.offset


@dataclasses.dataclass(frozen=True)
class Player:
    """One optimiser, the networks that it moves, and when it moves them.

    Attributes:
        name: unique among the method's players; names its random stream and its metrics.
        owns: the networks whose params it moves.
        update: how it moves them.
        when: on which steps.
        persists: the networks whose mutated collections survive its move; those that it owns by default.
        state_of: the player whose optimiser state it uses and advances, when not its own (two losses
            that step one optimiser in turn).
    """

    name: str
    owns: tuple[str, ...]
    update: Update
    when: Every = Every()
    persists: tuple[str, ...] | None = None
    state_of: str | None = None

    @property
    def state_name(self) -> str:
        return self.state_of or self.name


class Source(NamedTuple):
    """The identity to animate.

    Attributes:
        frames: one or several pictures of the identity in [-1, 1].
        landmarks: of each picture, where the method reads them; -1 and 1 are the centres of the border's pixels.
    """

    frames: Float[Array, "k h w 3"]
    landmarks: Float[Array, "k p 2"] | None = None


class VideoDrive(NamedTuple):
    """Motion given by pictures.

    Attributes:
        frames: pictures in [-1, 1], in order.
        landmarks: of each picture, as in `Source`.
    """

    frames: Float[Array, "t h w 3"]
    landmarks: Float[Array, "t p 2"] | None = None


class ActionUnitDrive(NamedTuple):
    """Expressions given by the intensities of facial action units.

    Attributes:
        intensities: of the 17 units of `reenax.geometry.head.action_units`, from 0 to 1 (OpenFace's divided by 5). NaN
            leaves a unit as it is in the source.
        amount: how far to go from the source's expression (0) to the one that is asked for (1, also where None).
    """

    intensities: Float[Array, "t 17"]
    amount: Float[Array, " t"] | None = None


class PoseDrive(NamedTuple):
    """Head poses.

    Attributes:
        angles: pitch, yaw and roll in radians. NaN leaves an angle as it is in the source.
    """

    angles: Float[Array, "t 3"]


class AudioDrive(NamedTuple):
    """Speech.

    Attributes:
        waveform: the whole sound in [-1, 1], mono at 16 kHz.
        times: of the frames to make, in seconds from the beginning of the sound.
    """

    waveform: Float[Array, " n"]
    times: Float[Array, " t"]


class LabelDrive(NamedTuple):
    """Classes or attributes.

    Attributes:
        labels: 0 or 1 for every one of the method's ``label_names``. NaN leaves one as it is in the source.
    """

    labels: Float[Array, "t c"]


Drive = VideoDrive | ActionUnitDrive | PoseDrive | AudioDrive | LabelDrive
DRIVES: Mapping[str, type] = MappingProxyType(
    {
        "video": VideoDrive,
        "action_units": ActionUnitDrive,
        "pose": PoseDrive,
        "audio": AudioDrive,
        "labels": LabelDrive,
    }
)
"""The kinds of driver by name."""
Reenactor = Callable[[Drive], Float[Array, "t h w 3"]]


@dataclasses.dataclass(frozen=True)
class FrozenNetwork:
    """A network that training reads and never moves: a perceptual trunk, a pose encoder.

    Attributes:
        kind: what is expected in the file of weights, for example "vgg19".
        init: random collections from a key; their shapes are what a file of weights must have.
    """

    kind: str
    init: Callable[[Key[Array, ""]], Collections]


@dataclasses.dataclass(frozen=True)
class Option:
    """A choice that a method's reenactor offers, by keyword.

    Attributes:
        default: its value when nothing is said; its type is the option's, None that of an optional number.
        help: one line for people, with the unit.
        choices: the values that a text may have.
        picture: the text names a file, and the method gets the picture: RGBA [h w 4] in [0, 1], None without one.
    """

    default: str | float | bool | None
    help: str
    choices: tuple[str, ...] = ()
    picture: bool = False


@runtime_checkable
class Method(Protocol):
    """All that the engine needs to know about one paper: a frozen dataclass of hyper-parameters.

    Attributes:
        ema: network -> decay of its exponential moving average, for the networks that have one.
        drives: the kinds of driver that it takes, of `DRIVES`.
        fields: the dataset fields that its batches are made from.
        frozen: network name -> frozen network that its losses read.
        label_names: what the numbers of a `LabelDrive` stand for.
        max_sources: how many pictures of the identity it can use.
        options: the keywords of ``reenactor`` beside ``anchor``.
        portrays: the one person that it draws, whatever the source; empty for methods that draw anybody.
        reads: what must be known of the frames that it is given beside their pixels: "landmarks" (68) or
            "landmarks_106".
        shard_rules: pairs of a regular expression, searched in a leaf's path such as
            ``params/table/embedding``, and the mesh axis (or None) of each of the leaf's axes.
            For leaves that the engine's size rule would not shard rightly.

    A method that subclasses it inherits the defaults below.
    """

    ema: Mapping[str, float] = MappingProxyType({})
    drives: frozenset[str]
    fields: frozenset[str]
    frozen: Mapping[str, FrozenNetwork] = MappingProxyType({})
    label_names: tuple[str, ...] = ()
    max_sources: int = 1
    options: Mapping[str, Option] = MappingProxyType({})
    portrays: str = ""
    reads: frozenset[str] = frozenset()
    shard_rules: Sequence[tuple[str, tuple[str | None, ...]]] = ()

    def init(self, rng: Key[Array, ""], batch: Batch) -> Variables:
        """Fresh variables of every trained network."""
        ...

    def players(self, optim: Mapping[str, optax.GradientTransformation], accumulate: int = 1) -> tuple[Player, ...]:
        """The players in the order of their moves.

        ``optim`` holds one transformation per entry of ``config.optim``; ``accumulate`` is for `Gradient`.
        """
        ...

    def preview(self, variables: Variables, batch: Batch) -> Mapping[str, Float[Array, "b h w 3"]]:
        """Named columns of a sample sheet, in evaluation mode, in [-1, 1].

        "prediction" and "target" are among them: their difference is the validation error.
        """
        ...

    def reenactor(
        self, variables: Variables, source: Source, *, anchor: Drive | None = None, **options: Any
    ) -> Reenactor:
        """Encodes the source once; the function returned turns a part of the driver into as many pictures.

        ``anchor`` is the driver's beginning, one row of its kind, where a mode transfers motion relative to it. Methods
        that video drives take ``mode="relative"`` (the default) or ``"absolute"``.
        """
        ...

    def remarks(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What a training's numbers ("player/term") say to one who knows the method: known failures and their cures.

        Every text is logged when it first comes up.
        """
        del metrics
        return ()


class TrainState(struct.PyTreeNode):
    """Everything that changes while training, and nothing else.

    Attributes:
        step: the number of steps done, int32 [].
        rng: the root key of all training randomness, key [].
        params: network -> params.
        collections: network -> all other collections.
        opt_states: player -> optimiser state.
        ema_params: network -> averaged params.
    """

    step: PyTree  # a tree of the same form holds shapes or shardings, hence no array types
    rng: PyTree
    params: Params
    collections: Variables
    opt_states: Mapping[str, PyTree]
    ema_params: Params

    @property
    def variables(self) -> Variables:
        """The newest variables of every trained network."""
        return {n: {**self.collections.get(n, {}), "params": p} for n, p in self.params.items()}

    def averaged(self) -> Variables:
        """The variables to use after training: the moving average where a network has one."""
        params = {**self.params, **self.ema_params}
        return {n: {**self.collections.get(n, {}), "params": p} for n, p in params.items()}


def owned_params(variables: Variables, owns: tuple[str, ...]) -> Params:
    """The params of some networks."""
    return {n: variables[n]["params"] for n in owns}


def with_params(variables: Variables, params: Params) -> Variables:
    """The same variables with the params of some networks replaced."""
    return {n: ({**v, "params": params[n]} if n in params else v) for n, v in variables.items()}


def param_count(params: PyTree) -> int:
    """How many numbers a tree of params holds."""
    return sum(x.size for x in jax.tree.leaves(params))
