#!/usr/bin/env python3
"""Shows that the tests find mistakes: makes each mistake in the table below on purpose, and a test must fail.

    scripts/check-mutations.py [--target FOLDER] [NAME...]

Works on a copy of the last commit. FOLDER keeps build outputs between calls (dependencies take some minutes, once).
Each row compiles the program once, in about a minute on two cores. Exit code 1 if a mistake goes unnoticed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# name, file, a text that occurs in it once, its replacement.
MUTATIONS = [
    ("gelu is the tanh form", "src/model/layers.rs", "Self::Gelu => Gelu::Erf", "Self::Gelu => Gelu::Tanh"),
    ("gelu_new is the erf form", "src/model/layers.rs", "Self::GeluNew => Gelu::Tanh", "Self::GeluNew => Gelu::Erf"),
    ("quick_gelu is the erf form", "src/model/layers.rs", "Self::QuickGelu => Gelu::Quick", "Self::QuickGelu => Gelu::Erf"),
    (
        "eps of ViT",
        "src/model/encoders/vit.rs",
        'LayerNorm::new(&after.under("layernorm"), hidden, config.layer_norm_eps)',
        'LayerNorm::new(&after.under("layernorm"), hidden, config.layer_norm_eps + 1e-6)',
    ),
    (
        "eps of CLIP",
        "src/model/encoders/clip.rs",
        'LayerNorm::new(&builder.under("pre_layrnorm"), hidden, config.layer_norm_eps)',
        'LayerNorm::new(&builder.under("pre_layrnorm"), hidden, config.layer_norm_eps * 0.1)',
    ),
    (
        "eps of the decoder",
        "src/model/decoders/gpt2.rs",
        'LayerNorm::new(&after.under("transformer.ln_f"), hidden, config.layer_norm_eps)',
        'LayerNorm::new(&after.under("transformer.ln_f"), hidden, config.layer_norm_eps * 0.1)',
    ),
    (
        "query and key of a fused projection swapped",
        "crates/ops/src/cpu/attention/heads.rs",
        "q: view(qkv, keys, 3, 0), k: view(qkv, keys, 3, 1)",
        "q: view(qkv, keys, 3, 1), k: view(qkv, keys, 3, 0)",
    ),
    (
        "key and value of the cross-attention swapped",
        "crates/ops/src/cpu/attention/heads.rs",
        "k: view(kv, keys, 2, 0), v: view(kv, keys, 2, 1)",
        "k: view(kv, keys, 2, 1), v: view(kv, keys, 2, 0)",
    ),
    ("attention scaled by the whole width", "crates/ops/src/types/attention.rs", "(self.head_size as f64).sqrt()", "(self.hidden() as f64).sqrt()"),
    (
        "causal mask lets one future token through",
        "crates/ops/src/types/attention.rs",
        "self.keys - self.queries + query + 1 }",
        "(self.keys - self.queries + query + 2).min(self.keys) }",
    ),
    (
        "positions off by one",
        "src/model/decoders/gpt2.rs",
        "self.position_embedding.narrow(0, 0, length)?",
        "self.position_embedding.narrow(0, usize::from(length < self.position_embedding.dim(0)?), length)?",
    ),
    (
        "square Conv1D transposed",
        "src/model/decoders/gpt2.rs",
        "ops::linear(x, &self.weight, Some(&self.bias), &options)",
        "ops::linear(x, &self.weight, Some(&self.bias), &LinearOptions { layout: if x.dims().last() == "
        "self.bias.dims().last() { WeightLayout::OutIn } else { WeightLayout::InOut }, ..options })",
    ),
    (
        "bias of Conv1D dropped",
        "src/model/decoders/gpt2.rs",
        "ops::linear(x, &self.weight, Some(&self.bias), &options)",
        "ops::linear(x, &self.weight, Some(&(&self.bias * 0.0)?), &options)",
    ),
    (
        "ViT without its last LayerNorm",
        "src/model/encoders/vit.rs",
        "        self.norm.forward(&states)\n",
        "        self.norm.forward(&states)?;\n        Ok(states)\n",
    ),
    (
        "CLIP normalised after its last block",
        "src/model/encoders/clip.rs",
        "        Ok(states)\n    }\n}",
        "        self.norm_before.forward(&states)\n    }\n}",
    ),
    (
        "an untied head is the token embedding",
        "src/model/decoders/gpt2.rs",
        "let head = if config.tie_word_embeddings {",
        "let head = if config.tie_word_embeddings || config.vocab_size > 0 {",
    ),
    (
        "BERT normalises before its sums",
        "src/model/decoders/bert.rs",
        "output.norm.forward(&(x + self.attention.drop(made, offset, mode)?)?)",
        "x + output.norm.forward(&self.attention.drop(made, offset, mode)?)?",
    ),
    (
        "BERT without the bias of its head",
        "src/model/decoders/bert.rs",
        "ops::linear(&transformed, &self.head, Some(&self.head_bias), &options)",
        "ops::linear(&transformed, &self.head, None, &options)",
    ),
    (
        "BERT's head has the tanh form of gelu",
        "src/model/decoders/bert.rs",
        "ops::gelu(&self.transform.forward(hidden_states)?, self.activation)",
        "ops::gelu(&self.transform.forward(hidden_states)?, if self.blocks.is_empty() { self.activation } else { Gelu::Tanh })",
    ),
    (
        "BERT's cross-attention takes its own width",
        "src/model/decoders/bert.rs",
        'Attention::new(&cross, "crossattention", config.encoder_hidden_size)',
        'Attention::new(&cross, "crossattention", config.hidden_size)',
    ),
    (
        "BERT's token type is left out",
        "src/model/decoders/bert.rs",
        "positions = positions.broadcast_add(token_type)?;",
        "positions = positions.broadcast_add(&(token_type * 0.0)?)?;",
    ),
    (
        "BERT's positions off by one while decoding",
        "src/model/decoders/bert.rs",
        "self.embed(input_ids, cache.length(), 1)?",
        "self.embed(input_ids, (cache.length() + 1).min(self.position_embedding.dim(0)? - 1), 1)?",
    ),
    (
        "an untied BERT takes the bias that does not count",
        "src/model/decoders/bert.rs",
        "(after.weight(HEAD, &[vocabulary, hidden], normal)?, bias(HEAD_BIAS)?)",
        "(after.weight(HEAD, &[vocabulary, hidden], normal)?, bias(BIAS)?)",
    ),
    (
        "BLIP's captions do not see the class token",
        "src/model/encoders/blip.rs",
        "self.norm.forward(&states)",
        "self.norm.forward(&states.narrow(1, 1, states.dim(1)? - 1)?)",
    ),
    ("BLIP's encoder without its last LayerNorm", "src/model/encoders/blip.rs", "self.norm.forward(&states)", "self.norm.forward(&states).map(|_| states)"),
    (
        "padding is a target",
        "src/data/collate.rs",
        "all_targets.extend_from_slice(targets);",
        "all_targets.extend_from_slice(targets); rows.extend(first + targets.len() as u32..first + length as u32); "
        "all_targets.extend(std::iter::repeat_n(pad_id, length - targets.len()));",
    ),
    (
        "an end token that is the padding token is not a target",
        "src/data/collate.rs",
        "rows.extend((first..).take(targets.len()));\n        all_targets.extend_from_slice(targets);",
        "for (at, &id) in targets.iter().enumerate().filter(|(_, id)| **id != pad_id) "
        "{ rows.push(first + at as u32); all_targets.push(id); }",
    ),
    (
        "weight decay after the step",
        "crates/ops/src/cpu/adamw.rs",
        "*parameter = *parameter * decay - step_size * (*mean / denominator);",
        "*parameter = (*parameter - step_size * (*mean / denominator)) * decay;",
    ),
    ("no bias correction of the mean", "crates/ops/src/cpu/adamw.rs", "settings.learning_rate / correction(settings.beta1)", "settings.learning_rate"),
    ("eps inside of the root", "crates/ops/src/cpu/adamw.rs", "square.square_root() / root_correction + eps", "(*square + eps * eps).square_root() / root_correction"),
    ("LayerNorms decay", "src/training/optimizer.rs", "Kind::Weight | Kind::Embedding)", "Kind::Weight | Kind::Embedding | Kind::Norm)"),
    ("layer decay off by one", "src/training/optimizer.rs", "num_blocks + 1 - role.depth", "num_blocks + 2 - role.depth"),
    ("warm-up off by one", "src/training/schedule.rs", "return step as f64 / warmup as f64;", "return (step + 1) as f64 / warmup as f64;"),
    ("a mean of means over micro-batches", "src/training/train_step.rs", "sum.affine(1.0 / count, 0.0)", "sum.affine(1.0 / (loss.count(batch) as f64 * batches.len() as f64), 0.0)"),
    ("the gradients of a segment are lost", "src/training/segments.rs", "            take(store)?;\n", "            drop(store);\n"),
    (
        "the slope of an activation is left out",
        "crates/ops/src/cpu/linear.rs",
        "scale_by_slopes(kind, tensor_elements::<T>(&x_storage)?, &mut values);",
        "scale_by_slopes(kind, &[], &mut values[..0]);",
    ),
    ("the cache knows no weights", "src/run/image_cache.rs", '"weights": weights,', '"weights": "",'),
    ("the cache knows no pixels", "src/run/image_cache.rs", "Ok((image, hasher.finish_bytes()))", "Ok((image, [image as u8; 32]))"),
    ("clipping never scales", "crates/ops/src/update.rs", "(max_norm / (norm + 1e-6)).min(1.0)", "(max_norm / (norm + 1e-6)).max(1.0)"),
    ("smoothing leaves the target out", "crates/ops/src/cpu/cross_entropy.rs", "smoothing / rows.vocabulary as f64", "smoothing / (rows.vocabulary - 1) as f64"),
    ("positions resampled with another cubic", "src/model/position_table.rs", "const CUBIC: f64 = -0.75;", "const CUBIC: f64 = -0.5;"),
    (
        "a BLIP caption begins with the [CLS] of the tokenizer's template",
        "src/hf/layouts/blip.rs",
        'token_id(text, "bos_token_id")?.unwrap_or(DEFAULT_IDS.start)',
        'token_id(text, "cls_token_id")?.unwrap_or(2)',
    ),
    (
        "a BLIP caption ends with eos_token_id",
        "src/hf/layouts/blip.rs",
        'token_id(text, "sep_token_id")?.unwrap_or(DEFAULT_IDS.end)',
        'token_id(text, "eos_token_id")?.unwrap_or(DEFAULT_IDS.end)',
    ),
    (
        "spaces within captions of WordPiece are not cleaned up",
        "src/tokenizer/word_piece.rs",
        "if decoder.cleanup => {",
        "if decoder.cleanup && text.is_empty() => {",
    ),
    (
        "accents are kept where the vocabulary has none",
        "src/tokenizer/word_piece.rs",
        '"strip_accents": config["strip_accents"].as_bool()',
        '"strip_accents": false',
    ),
    (
        "query and key of BLIP's encoder swapped in its export as a ViT",
        "src/hf/layouts/vision_encoder_decoder.rs",
        '["query", "key", "value"]',
        '["key", "query", "value"]',
    ),
]


# Tests of the whole program, which take long without optimisation, and of the source tree.
SLOW = ["tidy", "resume", "interruption", "commands", "pretrained"]


def run_tests(copy, target):
    """Whether all tests passed, and the names of those that failed."""
    # Without optimisation the program compiles faster; the tests are the same.
    profile = ["--config", "profile.release.package.caption-train.opt-level=0"]
    command = ["cargo", "test", "--release", "--locked", "--no-fail-fast", *profile, "--lib", "--test", "integration", "--"]
    skipped = [word for name in SLOW for word in ["--skip", f"{name}::"]]
    environment = os.environ | {"CARGO_TARGET_DIR": str(target), "CARGO_INCREMENTAL": "1"}
    done = subprocess.run([*command, *skipped], cwd=copy, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if "test result:" not in output:
        sys.exit(f"the tests did not run:\n{output[-3000:]}")
    failed = re.findall(r"^test (\S+) \.\.\. FAILED$", output, re.MULTILINE)
    return done.returncode == 0, failed


def check(copy, target, mutations):
    passed, failed = run_tests(copy, target)
    if not passed:
        sys.exit(f"without a mistake these tests fail: {failed}")
    unseen = []
    for name, file, old, new in mutations:
        path = copy / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{name}: expected once in {file}: {old}")
        path.write_text(text.replace(old, new))
        passed, failed = run_tests(copy, target)
        path.write_text(text)
        if passed:
            unseen.append(name)
        shown = "NOT SEEN" if passed else f"{len(failed)} failed, e.g. {failed[0]}" if failed else "the tests broke off"
        print(f"{name:46} {shown}", flush=True)
    print(f"{len(mutations) - len(unseen)} of {len(mutations)} mistakes are found by a test")
    return not unseen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=ROOT / "target" / "mutations")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    mutations = [row for row in MUTATIONS if not arguments.names or row[0] in arguments.names]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", copy, "HEAD"], cwd=ROOT, check=True)
        try:
            found_all = check(copy, arguments.target.resolve(), mutations)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", copy], cwd=ROOT, check=True)
    return 0 if found_all else 1


if __name__ == "__main__":
    sys.exit(main())
