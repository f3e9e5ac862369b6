// Products on any device: a workgroup computes a tile of outputs, each invocation some quads of rows times quads of columns.
//
// Both operands are staged in workgroup memory, transposed, so that an invocation reads four neighbouring rows or columns at a
// time. An element is a number, or for integers a word of four codes. Rows of a tile are one quad longer than it is wide: the
// invocations that transpose a block write to rows four apart, which would lie in the same memory bank.

#if INT8
@group(0) @binding($BIND_ACTIVATIONS) var<storage, read> activations: array<vec4u>;
// Scale (f32), zero (i32) and sum of codes (i32) of each row.
@group(0) @binding($BIND_GRIDS) var<storage, read> grids: array<vec4u>;
#else
#if ACTIVATIONS_F16
@group(0) @binding($BIND_ACTIVATIONS) var<storage, read> activations: array<vec2u>;
#else
@group(0) @binding($BIND_ACTIVATIONS) var<storage, read> activations: array<vec4f>;
#endif
#endif

const TILE_M = $TILE_M;
const TILE_N = $TILE_N;
const TILE_K = $TILE_K;
const THREADS = $THREADS;
const THREADS_N = $THREADS_N;
const STRIDE_A = TILE_M / 4u + 1u;
const STRIDE_B = TILE_N / 4u + 1u;

// [k][row / 4] and [k][column / 4].
var<workgroup> tile_a: array<$QUAD, STRIDE_A * TILE_K>;
var<workgroup> tile_b: array<$QUAD, STRIDE_B * TILE_K>;

// Four elements of a row of activations.
fn load_a(row: u32, quad: u32) -> $QUAD {
    let at = min(row, parameters.last_row) * parameters.activation_stride + quad;
    if quad >= parameters.activation_stride { return $QUAD(); }
#if ACTIVATIONS_F16
    return from_halves(activations[at]);
#else
    return activations[at];
#endif
}

// Four elements of a channel.
fn load_b(column: u32, quad: u32) -> $QUAD {
    let channel = min(column, parameters.columns - 1u);
#if INT8
#if BITS_8
    // Signed bytes: codes minus 128.
    return codes(channel, quad) ^ vec4u(0x80808080u);
#else
    return codes(channel, quad);
#endif
#else
#if CODES
    let scale = scales(channel / 4u)[channel % 4u];
    let offset = offsets(channel / 4u)[channel % 4u];
    return scale * centred(code_quad(channel, quad)) + offset;
#else
    return weight_quad(channel, quad);
#endif
#endif
}

#if INT8
fn products(a: u32, b: vec4u) -> vec4i {
    return vec4i(dot4I8Packed(a, b.x), dot4I8Packed(a, b.y), dot4I8Packed(a, b.z), dot4I8Packed(a, b.w));
}

fn finish(row: u32, quad: u32, products: vec4i) {
    if row > parameters.last_row || 4u * quad >= parameters.columns {
#if !OUT_I32
        store(row, quad, vec4f());
#endif
        return;
    }
    let grid = grids[row];
    let zero = bitcast<i32>(grid.y);
    let code_sum = bitcast<i32>(grid.z);
#if BITS_8
    let sums = products + 128 * code_sum;
#else
    let sums = products;
#endif
    let less_zero = sums - zero * code_sums(quad);
#if OUT_I32
    output[out_index(row, quad)] = less_zero;
#else
    // Sum of the row, less its zero.
    let row_sum = code_sum - i32(parameters.in_features) * zero;
    let centred_sums = less_zero - $MIDDLE_CODE * row_sum;
    let y = vec4f(centred_sums) * scales(quad) + offsets(quad) * f32(row_sum);
    store(row, quad, y * bitcast<f32>(grid.x));
#endif
}
#else
fn finish(row: u32, quad: u32, product: vec4f) { store(row, quad, product); }
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) local: u32) {
    let row = parameters.first_row + workgroup.y * TILE_M;
    let column = workgroup.x * TILE_N;
    let thread_m = local / THREADS_N;
    let thread_n = local % THREADS_N;
$DECLARE_SUMS
    for (var first = 0u; first < parameters.activation_stride; first += TILE_K / 4u) {
        // Blocks of four rows by four elements; neighbouring invocations read on along a row.
        for (var block = local; block < TILE_M * TILE_K / 16u; block += THREADS) {
            let quad = block % (TILE_K / 4u);
            let rows = block / (TILE_K / 4u);
            let a = load_a(row + 4u * rows, first + quad);
            let b = load_a(row + 4u * rows + 1u, first + quad);
            let c = load_a(row + 4u * rows + 2u, first + quad);
            let d = load_a(row + 4u * rows + 3u, first + quad);
            let at = 4u * quad * STRIDE_A + rows;
            tile_a[at] = $QUAD(a.x, b.x, c.x, d.x);
            tile_a[at + STRIDE_A] = $QUAD(a.y, b.y, c.y, d.y);
            tile_a[at + 2u * STRIDE_A] = $QUAD(a.z, b.z, c.z, d.z);
            tile_a[at + 3u * STRIDE_A] = $QUAD(a.w, b.w, c.w, d.w);
        }
        for (var block = local; block < TILE_N * TILE_K / 16u; block += THREADS) {
            let quad = block % (TILE_K / 4u);
            let columns = block / (TILE_K / 4u);
            let a = load_b(column + 4u * columns, first + quad);
            let b = load_b(column + 4u * columns + 1u, first + quad);
            let c = load_b(column + 4u * columns + 2u, first + quad);
            let d = load_b(column + 4u * columns + 3u, first + quad);
            let at = 4u * quad * STRIDE_B + columns;
            tile_b[at] = $QUAD(a.x, b.x, c.x, d.x);
            tile_b[at + STRIDE_B] = $QUAD(a.y, b.y, c.y, d.y);
            tile_b[at + 2u * STRIDE_B] = $QUAD(a.z, b.z, c.z, d.z);
            tile_b[at + 3u * STRIDE_B] = $QUAD(a.w, b.w, c.w, d.w);
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
$MULTIPLY
        }
        workgroupBarrier();
    }
$FINISH
}
