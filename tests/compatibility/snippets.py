"""Running code of a guide, with its numbers made smaller."""

# The numbers of the snippets would take minutes even here; the tiny models are asked for less of the same.
SMALLER = {
    "width=704": "width=96",
    "height=480": "height=64",
    "num_frames=161": "num_frames=17",
    "num_frames=49": "num_frames=17",
    "num_inference_steps=50": "num_inference_steps=2",
    'Generator(device="cuda")': "Generator()",  # torch itself refuses it where there is no GPU
    '.to("cuda")': "",
    'device="cuda", ': "",
    "torch.float16": "torch.bfloat16",
    "ms.float16": "ms.bfloat16",
    "pipeline.enable_model_cpu_offload()": "",  # which needs a device to come to
    "(1, 4, 64, 64)": "(1, 4, 8, 8)",
}


def run(snippet: str) -> None:
    for long, short in SMALLER.items():
        snippet = snippet.replace(long, short)
    exec(compile(snippet, "snippet", "exec"), {})
