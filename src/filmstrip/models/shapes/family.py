"""What the model in the box says about itself."""

from filmstrip.families import Family, Task
from filmstrip.models.ltx.family import FAMILY as LTX

FAMILY = Family(
    name="shapes",
    title="Shapes, the model in the box",
    makes="the tasks of LTX-Video, for moving shapes at 64x64",
    licence="Apache-2.0",
    order=10,
    tasks={task: Task(served.pipeline, "shapes") for task, served in LTX.tasks.items() if task != "latent-upsampling"},
    checkpoints=("shapes",),
    builds_on=("ltx",),
    is_built_in=True,
    understands={
        "shape": ("circle", "square", "triangle", "star"),
        "colour": ("red", "green", "blue", "yellow", "orange", "purple", "white", "cyan"),
        "motion": (
            *("left", "right", "up", "down", "growing", "shrinking", "spinning", "bouncing"),
            *("rising", "falling", "sinking", "expanding", "contracting", "rotating", "turning", "hopping", "jumping"),
        ),
        "background": ("black", "gray", "grey", "navy", "brown"),
    },
)
