"""What I2VGen-XL says about itself."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="i2vgen-xl",
    title="I2VGen-XL",
    makes="a picture and a text to video",
    licence="MIT by its card; for research only, by its authors",
    paper="2311.04145",
    order=46,
    tasks={"image-to-video": Task("I2VGenXLPipeline", "ali-vilab/i2vgen-xl")},
    checkpoints=("ali-vilab/i2vgen-xl",),
    public={
        "I2VGenXLPipeline": "pipeline",
        "I2VGenXLUNet": "unet",
    },
    transformers_networks=("CLIPTextModel", "CLIPVisionModelWithProjection"),
    transformers_processors=("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPTokenizer", "CLIPTokenizerFast"),
    builds_on=("modelscope", "stable_diffusion"),
    known_by="i2vgen",
    manifests=("i2vgen-xl",),
)
