"""The module path that the guide of Diffusers imports cross-frame attention from."""

from filmstrip.models.text2video_zero.attention import CrossFrameAttnProcessor
from filmstrip.models.text2video_zero.pipeline import TextToVideoZeroPipeline

__all__ = ["CrossFrameAttnProcessor", "TextToVideoZeroPipeline"]
