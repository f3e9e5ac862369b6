//! The shaders of products.

use std::fmt::Write;

use crate::{Activation, Width};

use super::{ParameterSpace, Template};

/// How numbers lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Four bytes each.
    F32,
    /// Two bytes each.
    F16,
}

/// How weights lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightKind {
    /// Codes, at 1.58 bit as at 2 bit.
    Codes(Width),
    /// Numbers.
    Floats(Element),
}

impl WeightKind {
    /// Bits of a weight, for names: `"1.58"` to `"32"`.
    pub const fn label(self) -> &'static str {
        match self {
            WeightKind::Codes(width) => width.label(),
            WeightKind::Floats(Element::F32) => "32",
            WeightKind::Floats(Element::F16) => "16",
        }
    }
}

/// What activations are multiplied as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationKind {
    /// As they are.
    Floats(Element),
    /// As codes of 8 bit.
    Int8,
}

/// What a product is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// Numbers.
    Floats(Element),
    /// The integers behind them, without an epilogue.
    Accumulators,
}

/// What is added to a product in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResidualKind {
    /// Numbers of another buffer.
    Other(Element),
    /// What the output holds.
    InPlace,
}

/// The epilogue that a shader has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpilogueKind {
    /// Whether there is a bias.
    pub bias: bool,
    /// The activation function.
    pub activation: Option<Activation>,
    /// Whether there is a layer scale.
    pub layer_scale: bool,
    /// The residual.
    pub residual: Option<ResidualKind>,
}

/// The tile of outputs that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileSize {
    /// For few rows or columns.
    Small,
    /// As small, in steps twice as deep: for many input features.
    Deep,
    /// Between small and large.
    Medium,
    /// As many rows as large, as many columns as medium.
    Tall,
    /// For many rows and columns.
    Large,
    /// For many of both, on devices with much workgroup memory.
    Huge,
}

impl TileSize {
    /// Every size, smallest first.
    pub const ALL: [TileSize; 6] = [
        TileSize::Small,
        TileSize::Deep,
        TileSize::Medium,
        TileSize::Tall,
        TileSize::Large,
        TileSize::Huge,
    ];
}

/// A buffer of the shader of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatmulBuffer {
    /// Numbers or codes of the activations.
    Activations,
    /// Scale, zero and sum of codes of each row of integer activations.
    Grids,
    /// Weights.
    Weights,
    /// Scale, offset and sum of codes of each channel.
    Channels,
    /// Bias.
    Bias,
    /// Layer scale.
    LayerScale,
    /// Residual that is not in place.
    Residual,
    /// Output.
    Output,
}

impl MatmulBuffer {
    /// What it is called in the templates, behind `BIND_`.
    fn name(self) -> &'static str {
        match self {
            MatmulBuffer::Activations => "BIND_ACTIVATIONS",
            MatmulBuffer::Grids => "BIND_GRIDS",
            MatmulBuffer::Weights => "BIND_WEIGHTS",
            MatmulBuffer::Channels => "BIND_CHANNELS",
            MatmulBuffer::Bias => "BIND_BIAS",
            MatmulBuffer::LayerScale => "BIND_LAYER_SCALE",
            MatmulBuffer::Residual => "BIND_RESIDUAL",
            MatmulBuffer::Output => "BIND_OUTPUT",
        }
    }
}

/// The shader of a product, but for the kernel that computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatmulShader {
    /// The weights.
    pub weights: WeightKind,
    /// The activations.
    pub activations: ActivationKind,
    /// The output.
    pub output: OutputKind,
    /// The epilogue.
    pub epilogue: EpilogueKind,
    /// Whether rows go elsewhere than to the same row of the output.
    pub placed: bool,
}

impl MatmulShader {
    /// Its buffers, in the order of their bindings.
    pub fn buffers(&self) -> Vec<MatmulBuffer> {
        let present = |buffer: &MatmulBuffer| match buffer {
            MatmulBuffer::Activations | MatmulBuffer::Weights | MatmulBuffer::Output => true,
            MatmulBuffer::Grids => self.activations == ActivationKind::Int8,
            MatmulBuffer::Channels => matches!(self.weights, WeightKind::Codes(_)),
            MatmulBuffer::Bias => self.epilogue.bias,
            MatmulBuffer::LayerScale => self.epilogue.layer_scale,
            MatmulBuffer::Residual => {
                matches!(self.epilogue.residual, Some(ResidualKind::Other(_)))
            }
        };
        let all = [
            MatmulBuffer::Activations,
            MatmulBuffer::Grids,
            MatmulBuffer::Weights,
            MatmulBuffer::Channels,
            MatmulBuffer::Bias,
            MatmulBuffer::LayerScale,
            MatmulBuffer::Residual,
            MatmulBuffer::Output,
        ];
        all.into_iter().filter(present).collect()
    }

    /// A template with what all kernels share.
    pub(super) fn template(&self, space: ParameterSpace, body: &str) -> Template {
        let texts = [
            include_str!("wgsl/parameters.wgsl"),
            include_str!("wgsl/weights.wgsl"),
            include_str!("wgsl/epilogue.wgsl"),
            body,
        ];
        let mut template = Template::new(space, &texts);
        for (binding, buffer) in self.buffers().into_iter().enumerate() {
            template = template.define(buffer.name(), binding);
        }
        let width = match self.weights {
            WeightKind::Codes(width) => Some(width),
            WeightKind::Floats(_) => None,
        };
        if let Some(width) = width {
            let middle = width.middle();
            template =
                template.define("MIDDLE", format!("{middle}.0")).define("MIDDLE_CODE", middle);
        }
        let Self { activations, output, epilogue, .. } = *self;
        let is = |activation| epilogue.activation == Some(activation);
        template
            .flag("CODES", width.is_some())
            .flag("BITS_2", matches!(width, Some(Width::Ternary | Width::Two)))
            .flag("BITS_3", width == Some(Width::Three))
            .flag("BITS_4", width == Some(Width::Four))
            .flag("BITS_8", width == Some(Width::Eight))
            .flag("F32", self.weights == WeightKind::Floats(Element::F32))
            .flag("F16", self.weights == WeightKind::Floats(Element::F16))
            .flag("INT8", activations == ActivationKind::Int8)
            .flag("ACTIVATIONS_F16", activations == ActivationKind::Floats(Element::F16))
            .flag("OUT_F32", output == OutputKind::Floats(Element::F32))
            .flag("OUT_F16", output == OutputKind::Floats(Element::F16))
            .flag("OUT_I32", output == OutputKind::Accumulators)
            .flag("PLACED", self.placed)
            .flag("BIAS", epilogue.bias)
            .flag("ACTIVATED", epilogue.activation.is_some())
            .flag("GELU_ERF", is(Activation::GeluErf))
            .flag("GELU_TANH", is(Activation::GeluTanh))
            .flag("QUICK_GELU", is(Activation::QuickGelu))
            .flag("SIGMOID", is(Activation::GeluTanh) || is(Activation::QuickGelu))
            .flag("LAYER_SCALE", epilogue.layer_scale)
            .flag("RESIDUAL_F32", epilogue.residual == Some(ResidualKind::Other(Element::F32)))
            .flag("RESIDUAL_F16", epilogue.residual == Some(ResidualKind::Other(Element::F16)))
            .flag("IN_PLACE", epilogue.residual == Some(ResidualKind::InPlace))
    }
}

/// Tile of a kernel that runs on any device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Rows of the tile.
    pub rows: u32,
    /// Columns of the tile.
    pub columns: u32,
    /// Elements of the inner dimension that are staged at a time.
    depth: u32,
    /// Quads of rows and of columns that an invocation computes.
    quads: [u32; 2],
}

impl Tiling {
    /// The tile of a size. Workgroups have at most 256 invocations and, but for the largest, 16 KiB, which every device offers.
    pub const fn of(size: TileSize) -> Tiling {
        match size {
            TileSize::Small => Tiling { rows: 32, columns: 32, depth: 16, quads: [1, 1] },
            TileSize::Deep => Tiling { rows: 32, columns: 32, depth: 32, quads: [1, 1] },
            TileSize::Medium => Tiling { rows: 64, columns: 64, depth: 16, quads: [2, 1] },
            TileSize::Tall => Tiling { rows: 128, columns: 64, depth: 8, quads: [2, 2] },
            TileSize::Large => Tiling { rows: 128, columns: 128, depth: 8, quads: [2, 2] },
            TileSize::Huge => Tiling { rows: 128, columns: 128, depth: 16, quads: [2, 2] },
        }
    }

    /// Invocations along the rows and the columns of the tile.
    const fn grid(self) -> [u32; 2] {
        [self.rows / 4 / self.quads[0], self.columns / 4 / self.quads[1]]
    }

    /// Invocations of a workgroup.
    pub const fn threads(self) -> u32 {
        self.grid()[0] * self.grid()[1]
    }

    /// Bytes of workgroup memory.
    pub const fn workgroup_bytes(self) -> u32 {
        (self.rows / 4 + 1 + self.columns / 4 + 1) * 16 * self.depth
    }

    /// The text of a product, tiled.
    pub fn text(self, shader: &MatmulShader, space: ParameterSpace) -> String {
        let [threads_m, threads_n] = self.grid();
        let (quad, sum, int8) = match shader.activations {
            ActivationKind::Int8 => ("vec4u", "vec4i", true),
            ActivationKind::Floats(_) => ("vec4f", "vec4f", false),
        };
        let (mut declare, mut multiply, mut finish) = (String::new(), String::new(), String::new());
        // Writing to a string cannot fail.
        let line = |text: &mut String, line: std::fmt::Arguments<'_>| {
            let _ = writeln!(text, "{line}");
        };
        let rows = || (0..self.quads[0]).flat_map(|i| ["x", "y", "z", "w"].map(|lane| (i, lane)));
        for i in 0..self.quads[0] {
            let at = format_args!("k * STRIDE_A + thread_m + {}u", i * threads_m).to_string();
            line(&mut multiply, format_args!("            let a{i} = tile_a[{at}];"));
        }
        for j in 0..self.quads[1] {
            let at = format_args!("k * STRIDE_B + thread_n + {}u", j * threads_n).to_string();
            line(&mut multiply, format_args!("            let b{j} = tile_b[{at}];"));
        }
        for ((i, lane), j) in rows().flat_map(|row| (0..self.quads[1]).map(move |j| (row, j))) {
            let name = format!("sum_{i}{lane}_{j}");
            line(&mut declare, format_args!("    var {name} = {sum}();"));
            let product = match int8 {
                true => format!("products(a{i}.{lane}, b{j})"),
                false => format!("a{i}.{lane} * b{j}"),
            };
            line(&mut multiply, format_args!("            {name} += {product};"));
            let below = ["x", "y", "z", "w"].iter().position(|other| *other == lane);
            let below = i * threads_m * 4 + below.unwrap_or(0) as u32;
            line(
                &mut finish,
                format_args!(
                    "    finish(row + 4u * thread_m + {below}u, column / 4u + thread_n + {}u, {name});",
                    j * threads_n
                ),
            );
        }
        shader
            .template(space, include_str!("wgsl/tiled.wgsl"))
            .define("TILE_M", format!("{}u", self.rows))
            .define("TILE_N", format!("{}u", self.columns))
            .define("TILE_K", format!("{}u", self.depth))
            .define("THREADS", format!("{}u", threads_m * threads_n))
            .define("THREADS_N", format!("{threads_n}u"))
            .define("QUAD", quad)
            .define("DECLARE_SUMS", declare)
            .define("MULTIPLY", multiply)
            .define("FINISH", finish)
            .render()
    }
}
