"""Writes what METEOR 1.5, the Java tool behind pycocoevalcap, gives for candidates and references.

    pip install --no-deps pycocoevalcap==1.2    (Java 17 must be installed)
    python tests/reference/meteor.py INPUT.json OUTPUT.json [--modules "exact stem"] [--ptb]

INPUT is a list of {"candidate": TEXT, "references": [TEXT, ...]}. The texts go to the tool as they are, or through the
PTB tokenizer of the package with --ptb; `--tokens FILE` then also writes them as an INPUT of their own. OUTPUT is
{"score": CORPUS_SCORE, "segments": [{"statistics": [...], "score": SCORE}, ...]}: the numbers of the tool's SCORE line
(words of candidate and reference, function words of both; for each module the matched content words of both and the
matched function words of both; chunks; matched words of both) and of its EVAL line.
"""

import argparse
import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

WEIGHTS = {"exact": "1.0", "stem": "0.6", "synonym": "0.8", "paraphrase": "0.6"}


def tokenized(items):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = {}
    for index, item in enumerate(items):
        for place, text in enumerate([item["candidate"], *item["references"]]):
            texts[index, place] = [{"caption": text}]
    done = PTBTokenizer().tokenize(texts)
    return [
        {
            "candidate": done[index, 0][0],
            "references": [done[index, place + 1][0] for place in range(len(item["references"]))],
        }
        for index, item in enumerate(items)
    ]


def score_line(item):
    # As pycocoevalcap writes it.
    candidate = item["candidate"].replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", " ||| ".join(item["references"]), candidate))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--modules")
    parser.add_argument("--ptb", action="store_true")
    parser.add_argument("--tokens", type=Path)
    arguments = parser.parse_args()
    items = json.loads(arguments.input.read_text(encoding="utf-8"))
    if arguments.ptb:
        items = tokenized(items)
    if arguments.tokens:
        arguments.tokens.write_text(json.dumps(items), encoding="utf-8")

    folder = Path(find_spec("pycocoevalcap").submodule_search_locations[0]) / "meteor"
    command = ["java", "-jar", "-Xmx2G", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    if arguments.modules:
        weights = " ".join(WEIGHTS[module] for module in arguments.modules.split())
        command += ["-m", arguments.modules, "-w", weights]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8") as tool:

        def send(line):
            tool.stdin.write(line + "\n")
            tool.stdin.flush()

        lines = []
        for item in items:
            send(score_line(item))
            lines.append(tool.stdout.readline().strip())
        send(" ||| ".join(["EVAL", *lines]))
        scores = [float(tool.stdout.readline()) for _ in lines]
        total = float(tool.stdout.readline())
        tool.stdin.close()
    segments = [
        {"statistics": [float(number) for number in line.split()], "score": score}
        for line, score in zip(lines, scores, strict=True)
    ]
    arguments.output.write_text(json.dumps({"score": total, "segments": segments}), encoding="utf-8")


if __name__ == "__main__":
    main()
