"""The helpers that users import from here: `from filmstrip.utils import export_to_video, load_image`."""

from filmstrip.media import export_to_gif, export_to_video, load_image, load_video

__all__ = ["export_to_gif", "export_to_video", "load_image", "load_video"]
