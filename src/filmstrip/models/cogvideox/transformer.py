"""The diffusion transformer of CogVideoX (arXiv:2408.06072)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.json_files import shown
from filmstrip.models.cogvideox.attention import CogVideoXAttention, CogVideoXProjections
from filmstrip.models.cogvideox.embeddings import CogVideoXPatchEmbed, counted_axes, cropped_axes, rotations
from filmstrip.network import Model
from filmstrip.nn.activations import ACTIVATIONS
from filmstrip.nn.embeddings import TwoLayers, sinusoidal_embedding
from filmstrip.nn.feed_forward import FeedForward, ForwardChunking
from filmstrip.nn.modules import module_list
from filmstrip.nn.normalization import modulate
from filmstrip.nn.recomputing import recomputed
from filmstrip.outputs import SampleOutput

if TYPE_CHECKING:
    from filmstrip.memory.quantization import Quantization

Pair = tuple[Tensor, Tensor]  # one value for the prompt's tokens and one for the video's, each (batch, 1, dim)


def _may_overwrite() -> bool:
    """Whether a tensor that nobody else reads may be changed in place: a backward pass or a compiler would object."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def modulate_parts(hidden_states: Tensor, prompt_tokens: int, scale: Pair, shift: Pair) -> Tensor:
    """`modulate`, with scales and shifts of their own for prompt and video; may overwrite `hidden_states`."""
    parts = hidden_states[:, :prompt_tokens], hidden_states[:, prompt_tokens:]
    if _may_overwrite():
        for part, part_scale, part_shift in zip(parts, scale, shift, strict=True):
            torch.addcmul(part_shift, part, 1 + part_scale, out=part)
        return hidden_states
    return torch.cat([modulate(*part) for part in zip(parts, scale, shift, strict=True)], dim=1)


def add_gated(hidden_states: Tensor, prompt_tokens: int, change: Tensor, gate: Pair) -> Tensor:
    """`hidden_states + gate * change`, with gates of their own for prompt and video; may overwrite `hidden_states`."""
    parts = hidden_states[:, :prompt_tokens], hidden_states[:, prompt_tokens:]
    changes = change[:, :prompt_tokens], change[:, prompt_tokens:]
    if _may_overwrite():
        for part, part_change, part_gate in zip(parts, changes, gate, strict=True):
            part.addcmul_(part_change, part_gate)
        return hidden_states
    return torch.cat([torch.addcmul(*part) for part in zip(parts, changes, gate, strict=True)], dim=1)


class AdaLayerNorm(nn.Module):
    """Normalisation that the timestep modulates."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim = config.num_attention_heads * config.attention_head_dim
        self.linear = nn.Linear(config.time_embed_dim, 2 * dim)
        self.norm = nn.LayerNorm(dim, config.norm_eps, config.norm_elementwise_affine)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        temb: Tensor,  # (batch, time_embed_dim), activated
    ) -> Tensor:  # (batch, tokens, dim)
        shift, scale = self.linear(temb)[:, None].chunk(2, dim=-1)
        return modulate(self.norm(hidden_states), scale, shift)


class CogVideoXLayerNormZero(nn.Module):
    """Normalisation that the timestep modulates, and gates for what follows; prompt and video have their own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim = config.num_attention_heads * config.attention_head_dim
        self.linear = nn.Linear(config.time_embed_dim, 6 * dim)
        self.norm = nn.LayerNorm(dim, config.norm_eps, config.norm_elementwise_affine)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        prompt_tokens: int,
        temb: Tensor,  # (batch, time_embed_dim), activated
    ) -> tuple[Tensor, Pair]:  # (batch, tokens, dim), and gates
        shift, scale, gate, *prompt = self.linear(temb)[:, None].chunk(6, dim=-1)  # each (batch, 1, dim)
        prompt_shift, prompt_scale, prompt_gate = prompt
        normed = self.norm(hidden_states)
        normed = modulate_parts(normed, prompt_tokens, (prompt_scale, scale), (prompt_shift, shift))
        return normed, (prompt_gate, gate)


class CogVideoXBlock(nn.Module):
    """Attention, then feed-forward, over prompt and video in one stream (section 2.2, "expert" normalisation)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        heads = config.num_attention_heads, config.attention_head_dim
        dim = config.num_attention_heads * config.attention_head_dim
        self.norm1 = CogVideoXLayerNormZero(config)
        self.attn1 = CogVideoXAttention(dim, *heads, config.attention_bias)
        self.norm2 = CogVideoXLayerNormZero(config)
        self.ff = FeedForward(dim, activation_fn=config.activation_fn)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, prompt_tokens + patches, dim); overwritten where no gradient is asked for
        prompt_tokens: int,
        temb: Tensor,  # (batch, time_embed_dim), activated
        rotary: Tensor | None,  # (tokens, head_dim / 2, 2)
    ) -> Tensor:  # (batch, prompt_tokens + patches, dim)
        normed, gate = self.norm1(hidden_states, prompt_tokens, temb)
        hidden_states = add_gated(hidden_states, prompt_tokens, self.attn1(normed, rotary), gate)
        normed, gate = self.norm2(hidden_states, prompt_tokens, temb)
        return add_gated(hidden_states, prompt_tokens, self.ff(normed), gate)


class CogVideoXTransformer3DModel(ForwardChunking, Model):
    """Predicts noise or v of video latents from their noisy state, the timestep and a prompt.

    Args: those of the published `config.json`. Patches have sine positions (2b), rotations (5b) or rotations and
    learned positions (5b image-to-video); `patch_size_t` and `ofs_embed_dim` are 1.5's. `dropout` knows 0 only.
    """

    _repeated_blocks = ("CogVideoXBlock",)
    keep_precise = ("norm", "patch_embed", "^time_embedding", "^ofs_embedding", "^proj_out$")
    _supports_gradient_checkpointing = True

    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int | None = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        ofs_embed_dim: int | None = None,
        text_embed_dim: int = 4096,
        num_layers: int = 30,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        patch_size_t: int | None = None,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = False,
        use_learned_positional_embeddings: bool = False,
        patch_bias: bool = True,
    ) -> None:
        super().__init__()
        self._check_config()
        dim = num_attention_heads * attention_head_dim
        self.inner_dim = dim
        self.gradient_checkpointing = False
        self.original_attn_processors: dict[str, CogVideoXProjections] | None = None

        self.patch_embed = CogVideoXPatchEmbed(self.config)
        activation = ACTIVATIONS[timestep_activation_fn]
        self.time_embedding = TwoLayers(dim, time_embed_dim, activation)
        self.ofs_embedding = TwoLayers(ofs_embed_dim, ofs_embed_dim, activation) if ofs_embed_dim else None
        self.transformer_blocks = module_list(CogVideoXBlock(self.config) for _ in range(num_layers))
        self.norm_final = nn.LayerNorm(dim, norm_eps, norm_elementwise_affine)
        self.norm_out = AdaLayerNorm(self.config)
        self.proj_out = nn.Linear(dim, (out_channels or in_channels) * (patch_size_t or 1) * patch_size**2)

    def _check_config(self) -> None:
        config = self.config
        if config.use_learned_positional_embeddings and not config.use_rotary_positional_embeddings:
            raise ValueError(
                "use_learned_positional_embeddings needs use_rotary_positional_embeddings: CogVideoX has sine"
                " positions, rotations, or rotations with learned positions."
            )
        if config.dropout:
            raise ValueError(f"dropout must be 0 for CogVideoX, got {config.dropout}; no published model uses it.")
        if config.timestep_activation_fn not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise ValueError(
                f"timestep_activation_fn must be one of {names}, got {shown(config.timestep_activation_fn)}."
            )
        if config.ofs_embed_dim and config.ofs_embed_dim != config.time_embed_dim:
            raise ValueError(
                f"ofs_embed_dim must equal time_embed_dim, {config.time_embed_dim}, since the embeddings are added;"
                f" got {config.ofs_embed_dim}."
            )

    @property
    def attn_processors(self) -> dict[str, CogVideoXProjections]:
        """What computes queries, keys and values in each block, by the name of its place."""
        blocks = enumerate(self.transformer_blocks)
        return {f"transformer_blocks.{i}.attn1.processor": block.attn1.processor for i, block in blocks}

    def fuse_qkv_projections(self) -> None:
        """Compute queries, keys and values of a block in one product, with the same weights under the same names."""
        self.original_attn_processors = self.attn_processors
        for block in self.transformer_blocks:
            block.attn1.fuse_projections()

    def quantize(self, kind: str) -> Quantization:
        """As of every network; queries, keys and values are then computed in three products."""
        self.unfuse_qkv_projections()
        return super().quantize(kind)

    def unfuse_qkv_projections(self) -> None:
        """Compute queries, keys and values in three products again."""
        for block in self.transformer_blocks:
            block.attn1.fuse_projections(False)

    def rotary_table(self, latent_size: tuple[int, int, int]) -> Tensor | None:
        """Rotations for a run's `image_rotary_emb`, (patches, head_dim / 2, 2); None for a model with sine positions.

        Args:
            latent_size: frames, height and width of the latents.
        """
        config = self.config
        if not config.use_rotary_positional_embeddings:
            return None
        frames, height, width = latent_size
        rows, columns = height // config.patch_size, width // config.patch_size
        if config.patch_size_t is None:
            base = config.sample_height // config.patch_size, config.sample_width // config.patch_size
            axes = cropped_axes((frames, rows, columns), base, self.execution_device)
        else:
            axes = counted_axes((-(-frames // config.patch_size_t), rows, columns), self.execution_device)
        return rotations(axes, config.attention_head_dim)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, frames, in_channels, height, width)
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, text_embed_dim)
        timestep: Tensor,  # (batch,), 0 (clean) to 999 (noise)
        timestep_cond: Tensor | None = None,
        ofs: Tensor | None = None,  # (batch or 1,), needed by a network with ofs_embed_dim
        image_rotary_emb: tuple[Tensor, Tensor] | Tensor | None = None,
        attention_kwargs: Mapping[str, Any] | None = None,
        return_dict: bool = True,
    ) -> SampleOutput | tuple[Tensor]:  # (batch, frames, out_channels, height, width)
        """Predict noise or v, whichever the checkpoint's scheduler expects.

        `image_rotary_emb` is what `rotary_table` made, or cosines and sines, each (patches, head_dim) with every value
        twice; without it nothing is rotated.
        """
        if attention_kwargs:
            raise ValueError(
                f"attention_kwargs has no effect without adapters, got {sorted(attention_kwargs)}; drop it."
            )
        if timestep_cond is not None:
            raise ValueError("timestep_cond has no effect, CogVideoX has no projection for it; drop it.")
        size = hidden_states.shape[1], hidden_states.shape[3], hidden_states.shape[4]
        prompt_tokens = encoder_hidden_states.shape[1]
        temb = F.silu(self._embedded(timestep, ofs, hidden_states.dtype))
        rotary = None if image_rotary_emb is None else _joint_rotary(image_rotary_emb, prompt_tokens)
        hidden_states = self.patch_embed(encoder_hidden_states, hidden_states)

        is_recomputing = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in self.transformer_blocks:
            arguments = (hidden_states, prompt_tokens, temb, rotary)
            hidden_states = recomputed(block, *arguments) if is_recomputing else block(*arguments)

        hidden_states = self.norm_out(self.norm_final(hidden_states[:, prompt_tokens:]), temb)
        sample = self._unpatched(self.proj_out(hidden_states), size)
        return SampleOutput(sample) if return_dict else (sample,)

    def _embedded(self, timestep: Tensor, ofs: Tensor | None, dtype: torch.dtype) -> Tensor:  # (batch, time_embed_dim)
        # Waves are computed in float32: neighbouring timesteps would coincide in half precision.
        order = {"flip_sin_to_cos": self.config.flip_sin_to_cos, "freq_shift": self.config.freq_shift}
        temb = self.time_embedding(sinusoidal_embedding(timestep, self.inner_dim, **order).to(dtype))
        if self.ofs_embedding is None:
            if ofs is not None:
                raise ValueError("ofs has no effect on a network without ofs_embed_dim; drop it.")
            return temb
        if ofs is None:
            raise ValueError("this network has ofs_embed_dim and needs ofs, a tensor of one number for each video.")
        return temb + self.ofs_embedding(sinusoidal_embedding(ofs, self.config.ofs_embed_dim, **order).to(dtype))

    def _unpatched(self, patches: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Latents, (batch, frames, out_channels, height, width), from the patches of a grid of that size."""
        frames, height, width = size
        patch, patch_t = self.config.patch_size, self.config.patch_size_t or 1
        patches = patches.unflatten(-1, (-1, patch_t, patch, patch))
        patches = patches.unflatten(1, (frames // patch_t, height // patch, width // patch))
        # (batch, frames, rows, columns, channels, patch_t, patch, patch), each patch's axes beside the grid's
        return patches.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)


def _joint_rotary(image_rotary_emb: tuple[Tensor, Tensor] | Tensor, prompt_tokens: int) -> Tensor:
    """Rotations of all tokens, (prompt_tokens + patches, head_dim / 2, 2); a prompt's tokens are not turned."""
    if isinstance(image_rotary_emb, Tensor):
        table = image_rotary_emb
    else:
        cos, sin = image_rotary_emb
        table = torch.stack([cos[:, ::2], sin[:, ::2]], dim=-1).float()
    still = table.new_tensor([1.0, 0.0]).expand(prompt_tokens, table.shape[1], 2)
    return torch.cat([still, table])
