"""Writes crates/metrics/src/cider_reward.tsv: rewards of self-critical training as pycocoevalcap counts them.

The captions are in lower case and without punctuation, so that their words are what spaces part. The end of a reference,
and of a caption that has one, is the word "<EOS>". Each round has one caption of every image, so that the document
frequencies are those of the images.

Needs: pip install pycocoevalcap==1.2 --no-deps numpy==2.4.6
"""

import random
from pathlib import Path

from pycocoevalcap.cider.cider_scorer import CiderScorer

TARGET = Path(__file__).parents[2] / "crates/metrics/src/cider_reward.tsv"
WORDS = "a the dog dogs runs run on in grass snow red ball with man men two brown".split()
IMAGES, ROUNDS = 8, 10


def caption(draw):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 9)))


def changed(draw, text):
    """A caption that shares most of a reference."""
    words = text.split()
    words[draw.randrange(len(words))] = draw.choice(WORDS)
    return " ".join(words)


def main():
    draw = random.Random(3)
    references = [[caption(draw) for _ in range(draw.randint(1, 5))] for _ in range(IMAGES)]
    lines = [f"reference\t{image}\t{text}" for image, texts in enumerate(references) for text in texts]
    for _ in range(ROUNDS):
        texts = [changed(draw, draw.choice(texts)) for texts in references]
        has_end = [draw.random() < 0.6 for _ in references]
        scorer = CiderScorer()
        for image, text in enumerate(texts):
            test = f"{text} <EOS>" if has_end[image] else text
            scorer += (test, [f"{reference} <EOS>" for reference in references[image]])
        _, scores = scorer.compute_score()
        for image, (text, end, score) in enumerate(zip(texts, has_end, scores)):
            lines.append(f"{'ended' if end else 'cut'}\t{image}\t{text}\t{float(score)!r}")
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
