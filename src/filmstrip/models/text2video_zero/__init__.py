"""Text2Video-Zero (arXiv:2303.13439): videos from image models, without training."""

from filmstrip.models.text2video_zero.attention import CrossFrameAttnProcessor
from filmstrip.models.text2video_zero.pipeline import TextToVideoZeroPipeline
from filmstrip.models.text2video_zero.pipeline_controlnet import TextToVideoZeroControlNetPipeline
from filmstrip.models.text2video_zero.pipeline_pix2pix import TextToVideoZeroInstructPix2PixPipeline
from filmstrip.models.text2video_zero.pipeline_sdxl import TextToVideoZeroSDXLPipeline

__all__ = [
    "CrossFrameAttnProcessor",
    "TextToVideoZeroControlNetPipeline",
    "TextToVideoZeroInstructPix2PixPipeline",
    "TextToVideoZeroPipeline",
    "TextToVideoZeroSDXLPipeline",
]
