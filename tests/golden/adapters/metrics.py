"""Evaluation metrics, and the networks behind them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reenax.interop import inception, lpips, syncnet
from reenax.metrics import frechet, identity, keypoint, pixel, sync
from reenax.metrics.lpips import LPIPS, TRUNKS
from reenax.nn.inception import TAPS, FidInception

from ..golden import Golden

Arrays = dict[str, Any]

NOISE = {"fid_xx": 1e-10}
"""The distance of a set to itself is zero but for rounding, which is another on every processor: no digit of it means
anything. Both values must be below this."""


def compute(g: Golden, case: str) -> Arrays:
    return CASES[case](g, g.case(case))


def _picture(values: np.ndarray) -> jax.Array:
    """A stored picture in [-1, 1], as a batch of one."""
    return jnp.asarray(values, jnp.float32)[None] / 127.5 - 1


def _floats(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def _statistics(maps: list[jax.Array]) -> np.ndarray:
    arrays = [np.asarray(x, np.float64) for x in maps]
    return np.array([[x.mean(), x.std(ddof=1), np.abs(x).sum()] for x in arrays])


def _shapes(maps: list[jax.Array]) -> np.ndarray:
    """As NCHW."""
    return np.array([[x.shape[0], x.shape[-1], *x.shape[1:-1], *[1] * (4 - x.ndim)] for x in maps])


# --- functions


@jax.jit
def _similarities(a: jax.Array, b: jax.Array) -> Arrays:
    return {
        "l1": pixel.l1(a, b)[0],
        "psnr": pixel.psnr(a, b)[0],
        "ssim_default": pixel.ssim(a, b)[0],
        "ssim_default_map": pixel.ssim_map(a, b)[0, ::4, ::4],
        "ssim_gauss": pixel.ssim(a, b, variant="wang")[0],
        "ssim_win11": pixel.ssim(a, b, variant="uniform11")[0],
        "ssim_gray_gauss": pixel.ssim(pixel.luma(a), pixel.luma(b), variant="wang")[0],
    }


@jax.jit
def _multiscale(a: jax.Array, b: jax.Array) -> Arrays:
    return {
        "tm_psnr": pixel.psnr(a, b)[0],
        "tm_ssim": pixel.ssim(a, b, variant="torchmetrics")[0],
        "tm_msssim": pixel.ms_ssim(a, b, variant="torchmetrics")[0],
        "pm_ssim": pixel.ssim(a, b, variant="pytorch_msssim")[0],
        "pm_msssim": pixel.ms_ssim(a, b, variant="pytorch_msssim")[0],
    }


def _compared(measure: Any, arrays: Arrays) -> Arrays:
    a = _picture(arrays["in_a"])
    return {f"{n}_{x}": v for x in "bc" for n, v in measure(a, _picture(arrays[f"in_{x}"])).items()}


def _frechet(_: Golden, arrays: Arrays) -> Arrays:
    x, y, few = (frechet.Stats.of(v) for v in (arrays["in_x"], arrays["in_y"], arrays["in_x"][:20]))
    pairs = {"fid_xy": (x, y), "fid_xx": (x, x), "fid_rank_deficient": (few, y)}
    return {name: frechet.distance(*pair) for name, pair in pairs.items()}


def _cosine(_: Golden, arrays: Arrays) -> Arrays:
    return {"cosine": identity.csim(_floats(arrays["in_u"]), _floats(arrays["in_v"]))}


def _distances(_: Golden, arrays: Arrays) -> Arrays:
    a, b, body, body_true = (_floats(arrays[f"in_{n}"]) for n in ("kp", "kp_gt", "body", "body_gt"))
    seen, seen_true = keypoint.detected(body), keypoint.detected(body_true)
    return {
        "akd": keypoint.akd(a, b).mean(),
        "aed": identity.aed(_floats(arrays["in_emb"]), _floats(arrays["in_emb_gt"])).mean(),
        "akd_body": keypoint.akd(body, body_true, seen & seen_true).mean(),
        "mkr_body": keypoint.mkr(seen, seen_true).mean(),
    }


def _errors(_: Golden, arrays: Arrays) -> Arrays:
    made, true = (_floats(arrays[f"in_{n}"]).reshape(-1, 68, 2) for n in ("landmarks", "gt_landmarks"))
    descriptors, own = (_floats(arrays[f"in_{n}"]) for n in ("descriptors", "gt_descriptors"))
    return {
        "identity_error": identity.identity_error(descriptors, own).mean(),
        "pose_error": keypoint.pose_error(made, true).mean(),
        "pose_error_aligned": keypoint.pose_error(made, true, align=True).mean(),
    }


# --- networks


def _lpips(g: Golden, arrays: Arrays) -> Arrays:
    net = g.config["net"]
    variables = lpips.convert(g.network(f"lpips_{net}"), net)
    network = LPIPS(net)

    @jax.jit
    def measure(variables, a, others):
        near, far = (network.apply(variables, a, x, method="layers") for x in others)
        return near, far, network.apply(variables, a, method="features")

    a, b, c = (_picture(arrays[f"in_{n}"]) for n in "abc")
    near, far, features = measure(variables, a, (b, c))
    maps = [features[t] for t in TRUNKS[net].taps]
    out: Arrays = {"stage_stats": _statistics(maps), "stage_shapes": _shapes(maps)}
    for name, layers in (("b", near), ("c", far)):
        out[f"lpips_{name}"] = layers.sum().reshape(1, 1, 1, 1)
        out[f"lpips_layers_{name}"] = layers[0]
    # the published network's switch for pictures in [0, 1], which are [-1, 1] here already
    return out | {"lpips_b_normalize": out["lpips_b"]}


def _inception(g: Golden, arrays: Arrays) -> Arrays:
    variables = inception.convert(g.network("fid_inception"))
    images = jnp.asarray(arrays["in_images"], jnp.float32) / 255
    features: Any = jax.jit(FidInception().apply)(variables, images)
    maps = [features[t] for t in TAPS]
    out: Arrays = {"out_pool3": features["pool3"], "stage_stats": _statistics(maps), "stage_shapes": _shapes(maps)}
    # the first picture and channels, every n-th pixel
    for i, step in enumerate((8, 4, 2)):
        out[f"out_block{i}_sub"] = np.moveaxis(np.asarray(maps[i][0, ::step, ::step, :8]), -1, 0)
    return out


def _syncnet(g: Golden, arrays: Arrays) -> Arrays:
    variables = syncnet.convert(g.network("syncnet"))
    clips = [[np.roll(arrays["in_lip"], 3 * j + 7 * b, axis=1) for j in range(5)] for b in range(2)]
    # the picture's channels are in the network's own order, BGR
    frames = jnp.asarray(np.array(clips)[..., ::-1], jnp.float32) / 127.5 - 1

    @jax.jit
    def embed(variables, frames, mfcc):
        network = sync.SyncNet()
        return network.apply(variables, frames, method="lips"), network.apply(variables, mfcc, method="audio")

    (lips, features), audio = embed(variables, frames, jnp.asarray(arrays["in_mfcc"][:, 0]))
    score = sync.lse(_floats(arrays["in_video_feat"]), _floats(arrays["in_audio_feat"]))
    return {
        "out_lip": lips,
        "out_lip_feat": features,
        "out_audio": audio,
        "out_mean_dist": score.distances,
        "lse_d": score.distance,
        "lse_c": score.confidence,
        "offset": score.offset,
    }


CASES = {
    "pixel": lambda _, arrays: _compared(_similarities, arrays),
    "msssim": lambda _, arrays: _compared(_multiscale, arrays),
    "frechet": _frechet,
    "cosine": _cosine,
    "akd_aed": _distances,
    "lpd_errors": _errors,
    "lpips_alex": _lpips,
    "lpips_vgg": _lpips,
    "lpips_squeeze": _lpips,
    "fid_inception": _inception,
    "syncnet": _syncnet,
}
