"""face vid2vid (CVPR 2021).

    reenax train --config configs/face_vid2vid.py:vox256 --data DATA --run runs/vid2vid \\
        --config.frozen.vgg19=VGG19 --config.frozen.hopenet=HOPENET

VGG19 and HOPENET are the folders that ``reenax import vgg19 vgg19-dcbb9e9d.pth --out VGG19`` and
``reenax import hopenet hopenet_robust_alpha1.pkl --out HOPENET`` make. The paper's form also needs
``--config.frozen.vggface=VGGFACE``, of ``reenax import vggface vgg_face_dag.pth --out VGGFACE``.

- vox256 and vox256_spade: the published implementation, whose checkpoints they read; the second paints by SPADE.
- paper256: the paper's third version, with all of its differences.
- vox512: the same network on pictures of 512x512 pixels. The paper trains it from the smaller one:
  ``--warm-start runs/paper256``.

Published (VoxCeleb2 at 256x256, reconstruction): L1 10.74 of 255, PSNR 24.37, SSIM .80, MS-SSIM .85, FID 69.13,
AKD 2.07.

Small models that need no other networks, with terms that the paper does not have (see
``reenax.methods.face_vid2vid.game``):

    reenax train --config configs/face_vid2vid.py:synth64 --data HEADS64 --run runs/synth64
    reenax train --config configs/face_vid2vid.py:smoke --data DATA64 --run runs/smoke

synth64 learns the heads that ``reenax prepare synthetic`` renders within minutes on two CPU cores, with angles that can
be chosen; smoke is through within seconds and learns nothing.
"""

from ml_collections import ConfigDict

from configs.common import (
    JITTER,
    TIED,
    Config,
    adam,
    base_config,
    be_through_at_once,
    learn_synthetic_heads,
    train_small,
)

NETWORKS = ("generator", "kp_detector", "he_estimator", "discriminator")


def _published() -> Config:
    """What all models of real faces share."""
    config = base_config("face_vid2vid")
    config.model = ConfigDict(
        {
            "num_kp": 20,
            "kp_detector": {
                "block_expansion": 32,
                "num_blocks": 5,
                "max_features": 1024,
                "depth": 16,
                "scale_factor": 0.25,
                "temperature": 0.1,
                "kernel_size": 7,
            },
            "he_estimator": {"block_expansion": 64, "max_features": 2048, "num_bins": 66},
            "generator": {
                "block_expansion": 64,
                "max_features": 512,
                "num_down_blocks": 2,
                "channels": 32,
                "depth": 16,
                "num_resblocks": 6,
                "spade": False,
                "dense_motion": {
                    "block_expansion": 32,
                    "num_blocks": 5,
                    "max_features": 1024,
                    "compress": 4,
                    "last": False,
                },
            },
            "discriminator": {
                "scales": (1.0, 0.5, 0.25),
                "block_expansion": 32,
                "num_blocks": 4,
                "max_features": 512,
                "sn": True,
                "use_kp": False,
            },
            "rotation": {"axes": ("pitch", "yaw", "roll")},
            "rotate_flow": True,
            "losses": {
                "scales": (1.0, 0.5, 0.25, 0.125),
                "perceptual": (10.0, 10.0, 10.0, 10.0, 10.0),
                "generator_gan": 1.0,
                "discriminator_gan": 1.0,
                "gan": "hinge",
                "feature_matching": (10.0, 10.0, 10.0, 10.0),
                "equivariance_value": 20.0,
                "keypoint": 10.0,
                "headpose": 20.0,
                "expression": 5.0,
            },
            "transform": {"sigma_affine": 0.05, "sigma_tps": 0.005, "points": 5},
            "align_corners": True,
        }
    )
    for network in NETWORKS:
        config.optim[network] = adam(config, "milestones", (180,), b1=0.5)
    config.batch_size = 32
    config.epochs = 300
    config.repeats = 75
    config.data.by_identity = True
    config.data.swap = True
    config.data.flip = True
    config.data.jitter.update(JITTER)
    config.frozen.vgg19 = ""
    config.frozen.hopenet = ""
    return config


def paper256() -> Config:
    """The paper's form: 20 keypoints, flows that turn with the head, several discriminators, features of faces."""
    config = _published()
    weights = (0.3125, 0.625, 1.25, 2.5, 10.0)  # 10 times 1/32 to 1
    config.model.losses.scales = (1.0, 0.5, 0.25)
    config.model.losses.perceptual = weights
    config.model.losses.face = weights
    config.frozen.vggface = ""
    return config


def vox256() -> Config:
    """The published implementation and its checkpoints."""
    config = _published()
    config.model.num_kp = 15
    config.model.kp_detector.kernel_size = 3
    config.model.generator.dense_motion.last = True
    config.model.discriminator.scales = (1.0,)
    config.model.rotation.half_turn = 3.14
    config.model.rotate_flow = False
    config.model.losses.equivariance_value = 10.0
    config.model.align_corners = False
    return config


def vox256_spade() -> Config:
    """The published implementation with the SPADE generator, and its checkpoints."""
    config = vox256()
    config.model.generator.spade = True
    return config


def vox512() -> Config:
    """The paper's form on 512x512 pixels; keypoints are still found at 64x64."""
    config = paper256()
    config.model.kp_detector.scale_factor = 0.125
    config.data.size = 512
    config.dtype = "bfloat16"
    config.remat = True
    config.batch_size = 16
    config.epochs = 10
    return config


def _small() -> Config:
    """What the 64x64 models share: no pretrained network, no discriminator, the warped source in the output."""
    config = base_config("face_vid2vid")
    config.model = ConfigDict(
        {
            "num_kp": 20,
            "kp_detector": {
                "block_expansion": 8,
                "num_blocks": 3,
                "max_features": 64,
                "depth": 8,
                "scale_factor": 0.25,
                "kernel_size": 3,
            },
            "he_estimator": {"block_expansion": 16, "max_features": 256, "blocks": (1, 1, 1), "gain": 0.1},
            "generator": {
                "block_expansion": 16,
                "max_features": 64,
                "num_down_blocks": 1,
                "channels": 8,
                "depth": 4,
                "num_resblocks": 2,
                "blend": True,
                "dense_motion": {
                    "block_expansion": 12,
                    "num_blocks": 3,
                    "max_features": 64,
                    "compress": 1,
                    "kernel_size": 1,
                },
            },
            "discriminator": {"scales": ()},
            "rotate_flow": False,
            "losses": {
                "scales": (1.0, 0.5, 0.25),
                "perceptual": (),
                "generator_gan": 0.0,
                "equivariance_value": 1.0,
                "keypoint": 1.0,
                "headpose": 0.0,
                "expression": 0.1,
                "l1": 10.0,
                "gradient": 10.0,
                "ssim": 1.0,
                "deformed": 0.5,
            },
        }
    )
    train_small(config, ("generator", "kp_detector", "he_estimator"))
    config.frozen.vgg19 = ""  # only asked for when a weight of losses.perceptual or losses.headpose is set
    config.frozen.hopenet = ""
    return config


def synth64() -> Config:
    """Synthetic heads, whose labels are exact: a few minutes on two CPU cores.

    What is not the paper's, and why:

    - Angles and translation are taught by the exact pose instead of Hopenet, keypoints by the landmarks of each frame
      and their depth. The person's shape is in the canonical keypoints, which come from the source, so that none of
      the driver's leaks.
    - The volume is flat (4 x 32 x 32): the flow's resolution in the picture counts for more than depth here.
    - The prior that keeps keypoints apart is off: landmarks of an eye are close together.
    - The boxes of mouth and eyes weigh more: they are a tenth of the picture and all that people look at.
    - The warped source is blended into the output and asked for half of the reconstruction, the learning rate is high:
      both make the first minutes count.
    """
    config = _small()
    config.model.losses.equivariance_value = 0.0
    config.model.losses.keypoint = 0.0
    config.model.losses.pose = 0.3
    config.model.losses.translation = 10.0
    config.model.losses.depth = 10.0
    config.model.losses.expression = 0.2
    config.model.losses.landmarks = 20.0
    config.model.losses.landmark_points = TIED
    config.model.losses.mouth = 8.0
    config.model.losses.eyes = 3.0
    learn_synthetic_heads(config, ("landmarks", "landmarks_3d", "pose"))
    return config


def smoke() -> Config:
    """Everything once, in seconds."""
    config = _small()
    model = config.model
    model.num_kp = 4
    model.kp_detector.update({"block_expansion": 4, "num_blocks": 2, "max_features": 16, "depth": 4})
    model.he_estimator.update({"block_expansion": 4, "max_features": 32, "blocks": (1, 1)})
    model.generator.update({"block_expansion": 4, "max_features": 16, "channels": 4, "depth": 4, "num_resblocks": 1})
    model.generator.dense_motion.update({"block_expansion": 4, "num_blocks": 2, "max_features": 16})
    be_through_at_once(config)
    return config


CONFIGS = (vox256, vox256_spade, paper256, vox512, synth64, smoke)
NAMES = tuple(config.__name__ for config in CONFIGS)


def get_config(name: str) -> Config:
    """The config called ``name``, one of ``NAMES``."""
    return CONFIGS[NAMES.index(name)]()
