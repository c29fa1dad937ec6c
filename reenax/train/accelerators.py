"""What accelerators can do at most, by their makers' data sheets."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from reenax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """The peaks of one device. All rates are per second; those of links count one direction.

    Attributes:
        bfloat16: dense operations on bfloat16.
        float32: dense operations on float32 arrays at JAX's default precision, which is less than float32's own:
            TF32 on GPUs, one pass of bfloat16 on TPUs. Whoever asks for more precision waits longer.
        memory: bytes of the device's memory.
        bandwidth: bytes between memory and processor.
        link: bytes that a device sends to others of its island (NVLink, ICI).
        island: so many devices of consecutive numbers are joined by links.
        network: bytes that a device sends beyond its island; all devices of an island do so at once.
    """

    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    link: float
    island: int
    network: float


ACCELERATORS: Mapping[str, Accelerator] = MappingProxyType(
    {
        # NVIDIA H100 Tensor Core GPU data sheet, SXM: bfloat16 1,979 and TF32 989 TFLOP/s with sparsity, dense half of
        # that (float32 without tensor cores: 67); 80 GB, 3.35 TB/s; NVLink 900 GB/s for both directions, eight GPUs on
        # an HGX board. The network is that of a DGX H100: one 400 Gb/s adapter per GPU.
        "h100": Accelerator(989.5e12, 494.7e12, 80e9, 3.35e12, 450e9, 8, 50e9),
        # NVIDIA H200 Tensor Core GPU data sheet, SXM: the same but for 141 GB and 4.8 TB/s.
        "h200": Accelerator(989.5e12, 494.7e12, 141e9, 4.8e12, 450e9, 8, 50e9),
        # Google Cloud documentation, TPU v5e: 197 TFLOP/s, 16 GB, 819 GB/s, ICI 400 GB/s for both directions, pods of
        # 256 chips with 6.4 Tb/s of network.
        "v5e": Accelerator(197e12, 197e12, 16e9, 819e9, 200e9, 256, 3.125e9),
        # Google Cloud documentation, TPU v5p: 459 TFLOP/s, 95 GiB, 2,765 GB/s, ICI 1,200 GB/s for both directions, pods
        # of 8,960 chips with 50 Gb/s of network each.
        "v5p": Accelerator(459e12, 459e12, 95.0 * 2**30, 2765e9, 600e9, 8960, 6.25e9),
    }
)


def find_accelerators(name: str | None) -> Mapping[str, Accelerator]:
    """The accelerator of that name, in any case; all of them for None.

    Raises:
        UserError: it is not in the table.
    """
    if name is None:
        return ACCELERATORS
    if name.lower() not in ACCELERATORS:
        raise UserError(f"--accelerator {name} is unknown; use one of {', '.join(ACCELERATORS)}")
    return {name.lower(): ACCELERATORS[name.lower()]}
