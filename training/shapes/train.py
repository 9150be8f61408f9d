"""Train the model `shapes` from nothing: `python -m training.shapes.train all --out runs/shapes`.

The autoencoder comes first, then its outlines are sharpened, and the transformer learns its latents.
Stopped at any time, the same command goes on where the last state was saved. `all` ends with OUT/checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from training.shapes import autoencoder_training, transformer_training
from training.shapes.checkpoint import save_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("autoencoder", "transformer", "all"))
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"), help="where the training keeps its state")
    parser.add_argument("--autoencoder-steps", type=int, default=autoencoder_training.NUM_STEPS)
    parser.add_argument("--decoder-steps", type=int, default=autoencoder_training.DECODER_STEPS)
    parser.add_argument("--outline-steps", type=int, default=autoencoder_training.OUTLINE_STEPS)
    parser.add_argument("--transformer-steps", type=int, default=transformer_training.NUM_STEPS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    autoencoder = autoencoder_training.train_autoencoder(options.out, options.autoencoder_steps)
    autoencoder_training.sharpen(options.out, autoencoder, "decoder", options.decoder_steps, seed=1)
    autoencoder_training.sharpen(options.out, autoencoder, "outlines", options.outline_steps, seed=2)
    autoencoder.save_pretrained(options.out / "vae")
    if options.stage != "autoencoder":
        trainee = transformer_training.train_transformer(options.out, autoencoder, options.transformer_steps)
        save_checkpoint(options.out / "checkpoint", autoencoder, trainee)


if __name__ == "__main__":
    main()
