"""The networks a package may name: an allow-list, so a package brings numbers and never code.

`unet3d-a` and `unet3d-b`: residual 3-D U-Nets (Kerfoot et al. 2018, as in MONAI). The first convolution already halves
the grid: on CPUs memory traffic decides, and thin full-resolution layers cost four times as much.
`unet2d-b`: 2-D U-Net (Ronneberger et al. 2015, MONAI BasicUNet) on 5 neighbouring slices. Blocks of 2 x 2 pixels are
folded into channels before it and unfolded after it (sub-pixel convolution, Shi et al. 2016, arXiv 1609.05158):
sharp as a full-resolution net at half its cost. Batch norm, because absolute brightness is its signal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.engine.errors import UnknownArchitecture


@dataclass(frozen=True, slots=True)
class Architecture:
    """One allowed network. example: input shape to trace with; dynamic: input shape with -1 where any size may come.

    Free sizes must be multiples of `multiple`; outputs: channels of the answer, logits.
    """

    make: Callable[[], Any]
    example: tuple[int, ...]
    dynamic: tuple[int, ...]
    multiple: int
    outputs: int


# A logit beyond 20 says no more than 20 (a chance of 2e-9), but the runtimes' rounding grows with it.
LOGIT_LIMIT = 20.0


def _unet3d(outputs: int) -> Callable[[], Any]:
    def make() -> Any:
        import torch
        from monai.networks.nets.unet import UNet

        net = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=outputs,
            channels=(16, 32, 64, 80, 96),
            strides=(2, 2, 2, 2),
            num_res_units=2,
            norm="INSTANCE",
        )
        net.model.append(torch.nn.Hardtanh(-LOGIT_LIMIT, LOGIT_LIMIT))
        return net

    return make


def _unet2d_folded() -> Any:
    import torch
    from monai.networks.nets.basic_unet import BasicUNet

    body = BasicUNet(
        spatial_dims=2,
        in_channels=20,
        out_channels=4,
        features=(32, 48, 96, 128, 128, 32),
        norm=("batch", {"momentum": 0.03}),
    )
    limit = torch.nn.Hardtanh(-LOGIT_LIMIT, LOGIT_LIMIT)
    return torch.nn.Sequential(torch.nn.PixelUnshuffle(2), body, torch.nn.PixelShuffle(2), limit)


ARCHITECTURES: Mapping[str, Architecture] = {
    "unet3d-a": Architecture(_unet3d(2), (1, 1, 80, 96, 80), (1, 1, -1, -1, -1), 16, 2),
    "unet3d-b": Architecture(_unet3d(3), (1, 1, 80, 96, 80), (1, 1, -1, -1, -1), 16, 3),
    "unet2d-b": Architecture(_unet2d_folded, (4, 5, 160, 160), (-1, 5, -1, -1), 32, 1),
}


def build(name: str) -> Any:
    """A torch.nn.Module with fresh weights, in eval mode. UnknownArchitecture where `name` is not on the list."""
    if name not in ARCHITECTURES:
        raise UnknownArchitecture("The package asks for an unknown architecture", sorted(ARCHITECTURES))
    return ARCHITECTURES[name].make().eval()
