"""Makes tests/fixtures/word_piece/: small vocabularies of WordPiece and what transformers makes of captions with them.

    pip install transformers==5.24.0 tokenizers==0.23.3
    python tests/reference/word_piece.py

`uncased` and `cased` are folders as BertTokenizer saves them, with a `vocab.txt` beside `tokenizer.json`, so that both
forms can be read. `japanese` has a `vocab.txt` alone: a token for each character, as manga-ocr's. `expected.json` holds
ids without [CLS] and [SEP], and texts, with spaces cleaned up as transformers does when it is asked to.
"""

import json
import shutil
from pathlib import Path

import tokenizers
import transformers
from transformers import BertJapaneseTokenizer, BertTokenizer

assert transformers.__version__ == "5.24.0", transformers.__version__
assert tokenizers.__version__ == "0.23.3", tokenizers.__version__

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "word_piece"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "a an the man men woman women dog dogs two red hat hats and on in of street run runs walk play sun ##s ##ing ##ed ##flower "
    "##board snow skate don wasn didn ' t s m re ve n not do it i you they we cafe naive resume fur grosse 4 ##2 42 uber "
    "istanbul strasse ##run"
).split()
CAPITALS = "A Man The Dog Two İstanbul Café café naïve Größe ÜBER Über THE DOG Straße".split()
CJK = ["雨", "中", "歩", "人", "犬", "猫", "私", "は", "の", "を", "く", "走", "ー", "カ", "タ", "ナ"]
PUNCTUATION = list(".,!?:;-\"()[]&%$#@/…–«»。、")

CAPTIONS = [
    "A man walks on the street .",
    "a man 's hat isn't on the dog , it's on the woman .",
    "Two dogs don't run ; they didn't play !",
    "I'm in the sun, you're in the snow, we've hats",
    "a man's café , a naïve RÉSUMÉ , Größe 42 : ÜBER Straße",
    "İstanbul ŞEHİR ΑΣ ﬁne ½ e\u0301 ñ",
    "雨の中を歩く人と犬",
    "a man 雨 in the 犬cafe",
    "a dog 🐕 runs after a dog 👩‍👩‍👧",
    "skateboarding snowboards sunflowers walking",
    "unknownword a zebra xylophone",
    "a " + "run" * 33 + " " + "run" * 34 + " " + "x" * 99 + "man" + " hat",
    "[CLS] a man [SEP] [PAD] [MASK] [UNK] [DEC] ##ing [cls]",
    "  a   dog \t runs\nin\u00a0the\u3000street\u200b \u0000 \ufffd \u00ad",
    "\"(a) [red] hat\" & 42% of #dogs @ $4 / 2 … – «hat»",
    "not do not don't . . . ' ' 's ' m",
    "한국어 텍스트 العربية עברית",
    "カタカナ ｶﾀｶﾅ １２３ ＡＢＣ",
    "a",
    "",
    " ",
    "...",
    "'",
]


def rows(tokenizer, captions):
    # A caption that holds the text of a special token does not give that token.
    options = {"add_special_tokens": False, "split_special_tokens": True}
    ids = [tokenizer(caption, **options)["input_ids"] for caption in captions]
    texts = [
        tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=True).strip() for row in ids
    ]
    return {"ids": ids, "texts": texts}


def save(name, tokenizer, vocab):
    folder = FOLDER / name
    tokenizer.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocab), encoding="utf-8")


def bert(name, vocab, **options):
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(vocab)}, **options)
    save(name, tokenizer, vocab)
    return rows(tokenizer, CAPTIONS)


def japanese():
    """The reference splits no words: the dictionary of the usual one is large, and no character depends on it."""
    folder = FOLDER / "japanese"
    folder.mkdir(parents=True)
    vocab = [*SPECIAL, *CJK, *"abcdefghijklmnopqrstuvwxyzABC123", "。", "、", ".", "!"]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocab), encoding="utf-8")
    options = {"subword_tokenizer_type": "character", "do_lower_case": False}
    tokenizer = BertJapaneseTokenizer(str(folder / "vocab.txt"), word_tokenizer_type="basic", **options)
    config = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab", **options}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    captions = ["雨の中を歩く人。", "私は犬、猫は ｶﾀｶﾅ", "カタカナ １２３ ＡＢＣ ABC!", "a dog 🐕"]
    ids = [tokenizer(caption, add_special_tokens=False)["input_ids"] for caption in captions]
    # Without the spaces that it puts between all characters.
    texts = [tokenizer.decode(row, skip_special_tokens=True).replace(" ", "") for row in ids]
    return {"captions": captions, "ids": ids, "texts": texts}


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    lower = list(dict.fromkeys([*SPECIAL, *WORDS, *CJK, *PUNCTUATION]))
    every = list(dict.fromkeys([*lower, *CAPITALS, "##É", "##e", "##é"]))
    expected = {
        "captions": CAPTIONS,
        "uncased": bert("uncased", lower),
        "cased": bert("cased", every, do_lower_case=False),
        "accents": bert("accents", every, do_lower_case=True, strip_accents=False, tokenize_chinese_chars=False),
        "japanese": japanese(),
    }
    text = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
    (FOLDER / "expected.json").write_text(text + "\n", encoding="utf-8")
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{total} bytes in {FOLDER}")


if __name__ == "__main__":
    main()
