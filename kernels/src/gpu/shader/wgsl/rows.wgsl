// Rows for a product, normalised or cut out of images. A workgroup per row, which it reads once and keeps in
// registers; mean and variance are taken in two passes over those.
//
// The source: NORMALIZED (LayerNorm of `input` with `scale` and `shift`) or PATCHES (of `input`, images
// [images, CHANNELS, HEIGHT, WIDTH], a row per patch). Rows of the output are padded with zeros to STRIDE numbers, a
// multiple of 8; IN_PLACE, they go back to where they came from. Numbers are vec4<f32>; INPUT_F16 and OUTPUT_F16 say that they
// are pairs of f16, SCALAR_INPUT that rows of the input begin anywhere.

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
const PIECES = (STRIDE / 4u + THREADS - 1u) / THREADS;

#if IN_PLACE
@group(0) @binding(0) var<storage, read_write> input: array<$INPUT>;
#else
@group(0) @binding(0) var<storage, read> input: array<$INPUT>;
@group(0) @binding(1) var<storage, read_write> output: array<$OUTPUT>;
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

// Which of four columns exist.
fn present(quarter: u32) -> vec4<bool> {
    return vec4(4u * quarter) + vec4(0u, 1u, 2u, 3u) < vec4(COLUMNS);
}
#endif

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
    for (var piece = 0u; piece < PIECES; piece++) {
        let quarter = piece * THREADS + lane;
        if quarter < $WRITTEN { store(row, quarter, numbers[piece]); }
    }
}
