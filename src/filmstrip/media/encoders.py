"""One encoder per kind of file. Each takes frames of one size in turn and leaves a finished file or folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from filmstrip.media import metadata
from filmstrip.media.formats import DEFAULT_QUALITY, Format, crf_of
from filmstrip.media.places import ffmpeg_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

BT709 = 1  # the same number for matrix, primaries and transfer (ITU-T H.273)
LIMITED_RANGE = 1

_MOST_GIF_COLOURS = 255  # one of 256 entries stands for "as in the frame before"
_PALETTE_SAMPLES = 1 << 16
# Below this many pixels, x264's macroblock tree (its AVX-512 code) gives other bytes now and then for equal frames.
_SMALLEST_REPEATABLE = 128


@dataclass(frozen=True)
class Encoding:
    """What an encoder has to make."""

    path: Path  # written in place; the caller renames it
    format: Format
    fps: Fraction
    height: int
    width: int
    quality: float | None
    bitrate: int | None
    metadata: Mapping[str, Any] | None
    facts: Mapping[str, Any]  # true size and frame rate, kept with the metadata


class Encoder(Protocol):
    """What the writer asks of an encoder."""

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Take the next frame, contiguous (height, width, 3)."""

    def finish(self) -> None:
        """Complete the file."""

    def abort(self) -> None:
        """Let go of the file, whatever state it is in."""


def open_encoder(encoding: Encoding) -> Encoder:
    """The encoder for an encoding; the file is open on return."""
    encoders: dict[str, type[Any]] = {
        "video": VideoEncoder,
        "gif": GifEncoder,
        "webp": WebPEncoder,
        "folder": FolderEncoder,
    }
    encoder: Encoder = encoders[encoding.format.kind](encoding)
    return encoder


class VideoEncoder:
    """H.264, VP9 or FFV1 in its container, frame by frame."""

    def __init__(self, encoding: Encoding) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._av = av
        self._format = encoding.format
        self._fps = encoding.fps
        self._num_frames = 0
        self._reformatter = VideoReformatter()
        self._container: Any = av.open(
            ffmpeg_name(encoding.path),
            "w",
            format=encoding.format.container,
            container_options=dict(encoding.format.container_options),
        )
        try:
            self._container.metadata["comment"] = metadata.encode(encoding.metadata, encoding.facts)
            self._stream = self._open_stream(encoding)
        except BaseException:
            self.abort()
            raise

    def _open_stream(self, encoding: Encoding) -> Any:
        stream = self._container.add_stream(encoding.format.codec, rate=encoding.fps)
        stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.format.pixel_format
        options = dict(encoding.format.options)
        if encoding.bitrate is not None:
            stream.bit_rate = encoding.bitrate
        elif encoding.format.largest_crf is not None:
            quality = DEFAULT_QUALITY if encoding.quality is None else encoding.quality
            options["crf"] = crf_of(quality, encoding.format.largest_crf)
            stream.bit_rate = 0  # VP9 takes any other value for a limit
        if encoding.format.codec == "libx264" and min(encoding.width, encoding.height) < _SMALLEST_REPEATABLE:
            options["x264-params"] = "no-mbtree=1"
        stream.options = options
        stream.thread_count = 0  # as many as there are cores
        if encoding.format.pixel_format.startswith("yuv"):
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED_RANGE
        return stream

    def add(self, frame: NDArray[np.uint8]) -> None:
        rgb = self._av.VideoFrame.from_numpy_buffer(frame, format="rgb24")
        colours: dict[str, Any] = {}
        if self._format.pixel_format.startswith("yuv"):
            # Area averaging of the colours keeps flat shapes 1 to 3 dB nearer than the default, at the same cost.
            colours = {"dst_colorspace": BT709, "dst_color_range": LIMITED_RANGE, "interpolation": "AREA"}
        picture = self._reformatter.reformat(rgb, format=self._format.pixel_format, **colours)
        picture.pts, picture.time_base = self._num_frames, 1 / self._fps
        self._num_frames += 1
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        with contextlib.suppress(Exception):
            self._container.close()


class _AnimationEncoder:
    """What GIF and WebP share: the frames are kept until the end."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._frames: list[NDArray[np.uint8]] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        self._frames.append(frame.copy())

    def abort(self) -> None:
        self._frames.clear()

    def _record(self) -> str:
        return metadata.encode(self._encoding.metadata, {**self._encoding.facts, "num_frames": len(self._frames)})


class GifEncoder(_AnimationEncoder):
    """GIF with one palette for all frames, which therefore don't flicker."""

    def finish(self) -> None:
        palette, indexed = _reduce_colours(self._frames)
        self._encode(palette, indexed)
        comment = metadata.gif_comment(self._record())
        gif = self._encoding.path.read_bytes()
        # Header and screen descriptor take 13 bytes; the global palette, if any, follows (GIF89a, section 18).
        start = 13 + (3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0)
        self._encoding.path.write_bytes(gif[:start] + comment + gif[start:])

    def _encode(self, palette: NDArray[np.uint8], indexed: list[NDArray[np.uint8]]) -> None:
        import av

        argb = np.zeros((256, 4), np.uint8)  # entries without a colour are transparent
        argb[: len(palette), 0] = 255
        argb[: len(palette), 1:] = palette
        with av.open(ffmpeg_name(self._encoding.path), "w", format="gif") as container:
            stream = container.add_stream("gif", rate=self._encoding.fps)
            stream.width, stream.height, stream.pix_fmt = self._encoding.width, self._encoding.height, "pal8"
            stream.time_base = hundredth = Fraction(1, 100)
            for index, pixels in enumerate(indexed):
                frame = av.VideoFrame.from_ndarray((pixels, argb), format="pal8")
                # Rounding the time rather than the duration keeps the mean frame rate.
                frame.pts, frame.time_base = round(index * 100 / self._encoding.fps), hundredth
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _reduce_colours(frames: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """A palette, (colours, 3), and each frame as indices into it; exact if the frames have few colours."""
    colours: set[Any] = set()
    for frame in frames:
        found = Image.fromarray(frame).getcolors(_MOST_GIF_COLOURS)
        colours.update(colour for _, colour in found or ())
        if found is None or len(colours) > _MOST_GIF_COLOURS:
            return _quantize_colours(frames)
    palette = np.array(sorted(colours), np.uint8)
    codes = _colour_codes(palette)
    return palette, [np.searchsorted(codes, _colour_codes(frame)).astype(np.uint8) for frame in frames]


def _colour_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    codes: NDArray[np.int32] = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return codes


def _quantize_colours(frames: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    pixels = sum(frame.shape[0] * frame.shape[1] for frame in frames)
    stride = max(1, pixels // _PALETTE_SAMPLES)
    sample = np.concatenate([frame.reshape(-1, 3)[index % stride :: stride] for index, frame in enumerate(frames)])
    reduced = Image.fromarray(sample[None]).quantize(
        _MOST_GIF_COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=1
    )  # median cut, mended by k-means: 2 dB nearer than median cut alone
    palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:_MOST_GIF_COLOURS]
    # Without dithering: its grain is the larger error, flickers, and doubles the file.
    indexed = [Image.fromarray(frame).quantize(palette=reduced, dither=Image.Dither.NONE) for frame in frames]
    return palette, [np.minimum(np.asarray(picture), len(palette) - 1) for picture in indexed]


class WebPEncoder(_AnimationEncoder):
    """Animated WebP."""

    def finish(self) -> None:
        first, *rest = [Image.fromarray(frame) for frame in self._frames]
        quality = DEFAULT_QUALITY if self._encoding.quality is None else self._encoding.quality
        times = [round(index * 1000 / self._encoding.fps) for index in range(len(self._frames) + 1)]
        first.save(
            self._encoding.path,
            format="WEBP",
            save_all=True,
            append_images=rest,
            duration=[end - start for start, end in pairwise(times)],
            loop=0,
            quality=100 * (quality / 10) ** 0.25,  # the default is 90
            xmp=metadata.xmp_of_text(self._record()),
        )


class FolderEncoder:
    """A folder of PNG files, each with the metadata."""

    def __init__(self, encoding: Encoding) -> None:
        self._folder = encoding.path
        self._folder.mkdir()
        self._num_frames = 0
        self._info = PngInfo()
        self._info.add_itxt("filmstrip", metadata.encode(encoding.metadata, encoding.facts))

    def add(self, frame: NDArray[np.uint8]) -> None:
        Image.fromarray(frame).save(self._folder / f"{self._num_frames:05d}.png", pnginfo=self._info)
        self._num_frames += 1

    def finish(self) -> None:
        """Every frame is a file already."""

    def abort(self) -> None:
        """Nothing is open between frames."""
