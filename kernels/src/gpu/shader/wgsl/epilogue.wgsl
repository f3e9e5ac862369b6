// From products to outputs: residual + layer_scale * activation(product + bias), four columns at a time.

#if BIAS
@group(0) @binding($BIND_BIAS) var<storage, read> bias: array<vec4f>;
#endif
#if LAYER_SCALE
@group(0) @binding($BIND_LAYER_SCALE) var<storage, read> layer_scale: array<vec4f>;
#endif
#if RESIDUAL_F32
@group(0) @binding($BIND_RESIDUAL) var<storage, read> residual: array<vec4f>;
#endif
#if RESIDUAL_F16
@group(0) @binding($BIND_RESIDUAL) var<storage, read> residual: array<vec2u>;
#endif
#if OUT_F32
@group(0) @binding($BIND_OUTPUT) var<storage, read_write> output: array<vec4f>;
#endif
#if OUT_F16
@group(0) @binding($BIND_OUTPUT) var<storage, read_write> output: array<vec2u>;
#endif
#if OUT_I32
@group(0) @binding($BIND_OUTPUT) var<storage, read_write> output: array<vec4i>;
#endif

#if GELU_ERF
// x / 2 * (1 + erf(x / sqrt(2))), with the rational function of the CPU.
fn activated(x: vec4f) -> vec4f {
    let z = clamp(x * 0.70710678, vec4f(-3.925), vec4f(3.925));
    let s = z * z;
    let p = ((((2.046037828e-6 * s + 2.844030713e-4) * s + 3.760966240e-3) * s + 5.273591e-2) * s + 0.19034441) * s + 1.1283792;
    let q = ((((3.802386493e-5 * s + 1.160645857e-3) * s + 1.496131532e-2) * s + 0.1140787) * s + 0.5020215) * s + 1.0;
    let erf = select(z * p / q, sign(z), abs(z) >= vec4f(3.925));
    let half = 0.5 * x;
    return half * erf + half;
}
#endif
#if GELU_TANH
// x / 2 * (1 + tanh(y)) is x * sigmoid(2 y).
fn activated(x: vec4f) -> vec4f {
    return x * sigmoid(1.595769 * x * (0.044715 * x * x + 1.0));
}
#endif
#if QUICK_GELU
fn activated(x: vec4f) -> vec4f { return x * sigmoid(1.702 * x); }
#endif
#if SIGMOID
fn sigmoid(x: vec4f) -> vec4f {
    // Beyond 80 the result is 0 or 1 to the last bit, and no power overflows.
    return 1.0 / (1.0 + exp(-clamp(x, vec4f(-80.0), vec4f(80.0))));
}
#endif

fn from_halves(halves: vec2u) -> vec4f {
    return vec4f(unpack2x16float(halves.x), unpack2x16float(halves.y));
}

#if OUT_F16
// The largest finite number in the place of larger ones; NaN is not larger, and stays.
fn to_halves(y: vec4f) -> vec2u {
    let bounded = select(y, sign(y) * 65504.0, abs(y) > vec4f(65504.0));
    return vec2u(pack2x16float(bounded.xy), pack2x16float(bounded.zw));
}
#endif

fn out_index(row: u32, quad: u32) -> u32 {
#if PLACED
    let group = row / parameters.out_group;
    let out_row = group * parameters.out_step + parameters.out_first + row % parameters.out_group;
#else
    let out_row = row;
#endif
    return out_row * parameters.out_stride + quad;
}

#if !OUT_I32
// Finishes columns 4 quad .. 4 quad + 3 of a row of the product, if there are such.
fn store(row: u32, quad: u32, product: vec4f) {
    if row > parameters.last_row || quad >= parameters.out_stride { return; }
    let at = out_index(row, quad);
    // What fills up a row is zero.
    var y = vec4f();
    if 4u * quad < parameters.columns {
        y = product;
#if BIAS
        y += bias[quad];
#endif
#if ACTIVATED
        y = activated(y);
#endif
#if LAYER_SCALE
        y *= layer_scale[quad];
#endif
#if RESIDUAL_F32
        y += residual[row % parameters.residual_rows * parameters.out_stride + quad];
#endif
#if RESIDUAL_F16
        y += from_halves(residual[row % parameters.residual_rows * parameters.out_stride + quad]);
#endif
#if IN_PLACE
#if OUT_F32
        y += output[at];
#else
        y += from_halves(output[at]);
#endif
#endif
        y = select(vec4f(), y, vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(parameters.columns));
    }
#if OUT_F32
    output[at] = y;
#else
    output[at] = to_halves(y);
#endif
}
#endif
