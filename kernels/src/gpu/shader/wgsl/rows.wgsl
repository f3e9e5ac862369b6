// Rows for a product, normalised, cut out of images or as they are. A workgroup per row, which it reads once and keeps in
// registers; mean and variance are taken in two passes over those.
//
// The source: NORMALIZED (LayerNorm of `input` with `scale` and `shift`), PATCHES (of `input`, images
// [images, CHANNELS, HEIGHT, WIDTH], a row per patch) or neither. Rows of the output are padded with zeros to STRIDE numbers, a
// multiple of 8; IN_PLACE, they go back to where they came from; QUANTIZED, they are signed bytes on a grid of their own, padded
// with zeros to a multiple of 16. Numbers are vec4<f32>; INPUT_F16 and OUTPUT_F16 say that they are pairs of f16, SCALAR_INPUT
// that rows of the input begin anywhere.

struct Parameters {
    rows: u32,
    // Row `r` begins at element `base + r / group * outer + r % group * inner`.
    base: u32,
    group: u32,
    outer: u32,
    inner: u32,
    // Row `r` is normalised with vector number `r % group / per_vector`.
    per_vector: u32,
}
$PARAMETERS

const THREADS: u32 = $THREADS;
const COLUMNS: u32 = $COLUMNS;
const STRIDE: u32 = $STRIDE;
// Columns are taken in quarters, four at a time; a thread has every THREADS-th quarter.
const QUARTERS = (COLUMNS + 3u) / 4u;
// Quarters of the output: words of four codes where it is QUANTIZED.
const WRITTEN = $WRITTEN;
const PIECES = (WRITTEN + THREADS - 1u) / THREADS;

#if IN_PLACE
@group(0) @binding(0) var<storage, read_write> input: array<$INPUT>;
#else
@group(0) @binding(0) var<storage, read> input: array<$INPUT>;
    #if QUANTIZED
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
// Scale (f32), zero (i32), sum of codes (i32).
@group(0) @binding(2) var<storage, read_write> grids: array<vec4<u32>>;
    #else
@group(0) @binding(1) var<storage, read_write> output: array<$OUTPUT>;
    #endif
#endif
#if NORMALIZED
@group(0) @binding($SCALE) var<storage, read> scale: array<f32>;
@group(0) @binding($SHIFT) var<storage, read> shift: array<f32>;
#endif

#if HALF
fn from_halves(halves: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(halves.x), unpack2x16float(halves.y));
}

fn to_halves(numbers: vec4<f32>) -> vec2<u32> {
    let within = clamp(numbers, vec4(-65504.0), vec4(65504.0));
    return vec2(pack2x16float(within.xy), pack2x16float(within.zw));
}
#endif

#if NORMALIZED
var<workgroup> partial: array<f32, THREADS>;

// The sum of the numbers of all threads.
fn sum_of_all(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        if lane < width { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    return partial[0];
}
#endif

// Which of four columns exist.
fn present(quarter: u32) -> vec4<bool> {
    return vec4(4u * quarter) + vec4(0u, 1u, 2u, 3u) < vec4(COLUMNS);
}

#if PATCHES
const CHANNELS: u32 = $CHANNELS;
const HEIGHT: u32 = $HEIGHT;
const WIDTH: u32 = $WIDTH;
const PATCH_HEIGHT: u32 = $PATCH_HEIGHT;
const PATCH_WIDTH: u32 = $PATCH_WIDTH;
const DOWN = HEIGHT / PATCH_HEIGHT;
const ACROSS = WIDTH / PATCH_WIDTH;

// Four pixels of a patch in the order [channel, row, column]; zeros beyond its last.
fn load(row: u32, quarter: u32) -> vec4<f32> {
    let image = row / (DOWN * ACROSS);
    let top = row / ACROSS % DOWN * PATCH_HEIGHT;
    let left = row % ACROSS * PATCH_WIDTH;
    var pixels = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let column = 4u * quarter + i;
        let channel = column / (PATCH_HEIGHT * PATCH_WIDTH);
        let y = top + column / PATCH_WIDTH % PATCH_HEIGHT;
        let x = left + column % PATCH_WIDTH;
        if column < COLUMNS { pixels[i] = input[((image * CHANNELS + channel) * HEIGHT + y) * WIDTH + x]; }
    }
    return pixels;
}
#else
fn place(row: u32) -> u32 {
    let p = parameters;
    return p.base + row / p.group * p.outer + row % p.group * p.inner;
}

// Four numbers of a row; zeros beyond its last.
fn load(row: u32, quarter: u32) -> vec4<f32> {
    #if SCALAR_INPUT
    var numbers = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if 4u * quarter + i < COLUMNS { numbers[i] = input[place(row) + 4u * quarter + i]; }
    }
    return numbers;
    #else
        #if INPUT_F16
    return from_halves(input[place(row) / 4u + quarter]);
        #else
    return input[place(row) / 4u + quarter];
        #endif
    #endif
}
#endif

#if QUANTIZED
// Least and largest numbers.
var<workgroup> ranges: array<vec2<f32>, THREADS>;
// Whether a number is not finite; later the sums of codes.
var<workgroup> counts: array<i32, THREADS>;
var<workgroup> grid: vec4<u32>;
#else
fn store(row: u32, quarter: u32, numbers: vec4<f32>) {
#if IN_PLACE
    #if SCALAR_INPUT
    for (var i = 0u; i < 4u; i++) {
        if 4u * quarter + i < COLUMNS { input[place(row) + 4u * quarter + i] = numbers[i]; }
    }
    #else
        #if INPUT_F16
    input[place(row) / 4u + quarter] = to_halves(numbers);
        #else
    input[place(row) / 4u + quarter] = numbers;
        #endif
    #endif
#else
    #if OUTPUT_F16
    output[row * STRIDE / 4u + quarter] = to_halves(numbers);
    #else
    output[row * STRIDE / 4u + quarter] = numbers;
    #endif
#endif
}
#endif

@compute @workgroup_size($THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= parameters.rows { return; }
    var numbers: array<vec4<f32>, PIECES>;
    for (var piece = 0u; piece < PIECES; piece++) {
        let quarter = piece * THREADS + lane;
        if quarter < QUARTERS { numbers[piece] = load(row, quarter); }
    }
#if NORMALIZED
    var total = vec4<f32>();
    for (var piece = 0u; piece < PIECES; piece++) { total += numbers[piece]; }
    let mean = sum_of_all(lane, dot(total, vec4(1.0))) / f32(COLUMNS);
    var squares = vec4<f32>();
    for (var piece = 0u; piece < PIECES; piece++) {
        let deviation = select(vec4<f32>(), numbers[piece] - mean, present(piece * THREADS + lane));
        squares += deviation * deviation;
    }
    let variance = sum_of_all(lane, dot(squares, vec4(1.0))) / f32(COLUMNS);
    let factor = 1.0 / sqrt(variance + $EPSILON);
    let vector = row % parameters.group / parameters.per_vector * COLUMNS;
    for (var piece = 0u; piece < PIECES; piece++) {
        for (var i = 0u; i < 4u; i++) {
            let column = 4u * (piece * THREADS + lane) + i;
            if column < COLUMNS {
                let normal = (numbers[piece][i] - mean) * factor;
                numbers[piece][i] = normal * scale[vector + column] + shift[vector + column];
            }
        }
    }
#endif
#if QUANTIZED
    // The padding is zero, which is on every grid.
    var low = vec4<f32>();
    var high = vec4<f32>();
    var odd = false;
    for (var piece = 0u; piece < PIECES; piece++) {
        low = min(low, numbers[piece]);
        high = max(high, numbers[piece]);
        odd = odd || is_not_finite(numbers[piece]);
    }
    ranges[lane] = vec2(min(min(low.x, low.y), min(low.z, low.w)), max(max(high.x, high.y), max(high.z, high.w)));
    counts[lane] = select(0, 1, odd);
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width {
            let other = ranges[lane + width];
            ranges[lane] = vec2(min(ranges[lane].x, other.x), max(ranges[lane].y, other.y));
            counts[lane] |= counts[lane + width];
        }
    }
    if lane == 0u { grid = grid_of(ranges[0].x, ranges[0].y, counts[0] != 0); }
    workgroupBarrier();
    let zero = bitcast<i32>(grid.y);
    let inverse = bitcast<f32>(grid.z);
    var sum = 0;
    for (var piece = 0u; piece < PIECES; piece++) {
        let word = piece * THREADS + lane;
        var code = vec4<i32>();
        if grid.w == 0u {
            let rounded = vec4<i32>(round(numbers[piece] * inverse)) + zero;
            // What is no column stays zero.
            code = select(code, clamp(rounded, vec4(-128), vec4(127)), present(word));
        }
        if word < WRITTEN { codes[row * WRITTEN + word] = pack4xI8(code); }
        sum += code.x + code.y + code.z + code.w;
    }
    counts[lane] = sum;
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if lane < width { counts[lane] += counts[lane + width]; }
    }
    if lane == 0u { grids[row] = vec4(grid.x, grid.y, bitcast<u32>(counts[0]), 0u); }
#else
    for (var piece = 0u; piece < PIECES; piece++) {
        let quarter = piece * THREADS + lane;
        if quarter < WRITTEN { store(row, quarter, numbers[piece]); }
    }
#endif
}
