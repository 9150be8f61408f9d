"""A picture becomes the first frame of a video."""

import torch
from PIL import Image, ImageDraw

from filmstrip import LTXImageToVideoPipeline, export_to_video

# A picture of your own comes from `load_image("boat.png")`; it may be a web address, too.
picture = Image.new("RGB", (64, 64), "navy")
ImageDraw.Draw(picture).ellipse((10, 22, 30, 42), fill="yellow")

pipe = LTXImageToVideoPipeline.from_pretrained("shapes")
video = pipe(
    image=picture,
    prompt="a yellow circle moving right on a navy background",
    generator=torch.Generator().manual_seed(7),
).frames[0]
export_to_video(video, "circle.mp4", fps=8)
