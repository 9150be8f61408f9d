"""Frames attend across frames without a change to the network that others use at the same time."""

import torch

import filmstrip
from filmstrip.models.text2video_zero.attention import AcrossFrames
from tests import tiny


@torch.no_grad()
def test_a_network_that_looks_across_frames_keeps_its_own_processors():
    unet = filmstrip.UNet2DConditionModel(**tiny.STABLE_DIFFUSION_UNET).eval()
    own, during = unet.attn_processors, []
    given = torch.randn(3, 4, 8, 8), 7, torch.randn(3, 5, 16)
    alone = unet(*given)[0]

    def another_run(*_):  # that comes in the midst of the first
        hook.remove()
        during.append((unet.attn_processors, unet(*given)[0]))

    hook = unet.mid_block.register_forward_hook(another_run)
    across = AcrossFrames(unet, num_frames=3)(*given)[0]
    [(processors, meanwhile)] = during
    assert processors == own == unet.attn_processors
    assert torch.equal(meanwhile, alone)
    unet.set_attn_processor(filmstrip.CrossFrameAttnProcessor(batch_size=1))
    assert torch.equal(across, unet(*given)[0]) and not torch.equal(across, alone)
