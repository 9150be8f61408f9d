"""Tiny models with random weights, the same on every run."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

LTX_TRANSFORMER: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "cross_attention_dim": 32,
    "num_layers": 2,
    "caption_channels": 16,
}
LTX_AUTOENCODER: dict[str, Any] = {
    "latent_channels": 8,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "spatio_temporal_scaling": (True, True, False, False),
    "decoder_spatio_temporal_scaling": (True, True, False, False),
    "patch_size": 2,
}
LTX_TIMED_AUTOENCODER: dict[str, Any] = {
    "latent_channels": 8,
    "block_out_channels": (8, 8, 16, 16, 16),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False, True, False, False),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2,) * 3,
    "timestep_conditioning": True,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
COGVIDEOX_TRANSFORMER: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "time_embed_dim": 8,
    "text_embed_dim": 16,
    "num_layers": 2,
    "sample_height": 4,
    "sample_width": 6,
    "sample_frames": 9,
    "max_text_seq_length": 48,
}
COGVIDEOX_1_5_TRANSFORMER: dict[str, Any] = {
    **COGVIDEOX_TRANSFORMER,
    "patch_size_t": 2,
    "patch_bias": False,
    "use_rotary_positional_embeddings": True,
    "ofs_embed_dim": 8,
}
COGVIDEOX_AUTOENCODER: dict[str, Any] = {
    "latent_channels": 4,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
STABLE_DIFFUSION_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "layers_per_block": 1,
}
MODELSCOPE_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "norm_num_groups": 8,
    "cross_attention_dim": 16,
    "attention_head_dim": 8,
    "layers_per_block": 1,
}
STABLE_DIFFUSION_XL_UNET: dict[str, Any] = {
    **STABLE_DIFFUSION_UNET,
    "cross_attention_dim": 40,  # both text encoders'
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 32,  # a projection of 8, and 6 sizes
}
STABLE_DIFFUSION_AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
}
STABLE_VIDEO_DIFFUSION_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "layers_per_block": 1,
    "num_attention_heads": (2, 4),
    "cross_attention_dim": 16,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24,
    "num_frames": 4,
}
STABLE_VIDEO_DIFFUSION_AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "layers_per_block": 1,
    "sample_size": 48,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each letter, ended by </s>."""
    letters = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz ,."]
    core = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=128
    )


def text_encoder(dim: int = 16) -> T5EncoderModel:
    """A T5 encoder of two layers."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=40, d_model=dim, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config).eval()


def clip_tokenizer(length: int = 32) -> PreTrainedTokenizerFast:
    """One token for each letter between a mark of the begin and marks of the end."""
    letters = ["<begin>", "<end>", "<unk>", *"abcdefghijklmnopqrstuvwxyz ,."]
    core = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.post_processor = processors.TemplateProcessing(
        single="<begin> $A <end>", special_tokens=[("<begin>", 0), ("<end>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<begin>",
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<unk>",
        model_max_length=length,
    )


def clip_text_encoder(dim: int = 16, length: int = 32) -> CLIPTextModel:
    """A CLIP text encoder of three layers."""
    torch.manual_seed(0)
    return CLIPTextModel(clip_config(dim, length)).eval()


def clip_text_encoder_with_projection(dim: int = 24, length: int = 32, num_layers: int = 4) -> Any:
    """A CLIP text encoder that has also one embedding, of 8 values, for a text as a whole."""
    torch.manual_seed(1)
    return CLIPTextModelWithProjection(clip_config(dim, length, num_layers, projection_dim=8)).eval()


def clip_config(dim: int, length: int, num_layers: int = 3, **more: Any) -> CLIPTextConfig:
    """Settings of a CLIP text encoder for `clip_tokenizer`."""
    return CLIPTextConfig(
        vocab_size=40,
        hidden_size=dim,
        intermediate_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        max_position_embeddings=length,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **more,
    )


def clip_vision_encoder(dim: int = 16, side: int = 32) -> CLIPVisionModelWithProjection:
    """A CLIP encoder of pictures with two layers; it sees sixteen patches."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=side // 4,
        projection_dim=dim,
    )
    return CLIPVisionModelWithProjection(config).eval()
