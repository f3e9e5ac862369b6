// Rows of activations as signed bytes on a grid of their own, by the rule of the CPU to the last bit: a workgroup for each row.
//
// Divisions of floats are only approximate on a GPU, so the two that make up a grid are done on the bits.

struct Parameters {
    // Quads of a row of numbers, and numbers that are no padding.
    quads: u32,
    columns: u32,
    // Words of four codes that a row takes, a multiple of four.
    words: u32,
    first_row: u32,
}
$PARAMETERS

#if ACTIVATIONS_F16
@group(0) @binding(0) var<storage, read> numbers: array<vec2u>;
#else
@group(0) @binding(0) var<storage, read> numbers: array<vec4f>;
#endif
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
// Scale (f32), zero (i32), sum of codes (i32).
@group(0) @binding(2) var<storage, read_write> grids: array<vec4u>;

const THREADS = $THREADS;

var<workgroup> lows: array<f32, THREADS>;
var<workgroup> highs: array<f32, THREADS>;
// Whether a number is not finite; later the sums of codes.
var<workgroup> counts: array<i32, THREADS>;
var<workgroup> grid: vec4u;

fn load(row: u32, quad: u32) -> vec4f {
#if ACTIVATIONS_F16
    let halves = numbers[row * parameters.quads + quad];
    return vec4f(unpack2x16float(halves.x), unpack2x16float(halves.y));
#else
    return numbers[row * parameters.quads + quad];
#endif
}

// Whether a number is infinite or NaN. By its bits: compilers take numbers to be finite.
fn is_not_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u; }

// The quotient of two numbers whose 24 bits are `a` and `b`, a < 2 b, as 24 bits rounded to the nearest, ties to even. The
// quotient has to lie in 1/2 .. 2; the result, times 2^-23 or, if a < b, 2^-24, may be 2^24.
fn divided(a: u32, b: u32) -> u32 {
    var rest = a;
    var bits = select(24u, 25u, a < b);
    var quotient = 0u;
    for (; bits > 0u; bits--) {
        quotient = quotient << 1u;
        if rest >= b { rest -= b; quotient |= 1u; }
        rest = rest << 1u;
    }
    // `rest` is twice what is left.
    if rest > b || (rest == b && (quotient & 1u) == 1u) { quotient += 1u; }
    return quotient;
}

// x / y for positive normal numbers whose quotient is normal, rounded to the nearest, ties to even.
fn quotient(x: f32, y: f32) -> f32 {
    let a = bitcast<u32>(x);
    let b = bitcast<u32>(y);
    let mantissa_a = (a & 0x7fffffu) | 0x800000u;
    let mantissa_b = (b & 0x7fffffu) | 0x800000u;
    let exponent = (a >> 23u) + 127u - (b >> 23u) - select(0u, 1u, mantissa_a < mantissa_b);
    // A carry out of the mantissa raises the exponent.
    return bitcast<f32>((exponent << 23u) + (divided(mantissa_a, mantissa_b) - 0x800000u));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) local: u32) {
    let row = parameters.first_row + workgroup.x;
    // The padding is zero, which is on every grid.
    var low = 0.0;
    var high = 0.0;
    var odd = 0;
    for (var quad = local; quad < parameters.quads; quad += THREADS) {
        let x = load(row, quad);
        low = min(low, min(min(x.x, x.y), min(x.z, x.w)));
        high = max(high, max(max(x.x, x.y), max(x.z, x.w)));
        if is_not_finite(x.x) || is_not_finite(x.y) || is_not_finite(x.z) || is_not_finite(x.w) { odd = 1; }
    }
    lows[local] = low;
    highs[local] = high;
    counts[local] = odd;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            lows[local] = min(lows[local], lows[local + half]);
            highs[local] = max(highs[local], highs[local + half]);
            counts[local] |= counts[local + half];
        }
    }
    if local == 0u {
        let range = highs[0] - lows[0];
        if counts[0] != 0 || is_not_finite(range) {
            // NaN makes the row of every product NaN; zero and codes are zero.
            grid = vec4u(0x7fc00000u, 0u, 0u, 1u);
        } else {
            // The least scale, 1e-37, times 255: quotients below and above are told apart by it.
            var scale = 1.0;
            if range >= 2.5e-35 {
                let step = quotient(range, 255.0);
                if step >= 1e-37 { scale = step; }
            }
            let inverse = quotient(1.0, scale);
            let zero = i32(round(-lows[0] * inverse)) - 128;
            grid = vec4u(bitcast<u32>(scale), bitcast<u32>(zero), bitcast<u32>(inverse), 0u);
        }
    }
    workgroupBarrier();
    let zero = bitcast<i32>(grid.y);
    let inverse = bitcast<f32>(grid.z);
    var sum = 0;
    for (var word = local; word < parameters.words; word += THREADS) {
        var code = vec4i();
        if word < parameters.quads && grid.w == 0u {
            let rounded = vec4i(round(load(row, word) * inverse)) + zero;
            // What is no column stays zero.
            let column = vec4u(4u * word) + vec4u(0u, 1u, 2u, 3u);
            code = select(vec4i(), clamp(rounded, vec4i(-128), vec4i(127)), column < vec4u(parameters.columns));
        }
        codes[row * parameters.words + word] = pack4xI8(code);
        sum += code.x + code.y + code.z + code.w;
    }
    workgroupBarrier();
    counts[local] = sum;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half { counts[local] += counts[local + half]; }
    }
    if local == 0u { grids[row] = vec4u(grid.x, grid.y, bitcast<u32>(counts[0]), 0u); }
}
