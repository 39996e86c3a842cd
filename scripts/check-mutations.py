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
        "layer_norm_eps: self.layer_norm_eps,\n                qkv_bias",
        "layer_norm_eps: self.layer_norm_eps + 1e-6,\n                qkv_bias",
    ),
    (
        "eps of CLIP",
        "src/model/encoders/clip.rs",
        "layer_norm_eps: self.layer_norm_eps,\n                qkv_bias",
        "layer_norm_eps: self.layer_norm_eps * 0.1,\n                qkv_bias",
    ),
    (
        "eps of SigLIP",
        "src/model/encoders/siglip.rs",
        "layer_norm_eps: self.layer_norm_eps,\n                qkv_bias",
        "layer_norm_eps: self.layer_norm_eps * 10.0,\n                qkv_bias",
    ),
    ("SigLIP with the erf form", "src/model/encoders/siglip.rs", "activation: self.hidden_act.gelu()", "activation: ops::Gelu::Erf"),
    (
        "SigLIP with a class token",
        "src/model/encoders/siglip.rs",
        "fn num_prefix_tokens(&self) -> usize {\n        0\n",
        "fn num_prefix_tokens(&self) -> usize {\n        1\n",
    ),
    ("what fills no patch is cut off at the left", "src/model/encoders/vision_block.rs", ".narrow(3, 0, columns * size)?", ".narrow(3, width - columns * size, columns * size)?"),
    ("layer scale dropped", "src/model/encoders/vision_block.rs", "Some(scales) => states.broadcast_mul(&scales[index]),", "Some(_) if index < 2 => Ok(states),\n            Some(scales) => states.broadcast_mul(&scales[index]),"),
    ("layer scales swapped", "src/model/encoders/vision_block.rs", "broadcast_mul(&scales[index])", "broadcast_mul(&scales[1 - index])"),
    ("layer scales decay", "src/model/encoders/vision_block.rs", "Initializer::Constant(value), Kind::Norm)", "Initializer::Constant(value), Kind::Weight)"),
    ("registers have a position", "src/model/encoders/vision_transformer.rs", "hidden))?.zeros_like()?;", "hidden))?.zeros_like()?.broadcast_add(&positions.narrow(1, 0, 1)?)?;"),
    (
        "registers before the class token",
        "src/model/encoders/vision_transformer.rs",
        "self.tokens.iter().chain(&self.registers)",
        "self.registers.iter().chain(&self.tokens)",
    ),
    ("positions of registers resampled without antialiasing", "src/model/encoders/dinov2.rs", "_ => PositionFilter::AntialiasedBicubic", "_ => PositionFilter::Bicubic"),
    ("antialiasing with another cubic", "src/model/position_table.rs", "const ANTIALIASED_CUBIC: f64 = -0.5;", "const ANTIALIASED_CUBIC: f64 = -0.75;"),
    ("a DINOv2 has the image size of its config", "src/hf/read.rs", "asked.is_some() || !config.takes_any_image_size()", "asked.is_some() || config.image_size() > 0"),
    (
        "eps of the decoder",
        "src/model/decoders/gpt2.rs",
        'LayerNorm::new(&after.under("transformer.ln_f"), hidden, config.layer_norm_eps)',
        'LayerNorm::new(&after.under("transformer.ln_f"), hidden, config.layer_norm_eps * 0.1)',
    ),
    (
        "query and key of a fused projection swapped",
        "crates/ops/src/cpu/attention/heads.rs",
        "q: view(qkv, 3, 0), k: view(qkv, 3, 1)",
        "q: view(qkv, 3, 1), k: view(qkv, 3, 0)",
    ),
    (
        "key and value of the cross-attention swapped",
        "crates/ops/src/cpu/attention/heads.rs",
        "k: view(kv, 2, 0), v: view(kv, 2, 1)",
        "k: view(kv, 2, 1), v: view(kv, 2, 0)",
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
        "src/model/decoders/block.rs",
        "None => table.narrow(0, 0, captions.ids.dim(1)?),",
        "None => table.narrow(0, usize::from(captions.ids.dim(1)? < table.dim(0)?), captions.ids.dim(1)?),",
    ),
    (
        "positions of packed captions off by one",
        "src/model/decoders/block.rs",
        "(0..).take(rows.len())",
        "(1..).take(rows.len()).map(|place| place % table.dims()[0] as u32)",
    ),
    (
        "a packed caption looks at the image in its own place",
        "crates/ops/src/cpu/attention/spans.rs",
        "packing.images()[example] * geometry.keys",
        "example.min(geometry.batch - 1) * geometry.keys",
    ),
    (
        "dropout of packed captions counts from the start of the batch",
        "crates/ops/src/cpu/dropout.rs",
        "let element = position - if example == 0 { 0 } else { ends[example - 1] };",
        "let element = position;",
    ),
    (
        "a caption's keys get the gradient of its image's last caption alone",
        "crates/ops/src/cpu/attention/backward.rs",
        "        for span in spans {\n",
        "        for span in spans {\n            scratch.dk.fill(T::zero());\n",
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
        "no LayerNorm after the last block",
        "src/model/encoders/vision_transformer.rs",
        "Some(norm) => norm.forward(&states),\n",
        "Some(norm) => norm.forward(&states).map(|_| states),\n",
    ),
    (
        "CLIP normalised after its last block",
        "src/model/encoders/vision_transformer.rs",
        "            None => Ok(states),\n",
        "            None => self.norm_before.as_ref().map_or(Ok(states.clone()), |norm| norm.forward(&states)),\n",
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
        "output.norm.forward(&(x + self.attention.drop(made, offset, pass)?)?)",
        "x + output.norm.forward(&self.attention.drop(made, offset, pass)?)?",
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
        "self.position_embedding.narrow(0, cache.length(), 1)?",
        "self.position_embedding.narrow(0, (cache.length() + 1).min(self.position_embedding.dim(0)? - 1), 1)?",
    ),
    (
        "an untied BERT takes the bias that does not count",
        "src/model/decoders/bert.rs",
        "(after.weight(HEAD, &[vocabulary, hidden], normal)?, bias(HEAD_BIAS)?)",
        "(after.weight(HEAD, &[vocabulary, hidden], normal)?, bias(BIAS)?)",
    ),
    (
        "captions do not see the class token",
        "src/model/encoders/vision_transformer.rs",
        "Some(norm) => norm.forward(&states),",
        "Some(norm) => norm.forward(&states.narrow(1, self.tokens.len(), states.dim(1)? - self.tokens.len())?),",
    ),
    (
        "padding is a target",
        "src/data/collate.rs",
        "all_targets.extend_from_slice(targets);",
        "all_targets.extend_from_slice(targets); if let Some(pad_id) = pad_id { "
        "rows.extend(first + targets.len() as u32..first + (longest - prompt_length) as u32); "
        "all_targets.extend(std::iter::repeat_n(pad_id, longest - following.len())); }",
    ),
    (
        "an end token that is the padding token is not a target",
        "src/data/collate.rs",
        "rows.extend((first..).take(targets.len()));\n        all_targets.extend_from_slice(targets);",
        "for (at, &id) in targets.iter().enumerate().filter(|(_, id)| Some(**id) != pad_id) "
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
    ("LayerNorms decay", "src/training/optimizer.rs", "Kind::Embedding | Kind::Adapter)", "Kind::Embedding | Kind::Adapter | Kind::Norm)"),
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
    ("the cache knows no pixels", "src/run/image_cache.rs", "Ok(hasher.finish_bytes())", "Ok([image as u8; 32])"),
    ("clipping never scales", "crates/ops/src/update.rs", "(max_norm / (norm + 1e-6)).min(1.0)", "(max_norm / (norm + 1e-6)).max(1.0)"),
    ("smoothing leaves the target out", "crates/ops/src/cpu/cross_entropy.rs", "smoothing / rows.vocabulary as f64", "smoothing / (rows.vocabulary - 1) as f64"),
    (
        "a prompt is a target",
        "src/data/collate.rs",
        "let targets = following.get(prompt_length..).unwrap_or_default();",
        "let (targets, prompt_length) = (following, 0 * prompt_length);",
    ),
    (
        "weights are left out of the count",
        "src/data/batch.rs",
        "self.weights.as_ref().map_or(self.targets.len() as f64, |weights| weights.iter().sum())",
        "self.targets.len() as f64",
    ),
    ("a weight changes the loss alone", "crates/ops/src/cpu/cross_entropy.rs", "let scale = scale * rows.weight(index);", "let scale = scale + 0.0 * rows.weight(index);"),
    ("a prompt is not fed to the cache", "src/decoding/decode.rs", "for place in 0..prompt_length {", "for place in 0..prompt_length.min(1) {"),
    ("repeated n-grams are sought without the prompt", "src/decoding/constraints.rs", "let so_far = [&self.prefix, tokens].concat();", "let so_far = [&self.prefix[..1], tokens].concat();"),
    ("a caption after a prompt has no space before it", "src/tokenizer/mod.rs", 'self.encode(&format!(" {caption}"))', "self.encode(caption)"),
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
        "src/model/encoders/blip.rs",
        '["attention.attention.query.", "attention.attention.key.", "attention.attention.value."]',
        '["attention.attention.key.", "attention.attention.query.", "attention.attention.value."]',
    ),
    (
        "an adapter of three layers in one is exported with the rows of the first",
        "src/hf/adapter.rs",
        "for (module, up) in modules.iter().zip(parts) {",
        "for (module, up) in modules.iter().zip(vec![parts[0].clone(); modules.len()]) {",
    ),
    (
        "max_length does not count the prompt",
        "src/decoding/constraints.rs",
        "if with_prompt.most {",
        "if with_prompt.most && prompt_length == 0 {",
    ),
    (
        "an export leaves no room for the prompt of its run",
        "src/run/captioning_model.rs",
        "num_positions.saturating_sub(self.prompt(None)?.tokens.len()).max(1)",
        "num_positions.saturating_sub(self.prompt(None)?.tokens.len()).max(num_positions)",
    ),
    (
        "strides of a pickled tensor ignored",
        "crates/torch-pickle/src/view.rs",
        "if self.is_contiguous() {",
        "if self.is_contiguous() || span.len() as u64 == self.num_values() {",
    ),
    (
        "offset of a pickled tensor dropped",
        "crates/torch-pickle/src/view.rs",
        "(self.offset, self.reach().unwrap_or(u64::MAX))",
        "(0, self.reach().unwrap_or(u64::MAX))",
    ),
    (
        "any class of torch is taken for a storage",
        "crates/torch-pickle/src/machine.rs",
        '("torch", name) => Element::of_storage(name).map(Self::Storage),',
        '(_, name) => Some(Self::Storage(Element::of_storage(name).unwrap_or(Element::F32))),',
    ),
    ("revision of a model ignored", "crates/hub/src/model/mod.rs", "id.revision().unwrap_or(MAIN)", "MAIN"),
    (
        "an adapter is not scaled by its rank",
        "src/model/lora.rs",
        "self.alpha / if self.use_rslora { rank.sqrt() } else { rank }",
        "self.alpha / if self.use_rslora { rank.sqrt() } else { 1.0 }",
    ),
    (
        "an adapter of GPT-2 is merged without its transpose",
        "src/model/lora.rs",
        "WeightLayout::InOut => weight + product.t()?,",
        "WeightLayout::InOut => weight + product.reshape(weight.shape())?,",
    ),
    (
        "the dropout of an adapter reaches the product with the weight",
        "crates/ops/src/low_rank.rs",
        "let mut sum = (kernels.linear)(&self.options, sizes.base, x, weight, bias)?;",
        "let all = self.dropout.map(|site| (kernels.dropout)(&site, x, sizes.examples)).transpose()?; let whole = Layout::contiguous(x.1.shape()); let mut sum = (kernels.linear)(&self.options, sizes.base, all.as_ref().map_or(x, |all| (all, &whole)), weight, bias)?;",
    ),
    (
        "A of an adapter begins with zeros and B with random values",
        "src/model/lora.rs",
        "[spec(DOWN, [self.rank, inputs], uniform), spec(UP, [outputs, self.rank], Initializer::Zeros)]",
        "[spec(DOWN, [self.rank, inputs], Initializer::Zeros), spec(UP, [outputs, self.rank], uniform)]",
    ),
    (
        "an adapter's gradient lacks its scaling",
        "crates/ops/src/low_rank.rs",
        "let thin_gradient = (thin_gradient * self.scaling)?;",
        "let thin_gradient = (thin_gradient * 1.0)?;",
    ),
    ("pieces begin where their micro-batch does", "src/data/pieces.rs", "first_example: before + range.start as u64", "first_example: before"),
    ("every process takes the first parts", "src/data/pieces.rs", "self.rank * num_parts / self.size..(self.rank + 1) * num_parts / self.size", "0..num_parts / self.size"),
    ("gradients are added in the order of their arrival", "src/training/tree_sum.rs", "(other.level, other.place) == (node.level, node.place ^ 1)", "other.level == node.level"),
    ("the divisor is that of one process", "src/training/train_step.rs", "collective.sum(&mut totals)?;", ""),
    ("the validation loss is that of one process", "src/training/trainer.rs", "self.collective.sum(&mut of_batches)?;", ""),
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
