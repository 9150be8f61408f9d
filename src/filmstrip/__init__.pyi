# Written by docs/from_families.py.
from filmstrip.assembly import DiffusionPipeline as DiffusionPipeline
from filmstrip.assembly import Pipeline as Pipeline
from filmstrip.media import canny_edges as canny_edges
from filmstrip.media import export_to_gif as export_to_gif
from filmstrip.media import export_to_video as export_to_video
from filmstrip.media import load_image as load_image
from filmstrip.media import load_video as load_video
from filmstrip.media import read_metadata as read_metadata
from filmstrip.models.cogvideox.autoencoder import AutoencoderKLCogVideoX as AutoencoderKLCogVideoX
from filmstrip.models.cogvideox.pipeline_control import CogVideoXFunControlPipeline as CogVideoXFunControlPipeline
from filmstrip.models.cogvideox.pipeline_image import CogVideoXImageToVideoPipeline as CogVideoXImageToVideoPipeline
from filmstrip.models.cogvideox.pipeline_text import CogVideoXPipeline as CogVideoXPipeline
from filmstrip.models.cogvideox.pipeline_video import CogVideoXVideoToVideoPipeline as CogVideoXVideoToVideoPipeline
from filmstrip.models.cogvideox.schedulers import CogVideoXDDIMScheduler as CogVideoXDDIMScheduler
from filmstrip.models.cogvideox.schedulers import CogVideoXDPMScheduler as CogVideoXDPMScheduler
from filmstrip.models.cogvideox.transformer import CogVideoXTransformer3DModel as CogVideoXTransformer3DModel
from filmstrip.models.i2vgen_xl.pipeline import I2VGenXLPipeline as I2VGenXLPipeline
from filmstrip.models.i2vgen_xl.unet import I2VGenXLUNet as I2VGenXLUNet
from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo as AutoencoderKLLTXVideo
from filmstrip.models.ltx.conditions import LTXVideoCondition as LTXVideoCondition
from filmstrip.models.ltx.pipeline_condition import LTXConditionPipeline as LTXConditionPipeline
from filmstrip.models.ltx.pipeline_image import LTXImageToVideoPipeline as LTXImageToVideoPipeline
from filmstrip.models.ltx.pipeline_text import LTXPipeline as LTXPipeline
from filmstrip.models.ltx.pipeline_upsample import LTXLatentUpsamplePipeline as LTXLatentUpsamplePipeline
from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel as LTXVideoTransformer3DModel
from filmstrip.models.ltx.upsampler import LTXLatentUpsamplerModel as LTXLatentUpsamplerModel
from filmstrip.models.modelscope.pipeline_text import TextToVideoSDPipeline as TextToVideoSDPipeline
from filmstrip.models.modelscope.pipeline_video import VideoToVideoSDPipeline as VideoToVideoSDPipeline
from filmstrip.models.modelscope.unet import UNet3DConditionModel as UNet3DConditionModel
from filmstrip.models.stable_diffusion.autoencoder import AutoencoderKL as AutoencoderKL
from filmstrip.models.stable_diffusion.controlling import MultiControlNetModel as MultiControlNetModel
from filmstrip.models.stable_diffusion.controlnet import ControlNetModel as ControlNetModel
from filmstrip.models.stable_diffusion.pipeline_controlnet import StableDiffusionControlNetPipeline as StableDiffusionControlNetPipeline
from filmstrip.models.stable_diffusion.pipeline_pix2pix import StableDiffusionInstructPix2PixPipeline as StableDiffusionInstructPix2PixPipeline
from filmstrip.models.stable_diffusion.pipeline_text import StableDiffusionPipeline as StableDiffusionPipeline
from filmstrip.models.stable_diffusion.unet import UNet2DConditionModel as UNet2DConditionModel
from filmstrip.models.stable_video_diffusion.autoencoder import AutoencoderKLTemporalDecoder as AutoencoderKLTemporalDecoder
from filmstrip.models.stable_video_diffusion.pipeline import StableVideoDiffusionPipeline as StableVideoDiffusionPipeline
from filmstrip.models.stable_video_diffusion.unet import UNetSpatioTemporalConditionModel as UNetSpatioTemporalConditionModel
from filmstrip.models.text2video_zero.attention import CrossFrameAttnProcessor as CrossFrameAttnProcessor
from filmstrip.models.text2video_zero.pipeline import TextToVideoZeroPipeline as TextToVideoZeroPipeline
from filmstrip.models.text2video_zero.pipeline_controlnet import TextToVideoZeroControlNetPipeline as TextToVideoZeroControlNetPipeline
from filmstrip.models.text2video_zero.pipeline_pix2pix import TextToVideoZeroInstructPix2PixPipeline as TextToVideoZeroInstructPix2PixPipeline
from filmstrip.models.text2video_zero.pipeline_sdxl import TextToVideoZeroSDXLPipeline as TextToVideoZeroSDXLPipeline
from filmstrip.schedulers import DDIMInverseScheduler as DDIMInverseScheduler
from filmstrip.schedulers import DDIMScheduler as DDIMScheduler
from filmstrip.schedulers import DDPMScheduler as DDPMScheduler
from filmstrip.schedulers import DEISMultistepScheduler as DEISMultistepScheduler
from filmstrip.schedulers import DPMSolverMultistepScheduler as DPMSolverMultistepScheduler
from filmstrip.schedulers import DPMSolverSinglestepScheduler as DPMSolverSinglestepScheduler
from filmstrip.schedulers import EDMDPMSolverMultistepScheduler as EDMDPMSolverMultistepScheduler
from filmstrip.schedulers import EDMEulerScheduler as EDMEulerScheduler
from filmstrip.schedulers import EulerAncestralDiscreteScheduler as EulerAncestralDiscreteScheduler
from filmstrip.schedulers import EulerDiscreteScheduler as EulerDiscreteScheduler
from filmstrip.schedulers import FlowMatchEulerDiscreteScheduler as FlowMatchEulerDiscreteScheduler
from filmstrip.schedulers import FlowMatchHeunDiscreteScheduler as FlowMatchHeunDiscreteScheduler
from filmstrip.schedulers import HeunDiscreteScheduler as HeunDiscreteScheduler
from filmstrip.schedulers import KDPM2AncestralDiscreteScheduler as KDPM2AncestralDiscreteScheduler
from filmstrip.schedulers import KDPM2DiscreteScheduler as KDPM2DiscreteScheduler
from filmstrip.schedulers import LCMScheduler as LCMScheduler
from filmstrip.schedulers import LMSDiscreteScheduler as LMSDiscreteScheduler
from filmstrip.schedulers import PNDMScheduler as PNDMScheduler
from filmstrip.schedulers import SASolverScheduler as SASolverScheduler
from filmstrip.schedulers import TCDScheduler as TCDScheduler
from filmstrip.schedulers import UniPCMultistepScheduler as UniPCMultistepScheduler

__all__ = [
    "AutoencoderKL",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLLTXVideo",
    "AutoencoderKLTemporalDecoder",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "CogVideoXFunControlPipeline",
    "CogVideoXImageToVideoPipeline",
    "CogVideoXPipeline",
    "CogVideoXTransformer3DModel",
    "CogVideoXVideoToVideoPipeline",
    "ControlNetModel",
    "CrossFrameAttnProcessor",
    "DDIMInverseScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DiffusionPipeline",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "I2VGenXLPipeline",
    "I2VGenXLUNet",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "LTXConditionPipeline",
    "LTXImageToVideoPipeline",
    "LTXLatentUpsamplePipeline",
    "LTXLatentUpsamplerModel",
    "LTXPipeline",
    "LTXVideoCondition",
    "LTXVideoTransformer3DModel",
    "MultiControlNetModel",
    "PNDMScheduler",
    "Pipeline",
    "SASolverScheduler",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionPipeline",
    "StableVideoDiffusionPipeline",
    "TCDScheduler",
    "TextToVideoSDPipeline",
    "TextToVideoZeroControlNetPipeline",
    "TextToVideoZeroInstructPix2PixPipeline",
    "TextToVideoZeroPipeline",
    "TextToVideoZeroSDXLPipeline",
    "UNet2DConditionModel",
    "UNet3DConditionModel",
    "UNetSpatioTemporalConditionModel",
    "UniPCMultistepScheduler",
    "VideoToVideoSDPipeline",
    "canny_edges",
    "export_to_gif",
    "export_to_video",
    "load_image",
    "load_video",
    "read_metadata",
]

__version__: str
