// The grid of signed bytes that a row of activations is put on, by the rule of the CPU to the last bit.
//
// Divisions of floats are only approximate on a GPU, so the two that make up a grid are done on the bits.

// Whether any of four numbers is infinite or NaN. By their bits: compilers take numbers to be finite.
fn is_not_finite(x: vec4<f32>) -> bool {
    return any((bitcast<vec4<u32>>(x) & vec4(0x7f800000u)) == vec4(0x7f800000u));
}

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

// Scale (f32), zero (i32), the scale's inverse (f32) and whether the row has no codes, of numbers from `low` to `high`, which have
// zero between them.
fn grid_of(low: f32, high: f32, odd: bool) -> vec4<u32> {
    let range = high - low;
    if odd || is_not_finite(vec4(range)) {
        // NaN makes the row of every product NaN; zero and codes are zero.
        return vec4(0x7fc00000u, 0u, 0u, 1u);
    }
    // The least scale, 1e-37, times 255: quotients below and above are told apart by it.
    var scale = 1.0;
    if range >= 2.5e-35 {
        let step = quotient(range, 255.0);
        if step >= 1e-37 { scale = step; }
    }
    let inverse = quotient(1.0, scale);
    let zero = i32(round(-low * inverse)) - 128;
    return vec4(bitcast<u32>(scale), bitcast<u32>(zero), bitcast<u32>(inverse), 0u);
}
