"""Makes tests/fixtures/tokenizer/expected.json: what Python's tokenizers gives for sentences of our own.

    pip install tokenizers==0.23.3
    python tests/reference/tokenizer.py
"""

import json
from pathlib import Path

import tokenizers
from tokenizers import ByteLevelBPETokenizer

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__

CAPTIONS = [
    "A dog runs across the green grass .",
    "A brown dog runs and runs across the beach .",
    "Two dogs play with a red ball on the beach .",
    "The girl's dog doesn't want the red ball .",
    "A girl in a red coat walks across the street .",
    "Two girls walk a dog across the street",
    "  A boy   runs,  a man walks . ",
    "THE BOY RUNS ACROSS THE STREET !",
    "12 men and 2 women stand in front of a café .",
    "A man's naïve sign says : \"Größe 42\" .",
    "雨の中を歩く人",
    "a dog 🐕 runs after a dog 🐕",
    "İstanbul ŞEHİR ΑΣ",
    "<end> is not the end of <start>",
]
UNSEEN = ["Zebras graze ; a dog's ball\tis lost", "", " ", "<pad>", "ﬁne ½ e\u0301"]
SPECIALS = ["<pad>", "<start>", "<end>", "<unk>"]


def case(lowercase: bool, vocab_size: int, min_frequency: int) -> dict:
    tokenizer = ByteLevelBPETokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(
        CAPTIONS,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        special_tokens=SPECIALS,
    )
    # A caption that holds the text of a special token must not give that token.
    tokenizer._tokenizer.encode_special_tokens = True
    model = json.loads(tokenizer.to_str())["model"]
    texts = CAPTIONS + UNSEEN
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    return {
        "lowercase": lowercase,
        "vocab_size": vocab_size,
        "min_frequency": min_frequency,
        "learned": sorted(
            ([text, index] for text, index in model["vocab"].items() if index >= 260), key=lambda entry: entry[1]
        ),
        "merges": [" ".join(pair) for pair in model["merges"]],
        "ids": ids,
        "decoded": [tokenizer.decode(one, skip_special_tokens=True) for one in ids],
    }


expected = {
    "captions": CAPTIONS,
    "unseen": UNSEEN,
    "cases": [case(True, 320, 2), case(False, 300, 2), case(True, 1000, 1)],
}
folder = Path(__file__).parent.parent / "fixtures" / "tokenizer"
folder.mkdir(parents=True, exist_ok=True)
text = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
(folder / "expected.json").write_text(text + "\n", encoding="utf-8")
