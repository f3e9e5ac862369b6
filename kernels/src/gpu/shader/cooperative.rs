//! The shader of products on cooperative matrices.

use std::fmt::Write;

use super::{MatmulShader, ParameterSpace, TileSize, WeightKind};

/// Tile of a product on cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CooperativeTiling {
    /// Rows of the tile.
    pub rows: u32,
    /// Columns of the tile.
    pub columns: u32,
    /// Subgroups along the rows and the columns of the tile.
    subgroups: [u32; 2],
    /// Input features of a step.
    depth: u32,
    matrices: Matrices,
}

/// The cooperative matrices of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrices {
    /// Their edge, 8 or 16.
    pub edge: u32,
    /// Invocations of a subgroup.
    pub subgroup: u32,
    /// Whether they are emulated, by subgroups of any device's invocations.
    pub emulated: bool,
}

impl Matrices {
    /// What every device computes, if slowly: for tests of all but the matrices themselves.
    pub const fn emulated(edge: u32) -> Matrices {
        Matrices { edge, subgroup: 32, emulated: true }
    }

    /// Whether tiles are staged as vectors of four. Where matrices have an edge of 8 (Metal) they are loaded from scalars only.
    fn vectors(self) -> bool {
        self.edge == 16
    }

    /// WGSL type of a fragment.
    fn fragment(self, element: &str, role: &str) -> String {
        format!("coop_mat{0}x{0}<{element}, {role}>", self.edge)
    }
}

impl CooperativeTiling {
    /// The tile of a size.
    pub const fn of(size: TileSize, matrices: Matrices) -> CooperativeTiling {
        let (rows, columns, subgroups, depth) = match size {
            TileSize::Small => (32, 64, [2, 2], 32),
            TileSize::Deep => (32, 64, [2, 2], 64),
            TileSize::Medium => (64, 64, [2, 2], 32),
            TileSize::Tall => (128, 64, [2, 2], 32),
            TileSize::Large => (128, 128, [2, 4], 32),
            TileSize::Huge => (256, 128, [4, 2], 32),
        };
        CooperativeTiling { rows, columns, subgroups, depth, matrices }
    }

    /// Invocations of a workgroup.
    pub const fn threads(self) -> u32 {
        self.subgroups[0] * self.subgroups[1] * self.matrices.subgroup
    }

    /// Numbers (f32) of the stage: a fragment for each subgroup, or the parts of the sums of all rows.
    fn stage_length(self) -> u32 {
        let edge = self.matrices.edge;
        (self.subgroups[0] * self.subgroups[1] * edge * (edge + 4)).max(self.rows * self.depth / 4)
    }

    /// Bytes of workgroup memory.
    pub fn workgroup_bytes(self) -> u32 {
        let tiles = (self.rows + self.columns) * (self.depth + 8) * 2;
        tiles + self.stage_length() * 4 + self.rows * 4
    }

    /// The text of a product.
    pub fn text(self, shader: &MatmulShader, space: ParameterSpace) -> String {
        let Matrices { edge, subgroup, emulated } = self.matrices;
        let threads = self.threads();
        let part = [self.rows / self.subgroups[0], self.columns / self.subgroups[1]];
        let pieces = self.pieces(matches!(shader.weights, WeightKind::Codes(_)), part);
        let enable = match emulated {
            true => "enable f16;",
            false => "enable f16;\nenable wgpu_cooperative_matrix;",
        };
        let number = |value: u32| format!("{value}u");
        let text = shader
            .template(space, include_str!("wgsl/cooperative.wgsl"))
            .define("TILE_M", number(self.rows))
            .define("TILE_N", number(self.columns))
            .define("DEPTH", number(self.depth))
            .define("EDGE", number(edge))
            .define("SUBGROUP", number(subgroup))
            .define("THREADS", number(threads))
            .define("SUBGROUPS_N", number(self.subgroups[1]))
            .define("PART_M", number(part[0]))
            .define("PART_N", number(part[1]))
            .define("STAGE_LENGTH", number(self.stage_length()))
            .define("DECLARE", pieces.declare)
            .define("LOAD_FIRST", pieces.load_first)
            .define("PUT", pieces.put)
            .define("LOAD_NEXT", pieces.load_next)
            .define("MULTIPLY", pieces.multiply)
            .define("PUT_ROW_SUMS", pieces.put_row_sums)
            .define("FINISH", pieces.finish)
            .flag("EMULATED", emulated)
            .flag("VECTORS", self.matrices.vectors())
            .render();
        format!("{enable}\n{text}")
    }

    /// The parts of the text that are unrolled here: fragments cannot be elements of an array.
    fn pieces(self, codes: bool, part: [u32; 2]) -> Pieces {
        let Matrices { edge, emulated, .. } = self.matrices;
        let unit = if self.matrices.vectors() { 4 } else { 1 };
        let mut pieces = Pieces::default();
        // Writing to a string cannot fail.
        macro_rules! line {
            ($piece:ident, $($format:tt)*) => {{ let _ = writeln!(pieces.$piece, $($format)*); }};
        }

        let (threads, depth) = (self.threads(), self.depth);
        for index in 0..(self.rows * depth / 4).div_ceil(threads) {
            let rows = index * threads / (depth / 4);
            let load = |quad: &str| format!("load_a(row + a_row + {rows}u, {quad} + a_quad)");
            line!(load_first, "    var a{index} = {};", load("0u"));
            line!(put, "        put_a(a_row + {rows}u, a_quad, a{index});");
            line!(load_next, "        a{index} = {};", load("next"));
            if codes {
                line!(declare, "    var row_sum{index} = 0.0;");
                line!(put, "        row_sum{index} += dot(vec4f(a{index}), vec4f(1.0));");
                line!(put_row_sums, "    stage[local + {}u] = row_sum{index};", index * threads);
            }
        }
        for index in 0..(self.columns * depth / 16).div_ceil(threads) {
            let columns = index * threads / (depth / 16);
            let load = |block| format!("load_b(column + b_column + {columns}u, {block} + b_block)");
            line!(load_first, "    var b{index} = {};", load("0u"));
            line!(put, "        put_block(b_column + {columns}u, b_block, b{index});");
            line!(load_next, "        b{index} = {};", load("next_block"));
        }

        let [sums, a_type, b_type] = [("f32", "C"), ("f16", "A"), ("f16", "B")]
            .map(|(element, role)| self.matrices.fragment(element, role));
        let fragments = [part[0] / edge, part[1] / edge];
        for k in (0..depth).step_by(edge as usize) {
            let k_units = k / unit;
            for i in 0..fragments[0] {
                let at = format!("from_a + {}u * STRIDE + {k_units}u", i * edge);
                match emulated {
                    true => line!(multiply, "        let a{i}_{k} = {at};"),
                    false => line!(
                        multiply,
                        "        let a{i}_{k} = coopLoadT<{a_type}>(&tile_a[{at}], STRIDE);"
                    ),
                }
            }
            for j in 0..fragments[1] {
                let at = format!("from_b + {}u * STRIDE + {k_units}u", j * edge);
                match emulated {
                    true => line!(multiply, "        let b{j}_{k} = {at};"),
                    false => line!(
                        multiply,
                        "        let b{j}_{k} = coopLoad<{b_type}>(&tile_b[{at}], STRIDE);"
                    ),
                }
                for i in 0..fragments[0] {
                    let operands = format!("a{i}_{k}, b{j}_{k}, sum{i}_{j}");
                    match emulated {
                        true => line!(multiply, "        sum{i}_{j} = multiply({operands}, lane);"),
                        false => {
                            line!(multiply, "        sum{i}_{j} = coopMultiplyAdd({operands});")
                        }
                    }
                }
            }
        }
        for i in 0..fragments[0] {
            for j in 0..fragments[1] {
                let sums = if emulated { "Sums" } else { &sums };
                line!(declare, "    var sum{i}_{j} = {sums}();");
                // Arguments of a store are names: naga does not evaluate anything else there.
                match emulated {
                    true => line!(finish, "    put_fragment(at, sum{i}_{j}, lane);"),
                    false => {
                        line!(finish, "    let stored{i}_{j} = sum{i}_{j};");
                        line!(finish, "    coopStoreT(stored{i}_{j}, &stage[at], stage_stride);");
                    }
                }
                line!(finish, "    workgroupBarrier();");
                let place =
                    format!("part_row + {}u, column + part_column + {}u", i * edge, j * edge);
                line!(finish, "    finish(at, row, {place}, lane);");
                line!(finish, "    workgroupBarrier();");
            }
        }
        pieces
    }

    /// The cooperative matrices that it is made for.
    pub fn matrices(self) -> Matrices {
        self.matrices
    }
}

/// Parts of the text.
#[derive(Default)]
struct Pieces {
    declare: String,
    load_first: String,
    put: String,
    load_next: String,
    multiply: String,
    put_row_sums: String,
    finish: String,
}
