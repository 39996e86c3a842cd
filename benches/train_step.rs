//! Our side of `benches/peers/torch_step.py`: one training step of the same model on random data, timed. Prints one
//! line of JSON. `benches/compare.py` runs both sides in turn.

#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use base::random::Stream;
use base::sorted_map::SortedMap;
use base::worker_pools::WorkerPools;
use base::{memory, process};
use candle_core::{DType, Device, Tensor};
use caption_train::commands::device::select_device;
use caption_train::config::{
    EncoderTraining, FeatureType, LoraConfig, OptimizerConfig, ScstConfig, TokenizerConfig, WithPrompt,
};
use caption_train::data::batch::{Batch, Example};
use caption_train::data::collate::Framed;
use caption_train::data::feature_store::{Description, FeatureStore};
use caption_train::data::image_source::{
    ImageInput, ImageSource, ImageView, Purpose, StoredContent, StoredImages, Views, feature_bytes,
};
use caption_train::data::loader::Loader;
use caption_train::data::pieces::Piece;
use caption_train::decoding::{Constraints, DecodedCaption};
use caption_train::model::captioner::CaptionerShape;
use caption_train::model::decoders::DecoderConfig;
use caption_train::model::decoders::bert::BertConfig;
use caption_train::model::decoders::gpt2::Gpt2Config;
use caption_train::model::encoders::EncoderConfig;
use caption_train::model::layers::HiddenActivation;
use caption_train::model::parameters::Parameters;
use caption_train::model::role::{AdaptedParts, Trained};
use caption_train::tokenizer::{CaptionTokenizer, SpecialIds};
use caption_train::training::collective::Alone;
use caption_train::training::loss::{Loss, TokenCrossEntropy};
use caption_train::training::optimizer::Optimizer;
use caption_train::training::rewards::{CiderRewards, Reward};
use caption_train::training::self_critical::SelfCritical;
use caption_train::training::train_step::{StepSettings, train_step};
use clap::Parser;
use metrics::cider_reward::Judged;
use ops::profile::{self, Part, Profile};
use ops::{LinearOptions, Precision, Weight, WeightLayout, linear};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The arguments of the other side.
#[derive(Parser)]
struct Args {
    /// cargo gives this to every bench.
    #[arg(long)]
    bench: bool,
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[arg(long, default_value_t = 32)]
    seq: usize,
    /// Captions as long as those of Flickr8k instead of --seq tokens: see `caption_lengths.json`.
    #[arg(long)]
    real_lengths: bool,
    #[arg(long, default_value_t = 10_000)]
    vocab: usize,
    /// Width, heads, layers and inner width of the decoder.
    #[arg(long, default_value_t = 512)]
    dim: usize,
    #[arg(long, default_value_t = 8)]
    heads: usize,
    #[arg(long, default_value_t = 6)]
    layers: usize,
    #[arg(long, default_value_t = 2048)]
    ff: usize,
    /// frozen, train, cached (features in memory) or stored (features read from the disk, as a run does it).
    #[arg(long, default_value = "frozen")]
    encoder: String,
    /// base, small or tiny.
    #[arg(long, default_value = "base")]
    vit: String,
    /// vit: a ViT with a GPT-2, in the sizes given. blip: BLIP base on 384 pixels; of the sizes only --seq counts.
    #[arg(long, default_value = "vit")]
    model: String,
    #[arg(long, default_value_t = 5)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    #[arg(long, default_value_t = 0.1)]
    dropout: f64,
    /// f32, bf16 or, on a GPU, tf32.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// cpu or cuda:N, in a build with CUDA.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Say where the time goes, and at what rate products are made beside large ones alone.
    #[arg(long)]
    profile: bool,
    /// Compute the blocks again in the backward pass.
    #[arg(long)]
    recompute: bool,
    /// Captions that share an image.
    #[arg(long, default_value_t = 1)]
    captions_per_image: usize,
    /// Self-critical training: captions that are sampled of each of --batch images and rewarded. They end after as many
    /// tokens as those of Flickr8k do, at random.
    #[arg(long)]
    samples: Option<usize>,
    /// Rank of an adapter in the queries and values of encoder and decoder, which is then all that is trained.
    #[arg(long)]
    lora: Option<usize>,
}

fn blip_base(args: &Args) -> Result<CaptionerShape> {
    let config = json!({
        "model_type": "blip",
        "vision_config": {},
        "text_config": { "num_attention_heads": 12, "hidden_dropout_prob": args.dropout },
    });
    let encoder = EncoderConfig::from_hf(&config)?;
    Ok(CaptionerShape { encoder, decoder: DecoderConfig::Bert(BertConfig::from_blip(&config)?) })
}

fn shape(args: &Args) -> Result<CaptionerShape> {
    match args.model.as_str() {
        "vit" => {}
        "blip" => return blip_base(args),
        other => bail!("unknown model {other}"),
    }
    let (hidden_size, num_attention_heads, intermediate_size) = match args.vit.as_str() {
        "base" => (768, 12, 3072),
        "small" => (384, 6, 1536),
        "tiny" => (192, 3, 768),
        other => bail!("unknown ViT {other}"),
    };
    let encoder = serde_json::from_value(json!({
        "kind": "vit",
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": hidden_size,
        "num_hidden_layers": 12,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": intermediate_size,
    }))?;
    let decoder = DecoderConfig::Gpt2(Gpt2Config {
        vocab_size: args.vocab,
        hidden_size: args.dim,
        num_layers: args.layers,
        num_heads: args.heads,
        intermediate_size: args.ff,
        num_positions: args.seq,
        hidden_act: HiddenActivation::GeluNew,
        dropout: args.dropout,
        layer_norm_eps: 1e-5,
        initializer_range: 0.02,
        tie_word_embeddings: false,
    });
    Ok(CaptionerShape { encoder, decoder })
}

fn random(name: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
    let mut stream = Stream::new(0, "bench", name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

/// How many positions the decoder reads of each of `count` captions. The file has those of 320 captions of Flickr8k, drawn
/// from the training images, with a byte-level BPE of 4,096 tokens: 13.3 on the mean, 44 at most of all 30,000.
fn lengths(args: &Args, count: usize) -> Result<Vec<usize>> {
    if !args.real_lengths {
        return Ok(vec![args.seq; count]);
    }
    let real: Vec<usize> = serde_json::from_str(include_str!("caption_lengths.json"))?;
    let lengths: Vec<usize> = real.into_iter().cycle().take(count).collect();
    if lengths.iter().any(|&length| length > args.seq) {
        bail!("a caption is longer than --seq {}", args.seq);
    }
    Ok(lengths)
}

/// Parts of one batch, one for each pool.
fn batches(args: &Args, shape: &CaptionerShape, parts: usize, device: &Device) -> Result<Vec<Batch>> {
    let mut stream = Stream::new(1, "bench", "captions");
    let vocabulary = shape.decoder.vocab_size();
    let each = args.captions_per_image;
    let num_images = args.batch / each;
    if !args.batch.is_multiple_of(each) || num_images < parts {
        bail!("{} captions cannot be divided among {parts} threads by {each} for each image", args.batch);
    }
    let encoder = &shape.encoder;
    let bounds: Vec<usize> = (0..=parts).map(|part| part * num_images / parts).collect();
    let lengths = lengths(args, args.batch)?;
    let part = |bounds: &[usize]| {
        let images = bounds[1] - bounds[0];
        let mut caption =
            |&length: &usize| -> Vec<u32> { (0..=length).map(|_| 4 + stream.below(vocabulary - 4) as u32).collect() };
        let captions: Vec<Vec<u32>> = lengths[bounds[0] * each..bounds[1] * each].iter().map(&mut caption).collect();
        let captions: Vec<&[u32]> = captions.iter().map(Vec::as_slice).collect();
        let input = match args.encoder.as_str() {
            "cached" => ImageInput::Features(random(
                "features",
                &[images, encoder.sequence_length(), encoder.hidden_size()],
                device,
            )?),
            _ => {
                ImageInput::Pixels(random("pixels", &[images, 3, encoder.image_size(), encoder.image_size()], device)?)
            }
        };
        let rows: Vec<u32> = (0..(images * each) as u32).map(|pair| pair / each as u32).collect();
        let image_indices = rows.iter().map(|&row| row as usize).collect();
        let captions: Vec<Framed<'_>> = captions.into_iter().map(Framed::from).collect();
        Ok(Batch::of_framed(input, (each > 1).then_some(rows), image_indices, &captions, 0, device)?)
    };
    bounds.windows(2).map(part).collect()
}

/// Training images of Flickr8k, whose references weigh the words of a reward.
const REWARDED_IMAGES: usize = 6000;
/// References of each.
const REFERENCES: usize = 5;
/// Different words in them.
const WORDS: usize = 9000;

/// A reward that measures the time it takes.
#[derive(Debug)]
struct Timed {
    rewards: CiderRewards,
    nanoseconds: AtomicU64,
}

impl Reward for Timed {
    fn judge(&self, image: usize, caption: &DecodedCaption) -> Result<Judged> {
        let started = Instant::now();
        let judged = self.rewards.judge(image, caption);
        self.nanoseconds.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        judged
    }
}

/// References of drawn words, as long as captions are, and the tokenizer that they give.
fn rewards(args: &Args) -> Result<(Timed, SpecialIds)> {
    let mut stream = Stream::new(2, "bench", "words");
    let mut word =
        || -> String { (0..3 + stream.below(7)).map(|_| char::from(b'a' + stream.below(26) as u8)).collect() };
    let words: Vec<String> = (0..WORDS).map(|_| word()).collect();
    let mut stream = Stream::new(3, "bench", "references");
    let mut caption = || {
        let drawn: Vec<&str> = (0..7 + stream.below(9)).map(|_| words[stream.below(WORDS)].as_str()).collect();
        drawn.join(" ")
    };
    let references: Vec<Vec<String>> =
        (0..REWARDED_IMAGES).map(|_| (0..REFERENCES).map(|_| caption()).collect()).collect();
    let config = TokenizerConfig { vocab_size: args.vocab, ..TokenizerConfig::default() };
    let tokenizer = CaptionTokenizer::train(references.iter().flatten().map(String::as_str), &config)?;
    if tokenizer.vocab_size() != args.vocab {
        bail!("the drawn words give {} tokens", tokenizer.vocab_size());
    }
    let special_ids = tokenizer.special_ids();
    let images: Vec<usize> = (0..REWARDED_IMAGES).collect();
    let rewards = CiderRewards::new(&images, &references, tokenizer);
    Ok((Timed { rewards, nanoseconds: AtomicU64::new(0) }, special_ids))
}

fn self_critical(args: &Args, samples: usize, reward: Arc<Timed>, special_ids: &SpecialIds) -> SelfCritical {
    let &SpecialIds { pad, start, end, .. } = special_ids;
    SelfCritical {
        config: ScstConfig { samples, ..ScstConfig::default() },
        reward,
        constraints: Constraints {
            start,
            end,
            min_new_tokens: 0,
            max_new_tokens: args.seq,
            with_prompt: WithPrompt::default(),
            no_repeat_ngram_size: 0,
        },
        prompt: Vec::new(),
        references: HashMap::new(),
        pad_id: pad,
        seed: 0,
        is_encoder_frozen: true,
    }
}

/// Has the end token follow as it does in captions of real lengths: two of the decoder's numbers say nothing but the
/// position, and only the end looks at them.
fn end_as_captions_do(args: &Args, parameters: &Parameters, end: u32) -> Result<()> {
    /// Logits of the end are within this range.
    const RANGE: f64 = 25.0;
    /// Makes the two numbers all that a LayerNorm sees.
    const LARGE: f64 = 100.0;
    let lengths: Vec<usize> = serde_json::from_str(include_str!("caption_lengths.json"))?;
    let get = |name: &str| parameters.get(name).with_context(|| format!("there is no {name}"));
    let (positions, head) = (get("decoder.transformer.wpe.weight")?, get("decoder.lm_head.weight")?);
    let width = args.dim;
    let mut values: Vec<f32> = positions.var.flatten_all()?.to_vec1()?;
    for (place, row) in values.chunks_exact_mut(width).enumerate() {
        let count = |wanted: &dyn Fn(usize) -> bool| lengths.iter().filter(|&&length| wanted(length)).count() as f64;
        let (ends, lasting) = (count(&|length| length == place + 1), count(&|length| length > place));
        let share = (ends / lasting.max(1.0)).clamp(1e-6, 1.0 - 1e-6);
        let share = if lasting == 0.0 { 0.5 } else { share };
        let logit = (share / (1.0 - share) * args.vocab as f64).ln().clamp(-0.8 * RANGE, 0.95 * RANGE) / RANGE;
        (row[0], row[1]) = ((LARGE * logit) as f32, (LARGE * (1.0 - logit * logit).sqrt()) as f32);
    }
    positions.var.set(&Tensor::from_vec(values, positions.var.shape(), positions.var.device())?)?;
    let mut values: Vec<f32> = head.var.flatten_all()?.to_vec1()?;
    for (token, row) in values.chunks_exact_mut(width).enumerate() {
        (row[0], row[1]) = (0.0, 0.0);
        if token == end as usize {
            row.fill(0.0);
            row[0] = (RANGE / (width as f64).sqrt()) as f32;
        }
    }
    Ok(head.var.set(&Tensor::from_vec(values, head.var.shape(), head.var.device())?)?)
}

/// Images whose features lie on the disk, of as many as a run has of them for each pair it makes.
const STORED_IMAGES: usize = 512;

/// Updates of pairs whose features are read from a store, ahead of their use, by as many threads as a run has.
fn stored_updates(
    args: &Args,
    shape: &CaptionerShape,
    parts: usize,
    folder: &Path,
    device: &Device,
) -> Result<Loader<Vec<Batch>>> {
    let encoder = &shape.encoder;
    let (length, hidden) = (encoder.sequence_length(), encoder.hidden_size());
    let description = Description { content: json!("bench"), row_bytes: 2 * length * hidden };
    let mut store = FeatureStore::open(folder, &description)?;
    let mut appender = store.append(|_| true)?.context("another process writes")?;
    let mut keys = SortedMap::default();
    let features = random("features", &[length * hidden], &Device::Cpu)?.to_vec1::<f32>()?;
    let row = feature_bytes(&features, FeatureType::F16)?;
    for image in 0..STORED_IMAGES {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&image.to_le_bytes());
        appender.push(&[key], &row)?;
        keys.push(ImageView { image, view: 0 }, key);
    }
    appender.finish()?;
    let content = StoredContent::Features { shape: (length, hidden), number: FeatureType::F16 };
    let source = ImageSource::stored(Arc::new(StoredImages::new(store, &keys, content)), Views::Whole);
    let mut stream = Stream::new(1, "bench", "captions");
    let vocabulary = shape.decoder.vocab_size();
    let lengths = lengths(args, args.batch)?;
    let mut update = || {
        let images: Vec<usize> =
            (0..args.batch.div_ceil(args.captions_per_image)).map(|_| stream.below(STORED_IMAGES)).collect();
        let mut example = |pair: usize| {
            let tokens = (0..=lengths[pair]).map(|_| 4 + stream.below(vocabulary - 4) as u32).collect();
            Example { image: images[pair / args.captions_per_image], tokens, prompt_length: 0, weight: 1.0 }
        };
        (0..args.batch).map(&mut example).collect::<Vec<Example>>()
    };
    let jobs: Vec<Vec<Example>> = (0..args.warmup + args.steps).map(|_| update()).collect();
    let device = device.clone();
    let load = move |examples: Vec<Example>| {
        let load = |images: &[usize]| source.load(images, Purpose::Training { epoch: 1 }, &device);
        Batch::load_parts(&examples, parts, 0, &device, load)
    };
    let workers = rayon::current_num_threads();
    Ok(Loader::start(jobs, workers, workers + 1, Arc::new(load)))
}

/// Prints the shares of all threads' time.
fn report(measured: &Profile, all: f64, precision: Precision) -> Result<()> {
    let mut inside = 0.0;
    for (part, seconds) in &measured.seconds {
        println!("{:<16} {:>5.1} %", part.name(), 100.0 * seconds / all);
        inside += if matches!(part, Part::Gemm | Part::Gelu) { 0.0 } else { *seconds };
    }
    println!("{:<16} {:>5.1} %", "all else", 100.0 * (1.0 - inside / all));
    let products =
        measured.seconds.iter().find(|(part, _)| *part == Part::Gemm).map_or(f64::NAN, |(_, seconds)| *seconds);
    println!(
        "products at {:.0} GFLOP/s for each thread; large ones alone at {:.0}",
        measured.flops / products / 1e9,
        large_products(precision)?
    );
    Ok(())
}

/// GFLOP/s of one thread while all make large products, those of a ViT-B's MLP.
fn large_products(precision: Precision) -> Result<f64> {
    let (rows, outputs, inputs) = (1576, 3072, 768);
    let x = random("rows", &[rows, inputs], &Device::Cpu)?;
    let weight = Weight::new(random("weight", &[outputs, inputs], &Device::Cpu)?);
    let threads = rayon::current_num_threads();
    let pools = WorkerPools::new(threads, 1)?;
    let options = LinearOptions { layout: WeightLayout::OutIn, precision, activation: None };
    let mut rates = Vec::new();
    for _ in 0..7 {
        profile::start();
        for result in pools.each(|_| linear(&x, &weight, None, &options)) {
            result?;
        }
        let measured = profile::stop();
        rates.push(measured.flops / measured.seconds[Part::Gemm as usize].1 / 1e9);
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

fn main() -> Result<()> {
    process::prepare();
    process::keep_freed_memory();
    let args = Args::parse();
    let shape = shape(&args)?;
    let device = select_device(&args.device)?;
    let encoder = if args.encoder == "train" { EncoderTraining::Full } else { EncoderTraining::Frozen };
    let mut specs = shape.parameter_specs()?;
    let (parameters, trained) = match args.lora {
        None => (Parameters::create(&specs, Default::default(), 0, DType::F32, &device)?, Trained::from(encoder)),
        Some(rank) => {
            let in_encoder = encoder == EncoderTraining::Full;
            let lora = LoraConfig { rank, encoder: in_encoder, ..LoraConfig::default() };
            let adapted = AdaptedParts { encoder: in_encoder, decoder: true, has_new_connections: false };
            specs.extend(lora.specs(&specs, |_| true)?);
            let parameters = Parameters::create(&specs, Default::default(), 0, DType::F32, &device)?.adapted_by(&lora);
            (parameters, Trained { encoder: EncoderTraining::Frozen, adapted: Some(adapted) })
        }
    };
    let mut parameters = parameters;
    shape.freeze(&mut parameters, trained);
    let config = OptimizerConfig { learning_rate: 1e-4, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&parameters, &shape, &config)?;
    let precision = match args.precision.as_str() {
        "f32" => Precision::Full,
        "bf16" => Precision::Bf16,
        "tf32" => Precision::Tf32,
        other => bail!("unknown precision {other}"),
    };
    let threads = rayon::current_num_threads();
    let members = if device.is_cpu() { threads.min(args.batch / args.captions_per_image / 4).max(1) } else { 1 };
    let pools = WorkerPools::new(members, 1)?;
    let folder = tempfile::tempdir()?;
    let mut updates: Box<dyn Iterator<Item = Result<Vec<Batch>>>> = if args.encoder == "stored" {
        Box::new(stored_updates(&args, &shape, pools.size(), folder.path(), &device)?)
    } else {
        let batches = batches(&args, &shape, pools.size(), &device)?;
        Box::new(std::iter::repeat_with(move || Ok(batches.clone())))
    };
    let mut reward = None;
    let loss: Box<dyn Loss> = match args.samples {
        None => Box::new(TokenCrossEntropy { label_smoothing: 0.0 }),
        Some(samples) => {
            let (timed, special_ids) = rewards(&args)?;
            end_as_captions_do(&args, &parameters, special_ids.end)?;
            let timed = Arc::clone(reward.insert(Arc::new(timed)));
            Box::new(self_critical(&args, samples, timed, &special_ids))
        }
    };
    let settings = StepSettings {
        loss: &*loss,
        precision,
        seed: 0,
        dropout: args.dropout,
        recompute: args.recompute,
        max_grad_norm: Some(1.0),
        collective: &Alone,
    };
    let (mut seconds, mut waited) = (Vec::new(), Vec::new());
    let (mut loss, mut num_tokens, mut in_flight) = (f64::NAN, f64::NAN, None);
    for step in 0..args.warmup + args.steps {
        if step == args.warmup {
            if args.profile {
                profile::start();
            }
            if let Some(reward) = &reward {
                reward.nanoseconds.store(0, Ordering::Relaxed);
            }
        }
        let started = Instant::now();
        let batches = updates.next().context("the updates ended early")??;
        waited.push(started.elapsed().as_secs_f64());
        let pending = train_step(
            &shape,
            &parameters,
            &mut optimizer,
            &Piece::in_order(batches),
            step as u64,
            1e-4,
            &settings,
            &pools,
        )?;
        // As in a run: a GPU has the next step before the report of the last is read.
        let read = if device.is_cpu() { Some(pending) } else { in_flight.replace(pending) };
        if let Some(read) = read {
            let found = read.read(&mut optimizer)?.loss;
            (loss, num_tokens) = (found.mean(), found.count);
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    if let Some(last) = in_flight {
        loss = last.read(&mut optimizer)?.loss.mean();
    }
    let measured = profile::stop();
    seconds.drain(..args.warmup);
    if args.profile {
        report(&measured, seconds.iter().sum::<f64>() * threads as f64, precision)?;
    }
    let total: f64 = seconds.iter().sum();
    seconds.sort_by(f64::total_cmp);
    let median = *seconds.get(seconds.len() / 2).context("no step was timed")?;
    let peak = memory::peak_resident_bytes().map(|bytes| bytes >> 20);
    println!(
        "{}",
        serde_json::json!({
            "model": args.model, "encoder": args.encoder, "vit": args.vit, "batch": args.batch, "seq": args.seq, "threads": threads,
            "captions_per_image": args.captions_per_image, "precision": args.precision, "step_s": median,
            "lora": args.lora, "trained": parameters.num_trainable_values(), "captions_per_s": args.batch as f64 / median, "loss": loss, "peak_rss_mb": peak,
            "samples": args.samples, "tokens": num_tokens,
            "rewards_share": reward.map(|reward| reward.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9 / (total * threads as f64)),
            "waited_share": waited[args.warmup..].iter().sum::<f64>() / total,
        })
    );
    Ok(())
}
