"""What the toy says about itself."""

from filmstrip.families import Family, Task

FAMILY = Family(
    name="toy",
    title="Toy",
    makes="text to video, as far as random weights can",
    licence="none needed",
    tasks={"text-to-video": Task("ToyPipeline", "filmstrip/toy")},
    checkpoints=("filmstrip/toy",),
    public={"ToyPipeline": "pipeline", "ToyTransformer": "transformer"},
    transformers_networks=("T5EncoderModel",),
    transformers_processors=("T5TokenizerFast",),
    builds_on=("stable_diffusion",),
    known_by="toy",
)
