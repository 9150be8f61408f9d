"""The networks of `shapes`: which LTX autoencoder, transformer and text encoder, at which sizes."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import T5Config, T5EncoderModel

from filmstrip.models.ltx.autoencoder import AutoencoderKLLTXVideo
from filmstrip.models.ltx.transformer import LTXVideoTransformer3DModel

LATENT_CHANNELS = 48
TEMPORAL_RATIO, SPATIAL_RATIO = 4, 16  # pixels per latent

AUTOENCODER: dict[str, Any] = {
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 128, 128),
    "layers_per_block": (1, 1, 2),
    "down_block_types": ("LTXVideo095DownBlock3D", "LTXVideo095DownBlock3D"),
    "downsample_type": ("spatiotemporal", "spatiotemporal"),
    "spatio_temporal_scaling": (True, True),
    "decoder_block_out_channels": (64, 128),
    "decoder_layers_per_block": (2, 3, 2),
    "decoder_spatio_temporal_scaling": (True, True),
    "decoder_inject_noise": (False, False, False),
    "upsample_residual": (True, True),
    "upsample_factor": (1, 2),
    "encoder_causal": True,
    "decoder_causal": False,
    "timestep_conditioning": False,
    "patch_size": 4,
    "patch_size_t": 1,
}


def build_autoencoder() -> AutoencoderKLLTXVideo:
    """An untrained autoencoder whose residual blocks pass their input through: it starts as its linear shortcuts."""
    autoencoder = AutoencoderKLLTXVideo(**AUTOENCODER)
    for name, parameter in autoencoder.named_parameters():
        if ".conv2." in name:
            nn.init.zeros_(parameter)
    return autoencoder


TEXT_ENCODER: dict[str, Any] = {
    "d_model": 192,
    "d_kv": 64,
    "num_heads": 3,
    "d_ff": 384,
    "num_layers": 2,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": False,
    "use_cache": False,
}
TRANSFORMER: dict[str, Any] = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": 4,
    "attention_head_dim": 64,
    "cross_attention_dim": 256,
    "num_layers": 8,
    "caption_channels": TEXT_ENCODER["d_model"],
}


def build_text_encoder(vocab_size: int) -> T5EncoderModel:
    """An untrained text encoder for so many pieces of text."""
    return T5EncoderModel(T5Config(vocab_size=vocab_size, **TEXT_ENCODER))


def build_transformer() -> LTXVideoTransformer3DModel:
    """An untrained transformer that predicts nought, and whose blocks pass their input through."""
    transformer = LTXVideoTransformer3DModel(**TRANSFORMER)
    for name, parameter in transformer.named_parameters():
        if ".to_out.0." in name or name.endswith("ff.net.2.weight") or name.startswith("proj_out."):
            nn.init.zeros_(parameter)
    return transformer
