"""The tokenizer of `shapes`: whole words of the captions, and letters for every other word.

`T5TokenizerFast` of transformers 5 keeps the pieces of a `tokenizer.json` but not its normaliser, so that nothing can
lower-case a prompt. Every piece therefore comes in lower case, with a capital and in capitals; training sees the first
only, and the others get its embedding afterwards.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from training.shapes.captions import vocabulary

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_LENGTH = 128
SPACE = "▁"  # stands before a word's first letter
_WORD_SCORE, _LETTER_SCORE = -4.0, -12.0  # log-probabilities: one word beats any spelling of it


def pieces() -> list[tuple[str, float]]:
    """Every piece with its score; a piece's number is its place."""
    scores: dict[str, float] = {PAD: 0.0, END: 0.0, UNKNOWN: 0.0, SPACE: _LETTER_SCORE}
    words = [SPACE + word for word in vocabulary()]
    for form in (str.lower, _capitalised, str.upper):
        scores.update((form(word), _WORD_SCORE) for word in words if form(word) not in scores)
    for letter in string.ascii_letters + string.digits + string.punctuation:
        scores.setdefault(letter, _LETTER_SCORE)
    return list(scores.items())


def lower_case_twins() -> list[int]:
    """For every piece, the number of the same piece in lower case."""
    index = {piece: number for number, (piece, _) in enumerate(pieces())}
    return [index.get(piece.lower(), number) for piece, number in index.items()]


def build_tokenizer() -> Tokenizer:
    vocabulary_pieces = pieces()
    tokenizer = Tokenizer(models.Unigram(vocabulary_pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True)]
    )
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", END], pair=["$A", END, "$B", END], special_tokens=[(END, 1)]
    )
    tokenizer.add_special_tokens([PAD, END, UNKNOWN])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write the two files that `transformers.AutoTokenizer` and `T5TokenizerFast` load."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "T5TokenizerFast",
        "model_max_length": MAX_LENGTH,
        "pad_token": PAD,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "extra_ids": 0,
        "additional_special_tokens": [],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _capitalised(piece: str) -> str:
    return piece[:1] + piece[1:2].upper() + piece[2:]
