//! Shaders of the operations between the products.

use super::{ActivationKind, Element, ParameterSpace, Template};

/// Threads of a workgroup, where each has one element.
pub const THREADS: u32 = 64;

/// Numbers that a row of so many takes: rows are padded with zeros.
fn stride(columns: u32) -> u32 {
    columns.next_multiple_of(8)
}

const ATTENTION: &str = include_str!("wgsl/attention.wgsl");
const WIDE_ATTENTION: &str = include_str!("wgsl/wide_attention.wgsl");
const POOL: &str = include_str!("wgsl/pool.wgsl");
const PREFIX: &str = include_str!("wgsl/prefix.wgsl");
const GRID: &str = include_str!("wgsl/grid.wgsl");
const ROWS: &str = include_str!("wgsl/rows.wgsl");

/// Sizes of the attention of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Tokens of an image.
    pub tokens: u32,
    /// Heads.
    pub heads: u32,
    /// Features of a head.
    pub head_dim: u32,
}

impl AttentionShape {
    /// Queries that a workgroup of [`attention`] takes; a workgroup of [`wide_attention`] takes one.
    pub const QUERIES: u32 = 32;
    /// Threads that share the keys of a query.
    const SPLITS: u32 = 4;
    /// Widest heads for [`attention`]: query and sums of a thread stay in registers, or near them.
    pub const MAX_NARROW: u32 = 128;

    /// Whether there is a shader for it with numbers stored in half precision.
    pub fn has_half(&self) -> bool {
        self.head_dim.is_multiple_of(4) && !self.is_wide()
    }

    /// Whether [`wide_attention`] has to do it.
    pub fn is_wide(&self) -> bool {
        self.head_dim > Self::MAX_NARROW
    }

    /// Keys of a tile: as many as fit in 16 KiB together with their values, in fours.
    fn keys(&self) -> u32 {
        const WORKGROUP_BYTES: u32 = 16 << 10;
        let bytes = 2 * self.head_dim.next_multiple_of(4) * size_of::<f32>() as u32;
        (WORKGROUP_BYTES / bytes / 4 * 4).clamp(4, 64)
    }
}

/// Attention with some threads per query, queries, keys, values and outputs stored in half precision or not.
pub fn attention(space: ParameterSpace, shape: &AttentionShape, half: bool) -> String {
    let quarters = shape.head_dim.div_ceil(4);
    let threads = AttentionShape::SPLITS * AttentionShape::QUERIES;
    let at_least = |length: u32| format!("{}u", length.max(shape.keys() * quarters));
    Template::new(space, &[ATTENTION])
        .define("QUERIES", AttentionShape::QUERIES)
        .define("SPLITS", AttentionShape::SPLITS)
        .define("KEYS_LENGTH", at_least(AttentionShape::SPLITS * threads))
        .define("VALUES_LENGTH", at_least(threads))
        .define("KEYS", shape.keys())
        .define("TOKENS", shape.tokens)
        .define("HEADS", shape.heads)
        .define("HEAD_DIM", shape.head_dim)
        .define("QUARTERS", quarters)
        .define("INPUT_STRIDE", stride(3 * shape.heads * shape.head_dim))
        .define("OUTPUT_STRIDE", stride(shape.heads * shape.head_dim))
        .flag("ALIGNED", shape.head_dim.is_multiple_of(4))
        .flag("HALF", half)
        .render()
}

/// Attention with a workgroup per query, in single precision.
pub fn wide_attention(space: ParameterSpace, shape: &AttentionShape) -> String {
    Template::new(space, &[WIDE_ATTENTION])
        .define("THREADS", THREADS)
        .define("TOKENS", shape.tokens)
        .define("HEADS", shape.heads)
        .define("HEAD_DIM", shape.head_dim)
        .define("FEATURES", shape.head_dim.div_ceil(THREADS))
        .define("INPUT_STRIDE", stride(3 * shape.heads * shape.head_dim))
        .define("OUTPUT_STRIDE", stride(shape.heads * shape.head_dim))
        .render()
}

/// Which tokens are pooled, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Features of a token.
    pub width: u32,
    /// Tokens of an image.
    pub tokens: u32,
    /// The first token that is pooled.
    pub first: u32,
    /// Tokens that are pooled.
    pub count: u32,
    /// The mean takes part.
    pub mean: bool,
    /// The maximum takes part; with the mean, half the sum of both is the result.
    pub maximum: bool,
}

/// Tokens to pooled features.
pub fn pool(space: ParameterSpace, shape: &PoolShape) -> String {
    Template::new(space, &[POOL])
        .define("THREADS", THREADS)
        .define("WIDTH", shape.width)
        .define("STRIDE", stride(shape.width))
        .define("TOKENS", shape.tokens)
        .define("FIRST", shape.first)
        .define("COUNT", shape.count)
        .flag("MEAN", shape.mean)
        .flag("MAXIMUM", shape.maximum)
        .render()
}

/// The tokens in front of the patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixShape {
    /// Numbers that a token takes.
    pub stride: u32,
    /// Tokens of an image.
    pub tokens: u32,
    /// Whether positions are added.
    pub positions: bool,
}

/// Tokens before the patches.
pub fn prefix(space: ParameterSpace, shape: &PrefixShape) -> String {
    Template::new(space, &[PREFIX])
        .define("THREADS", THREADS)
        .define("STRIDE", shape.stride)
        .define("TOKENS", shape.tokens)
        .flag("POSITIONS", shape.positions)
        .render()
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowSource {
    /// LayerNorm of rows of numbers.
    Normalized {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Patches of images.
    Patches(PatchShape),
    /// Rows of numbers as they are.
    Stored,
}

/// How images are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchShape {
    /// Channels of an image.
    pub channels: u32,
    /// Height and width of an image.
    pub image: [u32; 2],
    /// Height and width of a patch, which divide those of an image.
    pub patch: [u32; 2],
}

/// What [`rows`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowShape {
    /// Numbers of a row.
    pub columns: u32,
    /// Where they come from.
    pub source: RowSource,
    /// Rows are written where they were read.
    pub in_place: bool,
    /// Rows of the input begin at multiples of four numbers.
    pub aligned: bool,
    /// How numbers of the input lie in memory; in single precision where they are not aligned.
    pub input: Element,
    /// What those of the output are: numbers where they are written in place.
    pub output: ActivationKind,
}

impl RowShape {
    /// Threads of a workgroup: a power of two with about eight numbers for each.
    fn threads(&self) -> u32 {
        self.columns.div_ceil(8).next_power_of_two().clamp(32, 256)
    }
}

/// Rows, normalised, gathered or as they are, as numbers or as codes.
pub fn rows(space: ParameterSpace, shape: &RowShape) -> String {
    let patches = matches!(shape.source, RowSource::Patches(_));
    let scalar = patches || !shape.aligned;
    let quarter = |element| match element {
        Element::F32 => "vec4<f32>",
        Element::F16 => "vec2<u32>",
    };
    let half_input = shape.input == Element::F16;
    let half_output = shape.output == ActivationKind::Floats(Element::F16);
    let (texts, output, first_norm, written): (&[&str], _, _, _) = match shape.output {
        ActivationKind::Floats(_) if shape.in_place => (&[ROWS], "", 1, "QUARTERS".to_owned()),
        ActivationKind::Floats(element) => (&[ROWS], quarter(element), 2, "STRIDE / 4u".to_owned()),
        ActivationKind::Int8 => {
            (&[GRID, ROWS], "", 3, format!("{}u", shape.columns.div_ceil(16) * 4))
        }
    };
    let template = Template::new(space, texts)
        .define("THREADS", shape.threads())
        .define("COLUMNS", shape.columns)
        .define("STRIDE", stride(shape.columns))
        .define("INPUT", if scalar { "f32" } else { quarter(shape.input) })
        .define("OUTPUT", output)
        .define("SCALE", first_norm)
        .define("SHIFT", first_norm + 1)
        .define("WRITTEN", written)
        .flag("SCALAR_INPUT", scalar)
        .flag("INPUT_F16", half_input)
        .flag("OUTPUT_F16", half_output)
        .flag("HALF", half_input || half_output)
        .flag("IN_PLACE", shape.in_place)
        .flag("QUANTIZED", shape.output == ActivationKind::Int8)
        .flag("PATCHES", patches);
    match shape.source {
        RowSource::Normalized { epsilon } => {
            template.flag("NORMALIZED", true).define("EPSILON", format!("{epsilon:?}f"))
        }
        RowSource::Patches(PatchShape { channels, image, patch }) => template
            .define("CHANNELS", channels)
            .define("HEIGHT", image[0])
            .define("WIDTH", image[1])
            .define("PATCH_HEIGHT", patch[0])
            .define("PATCH_WIDTH", patch[1]),
        RowSource::Stored => template,
    }
    .render()
}

/// Every shader of this module, with its name: each part of a template, where there is one to choose.
pub(super) fn all(space: ParameterSpace) -> Vec<(String, String)> {
    let mut shaders = Vec::new();
    for (head_dim, half) in [(64, false), (64, true), (7, false)] {
        let shape = AttentionShape { tokens: 197, heads: 3, head_dim };
        shaders.push((format!("attention {head_dim} {half}"), attention(space, &shape, half)));
    }
    let shape = AttentionShape { tokens: 197, heads: 3, head_dim: 300 };
    shaders.push(("wide attention".to_owned(), wide_attention(space, &shape)));
    for (mean, maximum) in [(true, false), (false, true), (true, true)] {
        let shape = PoolShape { width: 192, tokens: 197, first: 1, count: 196, mean, maximum };
        shaders.push((format!("pooling {mean} {maximum}"), pool(space, &shape)));
    }
    for positions in [false, true] {
        let shape = PrefixShape { stride: 192, tokens: 197, positions };
        shaders.push((format!("prefix {positions}"), prefix(space, &shape)));
    }
    let norm = RowSource::Normalized { epsilon: 1e-6 };
    let patches =
        RowSource::Patches(PatchShape { channels: 3, image: [224, 224], patch: [16, 16] });
    let (single, half) = (Element::F32, Element::F16);
    let [to_single, to_half] = [single, half].map(ActivationKind::Floats);
    for (source, in_place, aligned, input, output) in [
        (norm, false, true, single, to_single),
        (norm, false, true, single, to_half),
        (norm, false, true, single, ActivationKind::Int8),
        (norm, true, true, single, to_single),
        (norm, true, true, half, to_half),
        (norm, true, false, single, to_single),
        (patches, false, false, single, to_single),
        (patches, false, false, single, to_half),
        (patches, false, false, single, ActivationKind::Int8),
        (RowSource::Stored, false, true, single, ActivationKind::Int8),
        (RowSource::Stored, false, true, half, ActivationKind::Int8),
    ] {
        let shape = RowShape { columns: 768, source, in_place, aligned, input, output };
        shaders.push((format!("{shape:?}"), rows(space, &shape)));
    }
    shaders
}
