//! The pre-LayerNorm transformer block that the families share, and the patch embedding.

use anyhow::{Result, bail};
use candle_core::Tensor;
use serde_json::Value;

use crate::model::builder::Builder;
use crate::model::hf_fields::whole_number;
use crate::model::initialization::Initializer;
use crate::model::layers::{LayerNorm, Linear};
use crate::model::role::Kind;
use ops::{AttentionOptions, Gelu, LinearOptions, Precision, Weight, WeightLayout};

/// The names of a block's parts in the files of one family.
pub struct BlockNames {
    /// LayerNorm before the attention.
    pub norm_before: &'static str,
    /// Query, key, value and output projections. The first three of one name are one layer, whose rows are query, key
    /// and value.
    pub attention: [&'static str; 4],
    /// LayerNorm before the MLP.
    pub norm_after: &'static str,
    /// The two dense layers of the MLP.
    pub mlp: [&'static str; 2],
}

/// Sizes and first values of a block.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Width.
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    /// Inner width of the MLP.
    pub intermediate_size: usize,
    /// Activation of the MLP.
    pub activation: Gelu,
    /// Added to the variance.
    pub layer_norm_eps: f64,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// First values of query, key, value; of the output; of the two dense layers of the MLP.
    pub initializers: [Initializer; 4],
    /// First values of the biases of the MLP.
    pub mlp_bias: Initializer,
    /// First value of the layer scale, in a family that has one: a factor per feature of what attention and MLP add.
    pub layer_scale: Option<f64>,
}

/// The projections into the attention.
#[derive(Clone, Debug)]
enum Qkv {
    Fused(Linear),
    Separate(Box<[Linear; 3]>),
}

/// What the layer scales are called, after the attention and after the MLP.
const LAYER_SCALES: [&str; 2] = ["layer_scale1.lambda1", "layer_scale2.lambda1"];

/// One block: attention and MLP, each after a LayerNorm and added to its input.
#[derive(Clone, Debug)]
pub struct VisionBlock {
    norm_before: LayerNorm,
    qkv: Qkv,
    output: Linear,
    norm_after: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    /// (D) each.
    scales: Option<[Tensor; 2]>,
    activation: Gelu,
    num_heads: usize,
    precision: Precision,
}

impl VisionBlock {
    /// A block whose parameters are called `names`.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    pub fn new(shape: &BlockShape, names: &BlockNames, builder: &Builder<'_>) -> Result<Self> {
        let (hidden, inner) = (shape.hidden_size, shape.intermediate_size);
        let [of_qkv, of_output, of_mlp_in, of_mlp_out] = shape.initializers;
        let mlp_bias = Some(shape.mlp_bias);
        let (zeros, qkv_bias) = (Some(Initializer::Zeros), shape.qkv_bias.then_some(Initializer::Zeros));
        let norm = |name: &str| LayerNorm::new(&builder.under(name), hidden, shape.layer_norm_eps);
        let qkv = |name: &str, output| Linear::new(&builder.under(name), hidden, output, of_qkv, qkv_bias);
        let [query, key, value, output] = names.attention;
        let scale = |name: &str, value: f64| builder.tensor(name, &[hidden], Initializer::Constant(value), Kind::Norm);
        let scales =
            |value: f64| Ok::<_, anyhow::Error>([scale(LAYER_SCALES[0], value)?, scale(LAYER_SCALES[1], value)?]);
        Ok(Self {
            norm_before: norm(names.norm_before)?,
            qkv: if query == key && key == value {
                Qkv::Fused(qkv(query, 3 * hidden)?)
            } else {
                Qkv::Separate(Box::new([qkv(query, hidden)?, qkv(key, hidden)?, qkv(value, hidden)?]))
            },
            output: Linear::new(&builder.under(output), hidden, hidden, of_output, zeros)?,
            norm_after: norm(names.norm_after)?,
            mlp_in: Linear::new(&builder.under(names.mlp[0]), hidden, inner, of_mlp_in, mlp_bias)?,
            mlp_out: Linear::new(&builder.under(names.mlp[1]), inner, hidden, of_mlp_out, mlp_bias)?,
            scales: shape.layer_scale.map(scales).transpose()?,
            activation: shape.activation,
            num_heads: shape.num_attention_heads,
            precision: builder.precision(),
        })
    }

    /// (B, N, D) to (B, N, D).
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let options = AttentionOptions {
            num_heads: self.num_heads,
            causal: false,
            dropout: None,
            precision: self.precision,
            packing: None,
        };
        let normed = self.norm_before.forward(x)?;
        let attended = match &self.qkv {
            Qkv::Fused(qkv) => ops::self_attention(&qkv.forward(&normed)?, &options)?,
            Qkv::Separate(separate) => {
                let [query, key, value] = &**separate;
                ops::attention(&query.forward(&normed)?, &key.forward(&normed)?, &value.forward(&normed)?, &options)?
            }
        }; // (B, N, D)
        let x = (x + self.scaled(0, self.output.forward(&attended)?)?)?;
        let inner = self.mlp_in.forward(&self.norm_after.forward(&x)?)?;
        &x + self.scaled(1, self.mlp_out.forward_activated(&inner, Some(self.activation))?)?
    }

    /// (B, N, D) times the layer scale `index`, where there is one.
    fn scaled(&self, index: usize, states: Tensor) -> candle_core::Result<Tensor> {
        match &self.scales {
            Some(scales) => states.broadcast_mul(&scales[index]),
            None => Ok(states),
        }
    }
}

/// Patches of an image as rows times a weight: a convolution whose stride is its kernel.
#[derive(Clone, Debug)]
pub struct PatchEmbedding {
    weight: Weight,
    bias: Option<Tensor>,
    patch_size: usize,
    precision: Precision,
}

impl PatchEmbedding {
    /// A layer with the weight `[D, 3, P, P]` and, if wanted, the bias `[D]`.
    ///
    /// # Errors
    /// As [`Builder::tensor`].
    pub fn new(
        builder: &Builder<'_>,
        hidden_size: usize,
        patch_size: usize,
        weight: Initializer,
        with_bias: bool,
    ) -> Result<Self> {
        let weight = builder.weight("weight", &[hidden_size, 3, patch_size, patch_size], weight)?;
        let bias = with_bias.then(|| builder.bias("bias", hidden_size, Initializer::Zeros)).transpose()?;
        Ok(Self { weight, bias, patch_size, precision: builder.precision() })
    }

    /// (B, 3, H, W) to (B, patches, D), row by row. Pixels at the right and at the bottom that fill no patch are cut
    /// off.
    ///
    /// # Errors
    /// An image that is smaller than a patch.
    pub fn forward(&self, pixel_values: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, channels, height, width) = pixel_values.dims4()?;
        let (size, rows, columns) = (self.patch_size, height / self.patch_size, width / self.patch_size);
        if rows == 0 || columns == 0 {
            candle_core::bail!("an image of {width} x {height} pixels is smaller than the {size}-pixel patch");
        }
        let patches = pixel_values
            .narrow(2, 0, rows * size)?
            .narrow(3, 0, columns * size)?
            .reshape(&[batch, channels, rows, size, columns, size][..])?
            .permute([0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((batch, rows * columns, channels * size * size))?; // (B, patches, 3 P P)
        let weight = self.weight.flattened()?; // (D, 3 P P)
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation: None };
        ops::linear(&patches, &weight, self.bias.as_ref(), &options)
    }
}

/// Checks that a `config.json` describes an encoder of pictures in colour.
///
/// # Errors
/// Another number of channels.
pub fn check_channels(config: &Value) -> Result<()> {
    let channels = whole_number(config, "num_channels", 3)?;
    if channels != 3 {
        bail!("num_channels is {channels}; only pictures with 3 channels can be captioned");
    }
    Ok(())
}
