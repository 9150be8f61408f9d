"""The diffusion transformer of LTX-Video (arXiv:2501.00103)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.json_files import shown
from filmstrip.kernels.attention import attention
from filmstrip.kernels.layers import Linear
from filmstrip.network import Model
from filmstrip.nn.embeddings import AdaLayerNormSingle, TwoLayers
from filmstrip.nn.feed_forward import ACTIVATIONS, FeedForward, ForwardChunking
from filmstrip.nn.modules import module_list
from filmstrip.nn.normalization import modulate
from filmstrip.nn.recomputing import recomputed
from filmstrip.nn.rotary import rotate_pairs, rotation_table
from filmstrip.outputs import SampleOutput

# The grid that positions are measured against: frames at the model's own rate, and pixels (section 2.2).
BASE_GRID = (20, 2048, 2048)
ROTARY_THETA = 10000.0


class PreparedPrompt(NamedTuple):
    """What the blocks read of a prompt; it does not change from step to step."""

    keys_and_values: tuple[tuple[Tensor, Tensor], ...]  # one pair a block, each (batch, heads, prompt_tokens, head_dim)
    bias: Tensor | None  # (batch, 1, 1, prompt_tokens), added to the scores of padding


class LTXAttention(nn.Module):
    """Multi-head attention; queries and keys are normalised across all heads at once."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, context_dim: int, bias: bool, out_bias: bool) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.num_heads = num_heads
        self.norm_q = nn.RMSNorm(inner_dim, eps=1e-5)
        self.norm_k = nn.RMSNorm(inner_dim, eps=1e-5)
        self.to_q = Linear(dim, inner_dim, bias=bias)
        self.to_k = Linear(context_dim, inner_dim, bias=bias)
        self.to_v = Linear(context_dim, inner_dim, bias=bias)
        # The second entry holds the place of the dropout that published names count.
        self.to_out = nn.ModuleList([Linear(inner_dim, dim, bias=out_bias), nn.Identity()])

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        rotary: Tensor,  # (batch or 1, tokens, inner_dim / 2, 2)
    ) -> Tensor:  # (batch, tokens, dim)
        """Let each token attend to all tokens."""
        query = rotate_pairs(self.norm_q(self.to_q(hidden_states)), rotary)
        key = rotate_pairs(self.norm_k(self.to_k(hidden_states)), rotary)
        return self._attend(query, self._heads(key), self._heads(self.to_v(hidden_states)), None)

    def read(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        key: Tensor,  # (batch, heads, prompt_tokens, head_dim)
        value: Tensor,
        bias: Tensor | None,
    ) -> Tensor:  # (batch, tokens, dim)
        """Let each token attend to a prompt that `keys_and_values` has prepared."""
        return self._attend(self.norm_q(self.to_q(hidden_states)), key, value, bias)

    def keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """What tokens attend to, each (batch, heads, prompt_tokens, head_dim)."""
        return self._heads(self.norm_k(self.to_k(context))), self._heads(self.to_v(context))

    def _heads(self, hidden_states: Tensor) -> Tensor:
        return hidden_states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, tokens, head_dim)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        attended = attention(self._heads(query), key, value, bias)
        joined: Tensor = self.to_out[0](attended.transpose(1, 2).flatten(2))
        return joined


class LTXVideoTransformerBlock(nn.Module):
    """Attention over the video, attention to the prompt, feed-forward; the timestep modulates first and last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        heads = config.num_attention_heads, config.attention_head_dim
        biases = config.attention_bias, config.attention_out_bias
        dim = config.num_attention_heads * config.attention_head_dim
        norm = dim, config.norm_eps, config.norm_elementwise_affine
        self.norm1 = nn.RMSNorm(*norm)
        self.attn1 = LTXAttention(dim, *heads, dim, *biases)
        self.norm2 = nn.RMSNorm(*norm)
        self.attn2 = LTXAttention(dim, *heads, config.cross_attention_dim, *biases)
        self.ff = FeedForward(dim, activation_fn=config.activation_fn)
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, dim)
        temb: Tensor,  # (batch, tokens or 1, 6 * dim)
        rotary: Tensor,
        prompt: tuple[Tensor, Tensor],  # keys and values
        prompt_bias: Tensor | None,
    ) -> Tensor:  # (batch, tokens, dim)
        modulation = temb.unflatten(-1, (6, -1)) + self.scale_shift_table
        attn_shift, attn_scale, attn_gate, ff_shift, ff_scale, ff_gate = modulation.unbind(-2)

        attended = self.attn1(modulate(self.norm1(hidden_states), attn_scale, attn_shift), rotary)
        hidden_states = torch.addcmul(hidden_states, attended, attn_gate)
        hidden_states = hidden_states + self.attn2.read(hidden_states, *prompt, prompt_bias)
        transformed = self.ff(modulate(self.norm2(hidden_states), ff_scale, ff_shift))
        return torch.addcmul(hidden_states, transformed, ff_gate)


class LTXVideoTransformer3DModel(ForwardChunking, Model):
    """Predicts the velocity of packed video latents from their noisy state, the timestep and a caption.

    Args: those of the published `config.json`. `qk_norm` knows "rms_norm_across_heads" only.
    """

    _repeated_blocks = ("LTXVideoTransformerBlock",)
    keep_precise = ("norm", "^proj_in$", "^proj_out$", "^time_embed", "^caption_projection")
    _supports_gradient_checkpointing = True
    computing_methods = ("prepare_prompt",)

    def __init__(
        self,
        in_channels: int = 128,
        out_channels: int | None = 128,
        patch_size: int = 1,
        patch_size_t: int = 1,
        num_attention_heads: int = 32,
        attention_head_dim: int = 64,
        cross_attention_dim: int = 2048,
        num_layers: int = 28,
        activation_fn: str = "gelu-approximate",
        qk_norm: str = "rms_norm_across_heads",
        norm_elementwise_affine: bool = False,
        norm_eps: float = 1e-6,
        caption_channels: int = 4096,
        attention_bias: bool = True,
        attention_out_bias: bool = True,
    ) -> None:
        super().__init__()
        if qk_norm != "rms_norm_across_heads":
            raise ValueError(f"qk_norm must be 'rms_norm_across_heads' for LTX-Video, got {shown(qk_norm)}.")
        dim = num_attention_heads * attention_head_dim
        self.inner_dim = dim
        self.patch_size, self.patch_size_t = patch_size, patch_size_t
        self.gradient_checkpointing = False

        self.proj_in = nn.Linear(in_channels, dim)
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.time_embed = AdaLayerNormSingle(dim)
        self.caption_projection = TwoLayers(caption_channels, dim, ACTIVATIONS["gelu-approximate"])
        self.transformer_blocks = module_list(LTXVideoTransformerBlock(self.config) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_channels or in_channels)

    def prepare_prompt(
        self,
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, caption_channels)
        encoder_attention_mask: Tensor | None = None,  # (batch, prompt_tokens), True or 1 marks a real token
    ) -> PreparedPrompt:
        """Project a caption to the keys and values of every block, once for all steps of a run."""
        bias = None
        if encoder_attention_mask is not None:
            mask = encoder_attention_mask.to(encoder_hidden_states.dtype)
            bias = (1 - mask)[:, None, None] * -10000.0  # (batch, 1, 1, prompt_tokens)
        context = self.caption_projection(encoder_hidden_states)
        return PreparedPrompt(tuple(block.attn2.keys_and_values(context) for block in self.transformer_blocks), bias)

    def rotary(self, coordinates: Tensor) -> Tensor:
        """Rotations for tokens at given places of the video, (batch, tokens, inner_dim / 2, 2).

        Args:
            coordinates: (batch, 3, tokens), each token's frame, row and column as a share of the base grid.
        """
        num_waves = self.inner_dim // 6
        exponents = torch.linspace(0.0, 1.0, num_waves, dtype=torch.float32, device=coordinates.device)
        frequencies = ROTARY_THETA**exponents * (math.pi / 2)
        angles = (2 * coordinates.float().transpose(1, 2) - 1).unsqueeze(2) * frequencies[:, None]
        angles = angles.flatten(2)  # (batch, tokens, 3 * num_waves), frame, row and column of each wave in turn
        # Channels that three axes do not fill come first and are not turned.
        angles = torch.nn.functional.pad(angles, (self.inner_dim // 2 - 3 * num_waves, 0))
        return rotation_table(angles)

    def grid_coordinates(
        self, size: tuple[int, int, int], scale: Sequence[float | Tensor] | None, device: torch.device
    ) -> Tensor:
        """Places of a whole latent grid, (1, 3, frames * height * width), as shares of the base grid.

        Args:
            size: latent frames, height, width.
            scale: seconds (or frames) and pixels that one latent step spans; without it, plain indices.
        """
        axes = [torch.arange(length, dtype=torch.float32, device=device) for length in size]
        if scale is not None:
            patches = (self.patch_size_t, self.patch_size, self.patch_size)
            axes = [axis * s * p / base for axis, s, p, base in zip(axes, scale, patches, BASE_GRID, strict=True)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]

    def forward(
        self,
        hidden_states: Tensor,  # (batch, tokens, in_channels)
        encoder_hidden_states: Tensor | PreparedPrompt,
        timestep: Tensor,  # (batch,), or (batch, tokens) where tokens differ in noise; 0 (clean) to 1000 (noise)
        encoder_attention_mask: Tensor | None = None,
        num_frames: int | None = None,  # of the latent grid
        height: int | None = None,
        width: int | None = None,
        rope_interpolation_scale: Sequence[float | Tensor] | None = None,
        video_coords: Tensor | None = None,  # (batch, 3, tokens): seconds (or frames), and pixels
        attention_kwargs: Mapping[str, Any] | None = None,
        return_dict: bool = True,
        rotary: Tensor | None = None,  # from `rotary`, where it serves many steps
    ) -> SampleOutput | tuple[Tensor]:  # (batch, tokens, out_channels)
        """Predict the velocity, noise minus clean latents.

        Places come from `rotary`, else `video_coords`, else the grid of `num_frames`, `height` and `width`.
        `encoder_hidden_states` is a caption, (batch, prompt_tokens, caption_channels), or what `prepare_prompt` made.
        """
        if attention_kwargs:
            raise ValueError(
                f"attention_kwargs has no effect without adapters, got {sorted(attention_kwargs)}; drop it."
            )
        if isinstance(encoder_hidden_states, PreparedPrompt):
            prompt = encoder_hidden_states
        else:
            prompt = self.prepare_prompt(encoder_hidden_states, encoder_attention_mask)
        if rotary is None:
            if video_coords is None:
                if num_frames is None or height is None or width is None:
                    raise ValueError("LTX-Video needs num_frames, height and width of the latents, or video_coords.")
                size = (num_frames, height, width)
                coordinates = self.grid_coordinates(size, rope_interpolation_scale, hidden_states.device)
            else:
                coordinates = video_coords / torch.tensor(BASE_GRID, device=video_coords.device)[:, None]
            rotary = self.rotary(coordinates)

        batch = hidden_states.shape[0]
        hidden_states = self.proj_in(hidden_states)
        temb, embedded_timestep = self.time_embed(timestep.flatten(), hidden_states.dtype)
        temb = temb.unflatten(0, (batch, -1))  # (batch, tokens or 1, 6 * dim)
        embedded_timestep = embedded_timestep.unflatten(0, (batch, -1))  # (batch, tokens or 1, dim)
        is_recomputing = self.gradient_checkpointing and torch.is_grad_enabled()
        for block, keys_and_values in zip(self.transformer_blocks, prompt.keys_and_values, strict=True):
            arguments = (hidden_states, temb, rotary, keys_and_values, prompt.bias)
            hidden_states = recomputed(block, *arguments) if is_recomputing else block(*arguments)

        shift, scale = (embedded_timestep.unsqueeze(-2) + self.scale_shift_table).unbind(-2)
        sample = self.proj_out(modulate(self.norm_out(hidden_states), scale, shift))
        return SampleOutput(sample) if return_dict else (sample,)
