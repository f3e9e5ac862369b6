// Products on cooperative matrices: f16 x f16, sums in f32. A workgroup computes a tile of outputs, each of its subgroups a part of
// it as fragments of EDGE x EDGE.
//
// Activations rounded to f16 and centred codes, which f16 holds exactly, are staged in workgroup memory, both with the input
// dimension along a row. Rows are eight numbers longer than that, so that the rows of a fragment lie in different memory banks.
// Offsets of the codes come in at the end, times the sum of each row of activations. The next step is loaded into registers
// while this one is multiplied.
//
// A fragment's numbers lie in the subgroup's registers in an order that the device keeps to itself, so that each goes through
// workgroup memory on its way to the epilogue.

const TILE_M = $TILE_M;
const TILE_N = $TILE_N;
const DEPTH = $DEPTH;
const EDGE = $EDGE;
const SUBGROUP = $SUBGROUP;
const THREADS = $THREADS;
// Subgroups along the columns of the tile, and rows and columns of the part that each computes.
const SUBGROUPS_N = $SUBGROUPS_N;
const PART_M = $PART_M;
const PART_N = $PART_N;
// Quads of a step, and elements of the tiles from one row to the next.
const QUADS = DEPTH / 4u;
#if VECTORS
const UNIT = 1u;
#else
const UNIT = 4u;
#endif
const STRIDE = (QUADS + 2u) * UNIT;
const STAGE_STRIDE = EDGE + 4u;

#if ACTIVATIONS_F16
@group(0) @binding($BIND_ACTIVATIONS) var<storage, read> activations: array<vec4<f16>>;
#else
@group(0) @binding($BIND_ACTIVATIONS) var<storage, read> activations: array<vec4f>;
#endif

// [row][k] and [column][k].
#if VECTORS
var<workgroup> tile_a: array<vec4<f16>, TILE_M * STRIDE>;
var<workgroup> tile_b: array<vec4<f16>, TILE_N * STRIDE>;
#else
var<workgroup> tile_a: array<f16, TILE_M * STRIDE>;
var<workgroup> tile_b: array<f16, TILE_N * STRIDE>;
#endif
// A fragment of each subgroup; before that, parts of the sums of rows.
var<workgroup> stage: array<f32, $STAGE_LENGTH>;
#if CODES
var<workgroup> row_sums: array<f32, TILE_M>;
#endif

fn load_a(row: u32, quad: u32) -> vec4<f16> {
    let at = min(row, parameters.last_row) * parameters.activation_stride + quad;
    if quad >= parameters.activation_stride { return vec4<f16>(); }
    return vec4<f16>(activations[at]);
}

fn put_a(row: u32, quad: u32, numbers: vec4<f16>) {
    let at = row * STRIDE + quad * UNIT;
#if VECTORS
    tile_a[at] = numbers;
#else
    tile_a[at] = numbers.x;
    tile_a[at + 1u] = numbers.y;
    tile_a[at + 2u] = numbers.z;
    tile_a[at + 3u] = numbers.w;
#endif
}

fn put_b(column: u32, quad: u32, numbers: vec4<f16>) {
    let at = column * STRIDE + quad * UNIT;
#if VECTORS
    tile_b[at] = numbers;
#else
    tile_b[at] = numbers.x;
    tile_b[at + 1u] = numbers.y;
    tile_b[at + 2u] = numbers.z;
    tile_b[at + 3u] = numbers.w;
#endif
}

// 16 weights of a channel, as they come from memory.
#if CODES
alias Block = vec4u;
fn load_b(column: u32, block: u32) -> Block { return codes(min(column, parameters.columns - 1u), block); }
fn put_block(column: u32, block: u32, weights: Block) {
    put_b(column, 4u * block, vec4<f16>(centred(weights.x)));
    put_b(column, 4u * block + 1u, vec4<f16>(centred(weights.y)));
    put_b(column, 4u * block + 2u, vec4<f16>(centred(weights.z)));
    put_b(column, 4u * block + 3u, vec4<f16>(centred(weights.w)));
}
#else
struct Block { a: vec4<f16>, b: vec4<f16>, c: vec4<f16>, d: vec4<f16> }
fn load_b(column: u32, block: u32) -> Block {
    let channel = min(column, parameters.columns - 1u);
    return Block(
        vec4<f16>(weight_quad(channel, 4u * block)),
        vec4<f16>(weight_quad(channel, 4u * block + 1u)),
        vec4<f16>(weight_quad(channel, 4u * block + 2u)),
        vec4<f16>(weight_quad(channel, 4u * block + 3u)),
    );
}
fn put_block(column: u32, block: u32, weights: Block) {
    put_b(column, 4u * block, weights.a);
    put_b(column, 4u * block + 1u, weights.b);
    put_b(column, 4u * block + 2u, weights.c);
    put_b(column, 4u * block + 3u, weights.d);
}
#endif

#if EMULATED
// What cooperative matrices do, for devices without: a fragment of the operands is its place in a tile, one of the sums
// is some elements in each of 32 invocations.
alias Sums = array<f32, EDGE * EDGE / SUBGROUP>;

#if VECTORS
fn quad_a(at: u32) -> vec4f { return vec4f(tile_a[at]); }
fn quad_b(at: u32) -> vec4f { return vec4f(tile_b[at]); }
#else
fn quad_a(at: u32) -> vec4f { return vec4f(vec4<f16>(tile_a[at], tile_a[at + 1u], tile_a[at + 2u], tile_a[at + 3u])); }
fn quad_b(at: u32) -> vec4f { return vec4f(vec4<f16>(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u])); }
#endif

fn multiply(a: u32, b: u32, before: Sums, lane: u32) -> Sums {
    var sums = before;
    for (var index = 0u; index < EDGE * EDGE / SUBGROUP; index++) {
        let element = index * SUBGROUP + lane;
        let row = a + element / EDGE * STRIDE;
        let column = b + element % EDGE * STRIDE;
        for (var quad = 0u; quad < EDGE / 4u; quad++) {
            sums[index] += dot(quad_a(row + quad * UNIT), quad_b(column + quad * UNIT));
        }
    }
    return sums;
}

fn put_fragment(at: u32, fragment: Sums, lane: u32) {
    var sums = fragment;
    for (var index = 0u; index < EDGE * EDGE / SUBGROUP; index++) {
        let element = index * SUBGROUP + lane;
        stage[at + element / EDGE * STAGE_STRIDE + element % EDGE] = sums[index];
    }
}
#endif

// Finishes the fragment in a subgroup's part of the stage; `row` is that of the tile.
fn finish(at: u32, first_row: u32, row: u32, column: u32, lane: u32) {
    for (var index = lane; index < EDGE * EDGE / 4u; index += SUBGROUP) {
        let below = index / (EDGE / 4u);
        let beside = index % (EDGE / 4u);
        let first = at + below * STAGE_STRIDE + 4u * beside;
        let sums = vec4f(stage[first], stage[first + 1u], stage[first + 2u], stage[first + 3u]);
        let quad = column / 4u + beside;
#if CODES
        var product = vec4f();
        if 4u * quad < parameters.columns {
            product = scales(quad) * sums + offsets(quad) * row_sums[row + below];
        }
#else
        let product = sums;
#endif
        store(first_row + row + below, quad, product);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(local_invocation_index) local: u32,
#if !EMULATED
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#endif
) {
#if EMULATED
    let subgroup = local / SUBGROUP;
    let lane = local % SUBGROUP;
#endif
    let row = parameters.first_row + workgroup.y * TILE_M;
    let column = workgroup.x * TILE_N;
    let part_row = subgroup / SUBGROUPS_N * PART_M;
    let part_column = subgroup % SUBGROUPS_N * PART_N;
    // Where this invocation loads: neighbours read on along a row.
    let a_quad = local % QUADS;
    let a_row = local / QUADS;
    let b_block = local % (DEPTH / 16u);
    let b_column = local / (DEPTH / 16u);
    let from_a = part_row * STRIDE;
    let from_b = part_column * STRIDE;
$DECLARE
$LOAD_FIRST
    for (var quad = 0u; quad < parameters.activation_stride; quad += QUADS) {
$PUT
        workgroupBarrier();
        // Beyond the last step this loads what is not used: zeros, and the weights of the first.
        let next = quad + QUADS;
        let next_block = select(0u, next / 4u, next < parameters.activation_stride);
$LOAD_NEXT
$MULTIPLY
        workgroupBarrier();
    }
#if CODES
    // QUADS invocations have a part each of the sum of a row.
$PUT_ROW_SUMS
    workgroupBarrier();
    for (var summed = local; summed < TILE_M; summed += THREADS) {
        var sum = 0.0;
        for (var part = 0u; part < QUADS; part++) { sum += stage[summed * QUADS + part]; }
        row_sums[summed] = sum;
    }
    workgroupBarrier();
#endif
    let at = subgroup * (EDGE * STAGE_STRIDE);
    let stage_stride = STAGE_STRIDE;
$FINISH
}
