"""Patches of CogVideoX (arXiv:2408.06072) and their places: sines and cosines, learned tables, rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from filmstrip.configuration import Config
from filmstrip.nn.embeddings import sinusoidal_embedding
from filmstrip.nn.rotary import rotation_table

ROTARY_THETA = 10000.0


class CogVideoXPatchEmbed(nn.Module):
    """One stream of tokens from a prompt and latents: the prompt's tokens, then patches frame by frame, row by row."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim, patch_size_t = config.num_attention_heads * config.attention_head_dim, config.patch_size_t
        self.positions = None if config.use_rotary_positional_embeddings else "sine"  # None: rotations say all
        if config.use_learned_positional_embeddings:
            self.positions = "learned"
        if self.positions is not None and dim % 16:
            raise ValueError(f"num_attention_heads * attention_head_dim must be a multiple of 16, got {dim}.")
        self.patch_size, self.patch_size_t = config.patch_size, patch_size_t or 1
        latent_frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
        self.sample_size = latent_frames, config.sample_height, config.sample_width
        self.interpolation_scale = config.temporal_interpolation_scale, config.spatial_interpolation_scale
        self.max_text_seq_length = config.max_text_seq_length
        self.proj: nn.Module
        if patch_size_t is None:  # which is 1, and has a convolution where the others have a linear layer
            stride, bias = config.patch_size, config.patch_bias
            self.proj = nn.Conv2d(config.in_channels, dim, stride, stride=stride, bias=bias)
        else:  # published files have this bias although their configurations say patch_bias=false
            self.proj = nn.Linear(config.in_channels * patch_size_t * config.patch_size**2, dim)
        self.text_proj = nn.Linear(config.text_embed_dim, dim)
        if self.positions == "learned":
            self.register_buffer("pos_embedding", self._initial_positions(dim))

    pos_embedding: Tensor  # (1, max_text_seq_length + patches of a sample, dim)

    def forward(
        self,
        encoder_hidden_states: Tensor,  # (batch, prompt_tokens, text_embed_dim)
        hidden_states: Tensor,  # (batch, frames, channels, height, width)
    ) -> Tensor:  # (batch, prompt_tokens + patches, dim)
        batch, frames, _, height, width = hidden_states.shape
        for name, length, patch in (
            ("frames", frames, self.patch_size_t),
            ("height", height, self.patch_size),
            ("width", width, self.patch_size),
        ):
            if length % patch:
                raise ValueError(f"{name} of the latents must be a multiple of {patch}, the patch, got {length}.")
        text = self.text_proj(encoder_hidden_states)
        if isinstance(self.proj, nn.Linear):
            video = self.proj(self._patches(hidden_states))
        else:
            video = self.proj(hidden_states.flatten(0, 1))  # (batch * frames, dim, rows, columns)
            video = video.unflatten(0, (batch, frames)).flatten(3).transpose(2, 3).flatten(1, 2)
        if self.positions is None:
            return torch.cat([text, video], dim=1)
        return self._placed(text, video, (frames, height, width))

    def _patches(self, hidden_states: Tensor) -> Tensor:  # (batch, patches, channels * patch_size_t * patch_size**2)
        patch_t, patch = self.patch_size_t, self.patch_size
        cut = hidden_states.unflatten(4, (-1, patch)).unflatten(3, (-1, patch)).unflatten(1, (-1, patch_t))
        # (batch, frames, patch_t, channels, rows, patch, columns, patch), the patch to the end, channels before it
        return cut.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)

    def _placed(self, text: Tensor, video: Tensor, size: tuple[int, int, int]) -> Tensor:
        """Prompt and patches with their positions added; those of a prompt are zero unless learned."""
        if self.positions == "learned":
            if size[1:] != self.sample_size[1:]:
                raise ValueError(
                    f"latents must be {self.sample_size[1]} x {self.sample_size[2]}, the size that positions were"
                    f" learned at, got {size[1]} x {size[2]}."
                )
            if size == self.sample_size:
                limit = self.max_text_seq_length
                if text.shape[1] > limit:
                    raise ValueError(f"positions were learned for {limit} tokens of a prompt, got {text.shape[1]}.")
                table = self.pos_embedding
                return torch.cat([text + table[:, : text.shape[1]], video + table[:, limit:]], dim=1)
        positions = self.sine_positions(size, video.shape[-1], video.device)
        return torch.cat([text, video + positions.to(video.dtype)], dim=1)

    def sine_positions(self, size: tuple[int, int, int], dim: int, device: torch.device) -> Tensor:
        """Positions of all patches, (patches, dim) in float32: waves of the frame, then the column, then the row.

        Args:
            size: latent frames, height, width.
        """
        frames, rows, columns = (length // patch for length, patch in zip(size, self._patch(), strict=True))
        by_time, by_space = self.interpolation_scale

        def waves(length: int, scale: float, num_channels: int) -> Tensor:
            places = torch.arange(length, dtype=torch.float32, device=device) / scale
            return sinusoidal_embedding(places, num_channels, flip_sin_to_cos=False)

        parts = (
            waves(frames, by_time, dim // 4)[:, None, None],
            waves(columns, by_space, 3 * dim // 8)[None, None],
            waves(rows, by_space, 3 * dim // 8)[None, :, None],
        )
        return torch.cat([part.expand(frames, rows, columns, -1) for part in parts], dim=-1).flatten(0, 2)

    def _patch(self) -> tuple[int, int, int]:
        return self.patch_size_t, self.patch_size, self.patch_size

    def _initial_positions(self, dim: int) -> Tensor:
        frames, height, width = self.sample_size
        num_patches = frames * (height // self.patch_size) * (width // self.patch_size)
        table = torch.empty(1, self.max_text_seq_length + num_patches, dim)
        if not table.is_meta:  # a checkpoint will fill it
            table[:, : self.max_text_seq_length] = 0
            table[0, self.max_text_seq_length :] = self.sine_positions(self.sample_size, dim, table.device)
        return table


def cropped_axes(
    size: tuple[int, int, int],  # patches: frames, rows, columns
    base: tuple[int, int],  # rows and columns that the model was trained on
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Places along time, height and width: the grid is scaled to fit the base grid, and set in its middle."""
    frames, rows, columns = size
    base_rows, base_columns = base
    if rows / columns > base_rows / base_columns:
        fitted = base_rows, round(base_rows / rows * columns)
    else:
        fitted = round(base_columns / columns * rows), base_columns

    def axis(length: int, base_length: int, fitted_length: int) -> Tensor:
        start = round((base_length - fitted_length) / 2)
        end = (start + fitted_length) * (length - 1) / length
        return torch.linspace(start, end, length, dtype=torch.float32, device=device)

    time = torch.arange(frames, dtype=torch.float32, device=device)
    return time, axis(rows, base_rows, fitted[0]), axis(columns, base_columns, fitted[1])


def counted_axes(size: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Places along time, height and width that are plain indices."""
    frames, rows, columns = (torch.arange(length, dtype=torch.float32, device=device) for length in size)
    return frames, rows, columns


def rotations(axes: tuple[Tensor, Tensor, Tensor], head_dim: int) -> Tensor:
    """Rotations of a grid of patches, (patches, head_dim / 2, 2): a quarter by time, the rest by row and column."""
    shares = (head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3)
    size = [len(places) for places in axes]
    angles = []
    for i, (places, share) in enumerate(zip(axes, shares, strict=True)):
        exponents = torch.arange(0, share, 2, dtype=torch.float32, device=places.device) / share
        view = [1, 1, 1, -1]
        view[i] = size[i]
        angles.append(torch.outer(places, ROTARY_THETA**-exponents).view(view).expand(*size, -1))
    return rotation_table(torch.cat(angles, dim=-1).flatten(0, 2))
