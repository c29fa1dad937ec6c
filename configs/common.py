"""What every config has, with its defaults; a method's file changes values and adds its own keys.

Any key can be changed from the command line: ``--config.batch_size=8``, ``--config.model.num_kp=15``.

    method, model        the method's name and its hyper-parameters
    dtype, remat         what networks compute in, "float32" or "bfloat16"; whether activations are computed again in
                         the backward pass, to save memory
    seed                 everything random follows from it
    lr, optim            learning rate; per network or player: kind ("adam": b1, b2, eps, weight_decay; "sgd":
                         momentum), lr, schedule ("constant", "cosine", "milestones": milestones (epochs), factor;
                         "linear": hold, decay, period), warmup_steps, l2, clip (`reenax.train.optim`)
    batch_size           examples per step, over all devices
    accumulate           how many microbatches a step is cut into
    steps                length of the training; None: epochs x items of the dataset x repeats / batch_size
    epochs, repeats      see steps
    data                 sampler, size of the frames, by_identity, swap, flip, jitter (brightness, contrast, saturation,
                         hue), resize (two factors), labels (fields that go into the batch), targets (also labels of
                         other frames: target_*), frames (of a window), people (the only ones used; () for all),
                         audio_window (seconds of the label "audio"), threads, workers, damaged (what a record that
                         cannot be read does: "stop", or "skip"), damaged_share (of the records, that one
                         process may skip from start to end)
    frozen               network -> folder of imported weights, or "random" for random features
    mesh                 devices along "data" (-1: all) and "fsdp"
    wandb                mode ("disabled", "offline", "online") and project
    log_every, save_every, eval_every, sample_every
                         in steps; 0 for never
    keep_latest, keep_best
                         how many checkpoints stay
    on_nonfinite         what a loss that is no number does: "stop", or "rewind" to go back to the last checkpoint and
                         on with other data
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

Config = Any  # a ConfigDict, whose attributes no type checker knows

JITTER = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}
# Of the 68 landmarks: jaw, brows, nose, lids, corners of the mouth, lips outside and inside, corners of the eyes.
TIED = (0, 4, 8, 12, 16, 19, 24, 30, 37, 41, 44, 46, 48, 54, 51, 57, 62, 66, 36, 45)


def base_config(method: str) -> Config:
    """The skeleton of a config."""
    config: Config = ConfigDict()
    config.method = method
    config.model = ConfigDict()
    config.dtype = "float32"
    config.remat = False
    config.seed = 0
    config.lr = 2e-4
    config.optim = ConfigDict()
    config.batch_size = 32
    config.accumulate = 1
    config.steps = config_dict.placeholder(int)
    config.epochs = 100
    config.repeats = 1
    config.data = ConfigDict(
        {
            "sampler": "pair",
            "size": 256,
            "by_identity": False,
            "swap": False,
            "flip": False,
            "jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
            "resize": (),
            "labels": (),
            "targets": False,
            "frames": 0,
            "people": (),
            "audio_window": 0.2,
            "threads": 16,
            "workers": 0,
            "damaged": "stop",
            "damaged_share": 0.01,
        }
    )
    config.frozen = ConfigDict()
    config.mesh = ConfigDict({"data": -1, "fsdp": 1})
    config.wandb = ConfigDict({"mode": "disabled", "project": "reenax"})
    config.log_every = 100
    config.save_every = 2000
    config.eval_every = 2000
    config.sample_every = 2000
    config.keep_latest = 2
    config.keep_best = 1
    config.on_nonfinite = "stop"
    return config


def adam(config: Config, schedule: str = "constant", milestones: tuple[int, ...] = (), b1: float = 0.9) -> Config:
    """Settings of one Adam at the config's learning rate: changing ``lr`` changes them all."""
    return ConfigDict(
        {
            "lr": config.get_ref("lr"),
            "schedule": schedule,
            "milestones": milestones,
            "factor": 0.1,
            "warmup_steps": 0,
            "b1": b1,
            "b2": 0.999,
            "eps": 1e-8,
        }
    )


def sgd(config: Config, momentum: float = 0.9) -> Config:
    """Settings of gradient descent with momentum at the config's learning rate."""
    return ConfigDict({"kind": "sgd", "lr": config.get_ref("lr"), "schedule": "constant", "momentum": momentum})


def linear(optimiser: Config, hold: int, decay: int, period: int = 0) -> Config:
    """The optimiser with a rate that stays for ``hold`` periods and falls to zero in ``decay`` more.

    A period is so many steps, or an epoch where it is 0.
    """
    optimiser.update({"schedule": "linear", "hold": hold, "decay": decay, "period": period})
    return optimiser


def stages(**steps: int | None) -> Config:
    """Which player moves when, in steps; None for never. Any can be changed to a step from the command line."""
    made = ConfigDict({name: config_dict.placeholder(int) for name in steps})
    made.update(steps)
    return made


def train_small(config: Config, networks: tuple[str, ...]) -> None:
    """Pictures of 64x64 pixels on two CPU cores: a high learning rate, small batches, all augmentation."""
    config.lr = 2e-3
    for network in networks:
        config.optim[network] = adam(config, "cosine")
    config.batch_size = 8
    config.data.size = 64
    config.data.swap = True
    config.data.flip = True
    config.data.jitter.update(JITTER)
    config.data.threads = 2


def learn_synthetic_heads(config: Config, labels: tuple[str, ...]) -> None:
    """A few minutes on rendered heads: one clip of few, far apart frames per person, in pairs by identity."""
    config.data.labels = labels
    config.data.flip = False  # labels would not follow
    config.data.by_identity = True
    config.batch_size = 12
    config.steps = 460
    config.log_every = 10
    config.save_every = 230
    config.eval_every = 230
    config.sample_every = 460


def be_through_at_once(config: Config) -> None:
    """Everything once, in seconds."""
    config.batch_size = 8
    config.steps = 8
    config.log_every = 2
    config.save_every = 4
    config.eval_every = 4
    config.sample_every = 4
