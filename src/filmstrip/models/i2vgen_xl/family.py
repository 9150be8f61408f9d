"""What I2VGen-XL says about itself."""

from filmstrip.families import Family

FAMILY = Family(
    name="i2vgen-xl",
    title="I2VGen-XL",
    makes="a picture and a text to video",
    licence="MIT",
    paper="2311.04145",
    order=46,
    tasks={},
    checkpoints=("ali-vilab/i2vgen-xl",),
    public={"I2VGenXLUNet": "unet"},
    transformers_networks=("CLIPTextModel", "CLIPVisionModelWithProjection"),
    transformers_processors=("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPTokenizer", "CLIPTokenizerFast"),
    known_by="i2vgen",
)
