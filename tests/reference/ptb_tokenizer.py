"""Writes what COCO's evaluation makes of captions before it scores them: usage: ptb_tokenizer.py CAPTIONS TOKENS

CAPTIONS is a UTF-8 text file, one caption a line, without a line end after the last; TOKENS gets their tokens, one
caption a line. The steps are those of PTBTokenizer.tokenize of pycocoevalcap, which takes no files.

Needs Java (made with 17) and: pip install pycocoevalcap==1.2 --no-deps
"""

import subprocess
import sys
from pathlib import Path

from pycocoevalcap.tokenizer import ptbtokenizer

JAR = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
DROPPED = set(ptbtokenizer.PUNCTUATIONS)


def tokens(captions):
    """The tokens of each line of the file `captions`."""
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", JAR, "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", captions]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    for line in output.decode().split("\n"):
        yield [token for token in line.rstrip().split(" ") if token not in DROPPED]


if __name__ == "__main__":
    captions, target = sys.argv[1:]
    with open(target, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(" ".join(line) + "\n" for line in tokens(captions))
