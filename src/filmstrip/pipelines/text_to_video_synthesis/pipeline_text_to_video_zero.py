"""The module path that the guide of Diffusers imports cross-frame attention from."""

from filmstrip.models.text2video_zero import CrossFrameAttnProcessor, TextToVideoZeroPipeline

__all__ = ["CrossFrameAttnProcessor", "TextToVideoZeroPipeline"]
