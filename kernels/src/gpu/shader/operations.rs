//! Shaders of the operations between the products.

use super::{ParameterSpace, Template};

const ATTENTION: &str = include_str!("wgsl/attention.wgsl");
const WIDE_ATTENTION: &str = include_str!("wgsl/wide_attention.wgsl");
const POOL: &str = include_str!("wgsl/pool.wgsl");
const ROWS: &str = include_str!("wgsl/rows.wgsl");
const TOKENS: &str = include_str!("wgsl/tokens.wgsl");

/// Sizes of the attention of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Tokens of an image.
    pub tokens: u32,
    /// Heads.
    pub heads: u32,
    /// Features of a head.
    pub head_dim: u32,
    /// Queries, keys, values and outputs are stored in half precision, where [`has_half`](Self::has_half).
    pub half: bool,
}

impl AttentionShape {
    /// Queries that a workgroup of [`attention`] takes; a workgroup of [`wide_attention`] takes one.
    pub const QUERIES: u32 = 64;
    /// Widest heads for [`attention`]: query and sums of a thread stay in registers, or near them.
    pub const MAX_NARROW: u32 = 128;

    /// Whether there is a shader for it in half precision.
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

/// Attention with a thread per query.
pub fn attention(space: ParameterSpace, shape: &AttentionShape) -> String {
    Template::new(space, &[ATTENTION])
        .define("QUERIES", AttentionShape::QUERIES)
        .define("KEYS", shape.keys())
        .define("TOKENS", shape.tokens)
        .define("HEADS", shape.heads)
        .define("HEAD_DIM", shape.head_dim)
        .define("QUARTERS", shape.head_dim.div_ceil(4))
        .flag("ALIGNED", shape.head_dim.is_multiple_of(4))
        .flag("HALF", shape.half)
        .render()
}

/// Attention with a workgroup per query, in single precision.
pub fn wide_attention(space: ParameterSpace, shape: &AttentionShape) -> String {
    const THREADS: u32 = 64;
    Template::new(space, &[WIDE_ATTENTION])
        .define("THREADS", THREADS)
        .define("TOKENS", shape.tokens)
        .define("HEADS", shape.heads)
        .define("HEAD_DIM", shape.head_dim)
        .define("FEATURES", shape.head_dim.div_ceil(THREADS))
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
        .define("WIDTH", shape.width)
        .define("TOKENS", shape.tokens)
        .define("FIRST", shape.first)
        .define("COUNT", shape.count)
        .flag("MEAN", shape.mean)
        .flag("MAXIMUM", shape.maximum)
        .render()
}

/// How patches become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenShape {
    /// Features of a token.
    pub width: u32,
    /// Tokens of an image.
    pub tokens: u32,
    /// Those that come before the patches.
    pub prefix: u32,
    /// The first token with a position; `None` where there are no positions.
    pub embedded_from: Option<u32>,
}

/// Embedded patches to tokens.
pub fn tokens(space: ParameterSpace, shape: &TokenShape) -> String {
    Template::new(space, &[TOKENS])
        .define("WIDTH", shape.width)
        .define("TOKENS", shape.tokens)
        .define("PREFIX", shape.prefix)
        .define("UNEMBEDDED", shape.embedded_from.unwrap_or(0))
        .flag("POSITIONS", shape.embedded_from.is_some())
        .render()
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowSource {
    /// Rows of numbers.
    Plain,
    /// LayerNorm of rows of numbers.
    Normalized {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Patches of images.
    Patches(PatchShape),
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
    /// Rows begin at multiples of four numbers.
    pub aligned: bool,
}

impl RowShape {
    /// Threads of a workgroup: a power of two with about eight numbers for each.
    fn threads(&self) -> u32 {
        self.columns.div_ceil(8).next_power_of_two().clamp(32, 256)
    }
}

/// Rows, normalised or gathered.
pub fn rows(space: ParameterSpace, shape: &RowShape) -> String {
    let patches = matches!(shape.source, RowSource::Patches(_));
    let aligned = shape.columns.is_multiple_of(4);
    let aligned_input = aligned && shape.aligned && !patches;
    let element = |aligned| if aligned { "vec4<f32>" } else { "f32" };
    let template = Template::new(space, &[ROWS])
        .define("THREADS", shape.threads())
        .define("COLUMNS", shape.columns)
        .define("INPUT", element(aligned_input))
        .define("OUTPUT", element(aligned))
        .flag("ALIGNED_INPUT", aligned_input)
        .flag("ALIGNED_OUTPUT", aligned)
        .flag("IN_PLACE", shape.in_place)
        .flag("PATCHES", patches);
    match shape.source {
        RowSource::Plain => template,
        RowSource::Normalized { epsilon } => {
            template.flag("NORMALIZED", true).define("EPSILON", format!("{epsilon:?}f"))
        }
        RowSource::Patches(PatchShape { channels, image, patch }) => template
            .define("CHANNELS", channels)
            .define("HEIGHT", image[0])
            .define("WIDTH", image[1])
            .define("PATCH_HEIGHT", patch[0])
            .define("PATCH_WIDTH", patch[1]),
    }
    .render()
}
