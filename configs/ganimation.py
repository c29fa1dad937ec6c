"""GANimation (ECCV 2018).

    reenax train --config configs/ganimation.py:emotionet128 --data DATA --run runs/emotionet128

DATA are faces of 128x128 with OpenFace's action units, for example what ``reenax prepare FOLDER --layout ganimation``
makes; an epoch has one example of every record. emotionet128 has the settings of the published code, which was trained
on 200,000 pictures of EmotioNet; the paper has no table of results. The learning rate is whole for 21 of 30 epochs, as
in the published code, and falls from the 22nd on.

Small models:

    reenax train --config configs/ganimation.py:synth64 --data ACTED64 --run runs/synth64
    reenax train --config configs/ganimation.py:smoke --data DATA64 --run runs/smoke

synth64 learns the heads that ``reenax prepare synthetic --acted N`` renders; smoke is through within seconds and learns
nothing.
"""

from ml_collections import ConfigDict

from configs.common import JITTER, Config, adam, base_config, be_through_at_once, linear

EPOCHS, HOLD, BATCH = 30, 20, 25


def _game(config: Config, critic_steps: int, hold: int, decay: int, period: int = 0) -> None:
    """Both optimisers, with one decay: ``hold`` and ``decay`` in periods of so many steps, 0 for epochs."""
    config.model.critic_steps = critic_steps
    for network in ("critic", "generator"):
        config.optim[network] = linear(adam(config, b1=0.5), hold, decay, period)
    config.data.sampler = "labelled"
    config.data.labels = ("action_units",)
    config.data.targets = True
    config.data.flip = True


def emotionet128() -> Config:
    """The published code."""
    config = base_config("ganimation")
    config.lr = 1e-4
    config.batch_size = BATCH
    config.epochs = EPOCHS
    config.data.size = 128
    config.model = ConfigDict(
        {
            "generator": {"features": 64, "blocks": 6, "label_gain": 1.0},
            "critic": {"image_size": config.data.get_ref("size"), "features": 64, "layers": 6, "deviation": 0.02},
            "losses": {
                "adversarial": 1.0,
                "penalty": 10.0,
                "condition": 4000.0,
                "cond_loss_divides_by_batch": True,
                "cycle": 10.0,
                "attention": 0.1,
                "smoothness": 1e-5,
            },
            "saturate_attention": False,
            "target_noise": 0.1,
        }
    )
    _game(config, critic_steps=5, hold=HOLD, decay=EPOCHS - HOLD)
    return config


def _small(steps: int) -> Config:
    """What the 64x64 models share."""
    config = emotionet128()
    config.data.size = 64
    config.model.generator.update({"features": 12, "blocks": 2})
    config.model.critic.update({"features": 24, "layers": 4, "deviation": 0.05})
    config.model.losses.update({"adversarial": 4.0, "penalty": 40.0, "attention": 0.2})
    config.model.losses.update({"condition": 80.0, "cond_loss_divides_by_batch": False})
    config.lr = 1e-3
    config.batch_size = 8
    config.steps = steps
    config.data.jitter.update(JITTER)
    config.data.threads = 2
    _game(config, critic_steps=2, hold=6, decay=4, period=steps // 10)
    return config


def synth64() -> Config:
    """Synthetic heads: half an hour on one CPU core. What is not the paper's:

    - A learning rate of 1e-3 for small networks and 2000 steps, and a critic that moves twice, not five times, as often
      as the generator: it is the generator that has too few moves here.
    - The critic's kernels start from a larger deviation, for layers of few channels would let nothing through.
    - The adversarial terms weigh four times as much, the action units half. With the published 160 to 1 the critic has
      not learned what is real when the generator has learned what it reads, which is then texture and no expression;
      with action units of 15 the generator copies its input for hundreds of steps.
    - The attention's mean weighs twice as much, against that copying.
    """
    config = _small(2000)
    config.batch_size = 16
    config.log_every = 20
    config.save_every = 500
    config.eval_every = 500
    config.sample_every = 500
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small(10)
    config.model.generator.update({"features": 4, "blocks": 1})
    config.model.critic.update({"features": 4})
    be_through_at_once(config)
    _game(config, critic_steps=2, hold=2, decay=2, period=2)
    return config


CONFIGS = (emotionet128, synth64, smoke)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
