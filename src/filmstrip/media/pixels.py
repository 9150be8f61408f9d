"""Every change of pixel range, type or layout, written once.

Three ranges meet here: floats in [-1, 1] inside the library, floats in [0, 1] in what users give and get, and uint8 in
files. Torch is not imported by importing this module, so frames that are pictures or arrays are written without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
from PIL import Image

from filmstrip.json_files import shown
from filmstrip.media.levels import ON_WHITE, Say, check_floats, on_white, once, to_rgb, warn, whole_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

OutputType = Literal["pil", "np", "pt", "uint8"]
OUTPUT_TYPES: tuple[str, ...] = ("pil", "np", "pt", "uint8")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the channels of what CLIP was trained with (arXiv:2103.00020)."""


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or _is_tensor(value)


# ---- what users give, to uint8 frames ------------------------------------------------------------------------------


def to_uint8_frames(frames: Any) -> Iterator[NDArray[np.uint8]]:
    """Yield one video's frames as contiguous arrays, each (height, width, 3).

    Args:
        frames: one video: pictures, arrays or tensors in a list, or one array or tensor,
            (frames, height, width, channels) or (frames, channels, height, width), or an iterator over frames or chunks
            of frames. A batch of one video is taken as that video. Floats are in [0, 1], uint16 in 0 to 65535; one
            channel is grey, four are RGBA, whose transparent parts are shown on white.
    """
    tell = once(warn)
    for index, frame in enumerate(_iterate(frames)):
        yield _frame_to_uint8(frame, index, tell)


def _iterate(frames: Any) -> Iterator[Any]:
    """Yield single frames: a picture, or an array or tensor of two or three dimensions."""
    if isinstance(frames, Image.Image):
        yield frames
    elif _is_array(frames):
        yield from _frames_of_array(frames)
    elif isinstance(frames, (list, tuple)):
        if not frames:
            raise ValueError("the video has no frames; give at least one.")
        if all(isinstance(item, (list, tuple)) or (_is_array(item) and item.ndim > 3) for item in frames):
            yield from _iterate(_only_video(frames))
        else:
            for frame in frames:
                yield from _iterate(frame)
    elif isinstance(frames, Iterable) and not isinstance(frames, (str, bytes)):
        for chunk in frames:
            yield from _iterate(chunk)
    else:
        raise ValueError(
            "frames must be pictures, arrays or tensors (a list of them, or one array with a dimension of frames), "
            f"got {type(frames).__name__}."
        )


def _only_video(videos: Any) -> Any:
    if len(videos) != 1:
        raise ValueError(f"a file holds one video, got a batch of {len(videos)}; write each with a call of its own.")
    return videos[0]


def _frames_of_array(frames: Any) -> Iterator[Any]:
    if frames.ndim == 5:
        frames = _only_video(frames)
    if frames.ndim == 4:
        # The layout of the whole, so that a frame 3 pixels high or wide can't be read in two ways.
        channels_first = _is_channels_first(frames.shape[1:], _is_tensor(frames))
        frames = frames if channels_first else _channels_to_front(frames)
        yield from frames
    elif frames.ndim == 3:
        yield frames if _is_channels_first(frames.shape, _is_tensor(frames)) else _channels_to_front(frames)
    elif frames.ndim == 2:
        yield frames[None]
    else:
        raise ValueError(f"frames must have 2 to 5 dimensions, got the shape {tuple(frames.shape)}.")


def _is_channels_first(shape: Sequence[int], prefer_first: bool) -> bool:
    for counts in ((1, 3), (4,)):  # four channels only where nothing else can be meant
        first, last = shape[0] in counts, shape[-1] in counts
        if first or last:
            return first and (prefer_first or not last)
    raise ValueError(
        f"a frame must be (height, width, channels) or (channels, height, width) with 3 channels, 4 for RGBA or 1 for "
        f"grey; got the shape {tuple(shape)}."
    )


def _channels_to_front(array: Any) -> Any:
    return array.movedim(-1, -3) if _is_tensor(array) else np.moveaxis(array, -1, -3)


def _frame_to_uint8(frame: Any, index: int, tell: Say) -> NDArray[np.uint8]:
    said = f"frame {index}"
    if isinstance(frame, Image.Image):
        return np.asarray(to_rgb(frame, tell))
    if 0 in frame.shape:
        raise ValueError(f"{said} has no pixels: its shape is {tuple(frame.shape)}; give at least one.")
    if _is_tensor(frame):
        frame = frame.detach()
        if frame.is_floating_point():
            low, high = frame.aminmax()
            check_floats(float(low), float(high), said)
            frame = _quantize(frame.clamp(0, 1).float())
        planes = frame.cpu().numpy()
    else:
        planes = frame
        if np.issubdtype(planes.dtype, np.floating):
            check_floats(float(planes.min()), float(planes.max()), said)
            scaled = np.multiply(planes, 255, dtype=np.float32)
            planes = np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)
    planes = whole_levels(planes, said)
    return on_white(np.moveaxis(planes, 0, -1), tell) if len(planes) == 4 else _interleave(planes)


def _quantize(unit: Tensor) -> Tensor:
    """uint8 levels of float32 values in [0, 1], which are overwritten."""
    import torch

    return unit.mul_(255).round_().to(torch.uint8)


def _interleave(planes: NDArray[Any]) -> NDArray[Any]:
    """(1 or 3, height, width) as contiguous (height, width, 3); plane by plane is faster than a transposed copy."""
    pixels = np.moveaxis(planes, 0, -1)
    if len(planes) == 3 and pixels.flags.c_contiguous:
        return pixels
    frame = np.empty((*planes.shape[1:], 3), planes.dtype)
    for channel in range(3):
        frame[..., channel] = planes[channel % len(planes)]
    return frame


# ---- what a decoder gives, to what users get -------------------------------------------------------------------------


def video_to_output(video: Tensor, output_type: str = "pil") -> Any:
    """Turn decoded video into what the user gets.

    Args:
        video: (batch, 3, frames, height, width) in [-1, 1]; values beyond are clipped.
        output_type: "pil" gives a list of pictures per video; "np" float32 in [0, 1] and "uint8" levels, both arrays,
            (batch, frames, height, width, 3); "pt" a tensor of the video's own type,
            (batch, frames, 3, height, width), in [0, 1].
    """
    import torch

    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {shown(output_type)}.")
    video = video.detach()
    if output_type == "pt":
        owned = video.movedim(2, 1).clone(memory_format=torch.contiguous_format)
        return owned.mul_(0.5).add_(0.5).clamp_(0, 1)

    batch, channels, num_frames, height, width = video.shape
    dtype = np.float32 if output_type == "np" else np.uint8
    output = np.empty((batch, num_frames, height, width, channels), dtype)
    # One frame at a time stays in the processor's cache, which makes float32 free for a bfloat16 video.
    unit = torch.empty((channels, height, width), device=video.device)
    for sample in range(batch):
        for index in range(num_frames):
            unit.copy_(video[sample, :, index]).mul_(0.5).add_(0.5).clamp_(0, 1)
            planes = (unit if output_type == "np" else _quantize(unit)).cpu().numpy()
            for channel in range(channels):
                output[sample, index, ..., channel] = planes[channel]
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames] for frames in output]
    return output


# ---- what users give, to what an encoder takes -----------------------------------------------------------------------


def preprocess_image(image: Any, height: int, width: int) -> Tensor:
    """Resize and scale pictures for a network: (batch, 3, height, width), float32 in [-1, 1].

    Args:
        image: a picture, an array (height, width, channels), a tensor (channels, height, width), or several of these,
            in a list or with a leading dimension. Floats are in [0, 1]; if any is negative, all are taken to be in
            [-1, 1] already. Pictures are resized by Lanczos' filter, arrays and tensors to the nearest pixel. Whatever
            is transparent is shown on white.

    Raises:
        ValueError: it is no picture, or its range can't be known.
    """
    import torch

    images = list(image) if isinstance(image, (list, tuple)) else [image]
    if not images:
        raise ValueError("no picture was given; give at least one.")
    tell = once(warn)
    if all(isinstance(item, Image.Image) for item in images):
        arrays = [np.asarray(_resize_picture(item, height, width, tell)) for item in images]
        pixels = torch.from_numpy(np.stack(arrays)).movedim(-1, 1)
        return _to_symmetric(pixels)
    tensors = [_image_tensor(item) for item in images]
    is_symmetric = any(one.is_floating_point() and one.numel() and bool(one.amin() < 0) for one in tensors)
    several = (_symmetric_rgb(one, is_symmetric, tell) for one in tensors)  # of any sizes
    return torch.cat([torch.nn.functional.interpolate(one, size=(height, width)) for one in several]).contiguous()


def picture_size(image: Any) -> tuple[int, int]:
    """Height and width of a picture, or of the first of several, in any of the forms that `preprocess_image` takes."""
    first = image[0] if isinstance(image, (list, tuple)) and image else image
    if isinstance(first, Image.Image):
        return first.height, first.width
    height, width = _planes(first).shape[-2:]
    return height, width


def _resize_picture(picture: Image.Image, height: int, width: int, tell: Say) -> Image.Image:
    return to_rgb(picture, tell).resize((width, height), Image.Resampling.LANCZOS)


def _planes(image: Any) -> Any:
    """(channels, height, width), perhaps in a batch, of an array or tensor of two to four dimensions."""
    if not _is_array(image) or not 2 <= image.ndim <= 4:
        got = f"shape {tuple(image.shape)}" if _is_array(image) else type(image).__name__
        raise ValueError(
            "a picture must be a PIL image, an array (height, width, channels) or a tensor (channels, height, width), "
            f"or all pictures of a list alike; got {got}."
        )
    if image.ndim == 2:
        return image[None]
    return image if _is_channels_first(image.shape[-3:], _is_tensor(image)) else _channels_to_front(image)


def _image_tensor(image: Any) -> Tensor:
    """(batch, channels, height, width) of an array or tensor of two to four dimensions."""
    import torch

    planes = _planes(image)
    if not _is_tensor(planes):
        if not np.issubdtype(planes.dtype, np.floating):
            planes = whole_levels(planes, "a picture")
        elif planes.dtype.itemsize > 8:  # more than torch has
            planes = planes.astype(np.float64)
        planes = torch.from_numpy(np.array(planes, order="C"))
    tensor: Tensor = planes.detach()
    return tensor if tensor.ndim == 4 else tensor[None]


def _symmetric_rgb(pixels: Tensor, is_symmetric: bool, tell: Say) -> Tensor:
    """(batch, 3, height, width) in [-1, 1] of pixels of any kind with 1, 3 or 4 channels.

    Args:
        is_symmetric: whether floats are in [-1, 1].
    """
    import torch

    if 0 in pixels.shape:
        raise ValueError(f"a picture has no pixels: its shape is {tuple(pixels.shape)}; give at least one.")
    if not pixels.is_floating_point():
        levels = whole_levels(pixels.cpu().numpy(), "a picture")
        if levels.shape[1] == 4:
            levels = np.moveaxis(on_white(np.moveaxis(levels, 1, -1), tell), -1, 1)
        return _to_symmetric(torch.from_numpy(levels).to(pixels.device)).expand(-1, 3, -1, -1)
    low, high = pixels.aminmax()
    check_floats(float(low), float(high), "a picture", is_symmetric=is_symmetric)
    if pixels.shape[1] == 4:
        if is_symmetric:
            raise ValueError("floats of four channels (RGBA) must be in [0, 1], got negative ones; give RGB instead.")
        colours, alpha = pixels.float().clamp(0, 1).split((3, 1), dim=1)
        if bool((alpha < 1).any()):
            tell(ON_WHITE)
        pixels = colours * alpha + (1 - alpha)
    if not is_symmetric:
        pixels = (pixels.float() * 2.0 - 1.0).clamp(-1, 1)
    return pixels.float().expand(-1, 3, -1, -1)


def _to_symmetric(levels: Tensor) -> Tensor:
    """Floats in [-1, 1] of uint8 levels."""
    import torch

    return levels.to(torch.float32, memory_format=torch.contiguous_format).div_(255) * 2.0 - 1.0


def preprocess_video(video: Any, height: int, width: int) -> Tensor:
    """Resize and scale videos for a network: (batch, 3, frames, height, width), float32 in [-1, 1].

    Args:
        video: one video: a list of frames, an array (frames, height, width, channels) or a tensor
            (frames, channels, height, width); or several, in a list or with a leading dimension.
            Frames are taken as `preprocess_image` takes pictures.
    """
    import torch

    if _is_array(video):
        if video.ndim not in (4, 5):
            raise ValueError(f"a video must have 4 dimensions, a batch of videos 5; got {tuple(video.shape)}.")
        videos = [video] if video.ndim == 4 else list(video)
    elif not isinstance(video, (list, tuple)) or not video:
        raise ValueError(f"a video must be a list of frames, an array or a tensor; got {video!r:.60}.")
    elif isinstance(video[0], (list, tuple)) or (_is_array(video[0]) and video[0].ndim >= 4):
        videos = [single for item in video for single in (item if _is_array(item) and item.ndim == 5 else [item])]
    else:
        videos = [video]
    if not all(map(len, videos)):
        raise ValueError("a video has no frames; give at least one.")
    samples = [preprocess_image(frames, height, width).movedim(0, 1) for frames in videos]
    if lengths := {sample.shape[1] for sample in samples} - {samples[0].shape[1]}:
        raise ValueError(
            f"videos of a batch must have the same number of frames, got {samples[0].shape[1]} and {min(lengths)}."
        )
    return torch.stack(samples)


def normalized_for_clip(pixels: Tensor, processor: Any) -> Tensor:
    """Pictures in [-1, 1] with the mean and deviation of each channel that CLIP was trained with.

    Args:
        pixels: (batch, 3, height, width).
        processor: the image processor that says them; what it does not say is CLIP's own.
    """
    mean, std = getattr(processor, "image_mean", CLIP_MEAN), getattr(processor, "image_std", CLIP_STD)
    means, deviations = (pixels.new_tensor(values)[:, None, None] for values in (mean, std))
    return (pixels / 2 + 0.5 - means) / deviations
