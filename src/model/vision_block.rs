//! The pre-LayerNorm transformer block that ViT and CLIP share, the patch embedding, and two small layers.

use anyhow::Result;
use candle_core::{D, Tensor};

use crate::model::initialization::Initializer;
use crate::model::parameters::{Declaration, ParameterView};
use ops::{self, AttentionOptions, Gelu, LinearOptions, Precision, Weight, WeightLayout};

/// A dense layer with the weight `[out, in]` of `torch.nn.Linear`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    precision: Precision,
}

impl Linear {
    /// Declares `weight` and `bias`.
    pub fn declare(
        declaration: &mut Declaration<'_>,
        input: usize,
        output: usize,
        weight: Initializer,
        bias: Option<Initializer>,
    ) {
        declaration.add("weight", &[output, input], weight);
        if let Some(bias) = bias {
            declaration.add("bias", &[output], bias);
        }
    }

    /// Builds the layer; `with_bias` as it was declared.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(view: &ParameterView<'_>, with_bias: bool) -> Result<Self> {
        let bias = if with_bias { Some(view.get("bias")?) } else { None };
        Ok(Self { weight: view.weight("weight")?, bias, precision: view.precision() })
    }

    /// (.., in) to (.., out).
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_activated(x, None)
    }

    /// [`Self::forward`] of the activation of the input.
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward_activated(&self, x: &Tensor, activation: Option<Gelu>) -> candle_core::Result<Tensor> {
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation };
        ops::linear(x, &self.weight, self.bias.as_ref(), &options)
    }
}

/// LayerNorm over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Declares `weight` (1) and `bias` (0).
    pub fn declare(declaration: &mut Declaration<'_>, size: usize) {
        declaration.add("weight", &[size], Initializer::Ones);
        declaration.add("bias", &[size], Initializer::Zeros);
    }

    /// Builds the layer.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(view: &ParameterView<'_>, eps: f64) -> Result<Self> {
        Ok(Self { weight: view.get("weight")?, bias: view.get("bias")?, eps })
    }

    /// (.., D) to (.., D).
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// Gets states that a model hands from one part to the next, and gives what the next part takes: the states themselves
/// (`&mut Ok`), or an equal tensor that begins a graph of its own.
pub type Cut<'a> = &'a mut dyn FnMut(Tensor) -> candle_core::Result<Tensor>;

/// The names of a block's parts in the files of one family.
pub struct BlockNames {
    /// LayerNorm before the attention.
    pub norm_before: &'static str,
    /// Query, key, value and output projections.
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
    /// Attention heads.
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
}

/// One block: attention and MLP, each behind a LayerNorm and added to its input.
#[derive(Clone, Debug)]
pub struct VisionBlock {
    norm_before: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm_after: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    activation: Gelu,
    num_heads: usize,
    precision: Precision,
}

impl VisionBlock {
    /// Declares the parameters.
    pub fn declare(shape: &BlockShape, names: &BlockNames, declaration: &mut Declaration<'_>) {
        let hidden = shape.hidden_size;
        let [qkv, output, mlp_in, mlp_out] = shape.initializers;
        LayerNorm::declare(&mut declaration.under(names.norm_before), hidden);
        for name in &names.attention[..3] {
            let bias = shape.qkv_bias.then_some(Initializer::Zeros);
            Linear::declare(&mut declaration.under(name), hidden, hidden, qkv, bias);
        }
        let zeros = Some(Initializer::Zeros);
        Linear::declare(&mut declaration.under(names.attention[3]), hidden, hidden, output, zeros);
        LayerNorm::declare(&mut declaration.under(names.norm_after), hidden);
        Linear::declare(&mut declaration.under(names.mlp[0]), hidden, shape.intermediate_size, mlp_in, zeros);
        Linear::declare(&mut declaration.under(names.mlp[1]), shape.intermediate_size, hidden, mlp_out, zeros);
    }

    /// Builds the block.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(shape: &BlockShape, names: &BlockNames, view: &ParameterView<'_>) -> Result<Self> {
        let [query, key, value, output] = names.attention;
        Ok(Self {
            norm_before: LayerNorm::build(&view.under(names.norm_before), shape.layer_norm_eps)?,
            query: Linear::build(&view.under(query), shape.qkv_bias)?,
            key: Linear::build(&view.under(key), shape.qkv_bias)?,
            value: Linear::build(&view.under(value), shape.qkv_bias)?,
            output: Linear::build(&view.under(output), true)?,
            norm_after: LayerNorm::build(&view.under(names.norm_after), shape.layer_norm_eps)?,
            mlp_in: Linear::build(&view.under(names.mlp[0]), true)?,
            mlp_out: Linear::build(&view.under(names.mlp[1]), true)?,
            activation: shape.activation,
            num_heads: shape.num_attention_heads,
            precision: view.precision(),
        })
    }

    /// (B, N, D) to (B, N, D).
    ///
    /// # Errors
    /// An input of another width.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let options =
            AttentionOptions { num_heads: self.num_heads, causal: false, dropout: None, precision: self.precision };
        let normed = self.norm_before.forward(x)?;
        let (query, key, value) =
            (self.query.forward(&normed)?, self.key.forward(&normed)?, self.value.forward(&normed)?);
        let attended = ops::attention(&query, &key, &value, &options)?; // (B, N, D)
        let x = (x + self.output.forward(&attended)?)?;
        let inner = self.mlp_in.forward(&self.norm_after.forward(&x)?)?;
        &x + self.mlp_out.forward_activated(&inner, Some(self.activation))?
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
    /// Declares the weight `[D, 3, P, P]` and, if wanted, the bias `[D]`.
    pub fn declare(
        declaration: &mut Declaration<'_>,
        hidden_size: usize,
        patch_size: usize,
        weight: Initializer,
        with_bias: bool,
    ) {
        declaration.add("weight", &[hidden_size, 3, patch_size, patch_size], weight);
        if with_bias {
            declaration.add("bias", &[hidden_size], Initializer::Zeros);
        }
    }

    /// Builds the layer; `with_bias` as it was declared.
    ///
    /// # Errors
    /// A parameter that was not declared.
    pub fn build(view: &ParameterView<'_>, patch_size: usize, with_bias: bool) -> Result<Self> {
        let bias = if with_bias { Some(view.get("bias")?) } else { None };
        Ok(Self { weight: view.weight("weight")?, bias, patch_size, precision: view.precision() })
    }

    /// (B, 3, H, W) to (B, patches, D), row by row.
    ///
    /// # Errors
    /// An image that is no whole number of patches.
    pub fn forward(&self, pixel_values: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, channels, height, width) = pixel_values.dims4()?;
        let (size, rows, columns) = (self.patch_size, height / self.patch_size, width / self.patch_size);
        if rows * size != height || columns * size != width {
            candle_core::bail!("an image of {width} x {height} pixels is no whole number of {size}-pixel patches");
        }
        let patches = pixel_values
            .reshape(&[batch, channels, rows, size, columns, size][..])?
            .permute([0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((batch, rows * columns, channels * size * size))?; // (B, patches, 3 P P)
        let weight = self.weight.flattened()?; // (D, 3 P P)
        let options = LinearOptions { layout: WeightLayout::OutIn, precision: self.precision, activation: None };
        ops::linear(&patches, &weight, self.bias.as_ref(), &options)
    }
}

/// Puts the class token before the patches and adds the positions: (B, patches, D) to (B, patches + 1, D).
///
/// # Errors
/// A table of another length.
pub fn add_class_and_positions(patches: &Tensor, class: &Tensor, positions: &Tensor) -> candle_core::Result<Tensor> {
    let (batch, _, hidden) = patches.dims3()?;
    let class = class.reshape((1, 1, hidden))?.broadcast_as((batch, 1, hidden))?;
    let states = Tensor::cat(&[&class, patches], D::Minus2)?; // (B, N, D)
    states.broadcast_add(&positions.reshape((1, (), hidden))?)
}
