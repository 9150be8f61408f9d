"""Reading and writing images and videos, and every change of pixel range or type."""

from filmstrip.media.edges import canny_edges
from filmstrip.media.export import export_to_gif, export_to_video
from filmstrip.media.formats import check_writable
from filmstrip.media.metadata import read_metadata
from filmstrip.media.pixels import preprocess_image, preprocess_video, to_uint8_frames, video_to_output
from filmstrip.media.reader import load_image, load_video, read_video
from filmstrip.media.sheet import contact_sheet
from filmstrip.media.writer import VideoWriter

__all__ = [
    "VideoWriter",
    "canny_edges",
    "check_writable",
    "contact_sheet",
    "export_to_gif",
    "export_to_video",
    "load_image",
    "load_video",
    "preprocess_image",
    "preprocess_video",
    "read_metadata",
    "read_video",
    "to_uint8_frames",
    "video_to_output",
]
