// Weights as they lie in memory, and as numbers.

#if CODES
// Words of codes, as the panels of the CPU with one lane.
@group(0) @binding($BIND_WEIGHTS) var<storage, read> weights: array<u32>;

// Scales, then offsets of centred codes, then sums of codes (i32), each for all channels.
@group(0) @binding($BIND_CHANNELS) var<storage, read> channels: array<vec4f>;

fn channel_quads() -> u32 { return (parameters.columns + 3u) / 4u; }
fn scales(quad: u32) -> vec4f { return channels[quad]; }
fn offsets(quad: u32) -> vec4f { return channels[channel_quads() + quad]; }
fn code_sums(quad: u32) -> vec4i { return bitcast<vec4i>(channels[2u * channel_quads() + quad]); }

// Codes 16 block .. 16 block + 15 of a channel, a byte each.
fn codes(channel: u32, block: u32) -> vec4u {
    let row = channel * parameters.weight_stride;
#if BITS_2
    let word = weights[row + block];
    return (vec4u(word) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(0x03030303u);
#endif
#if BITS_3
    // Two words of low bits and one of high bits make 32 codes.
    let group = row + block / 2u * 3u;
    let low = weights[group + block % 2u];
    let high = weights[group + 2u] >> (block % 2u * 4u);
    return ((vec4u(low) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(0x03030303u))
        | (((vec4u(high) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(0x01010101u)) << vec4u(2u));
#endif
#if BITS_4
    let first = weights[row + 2u * block];
    let second = weights[row + 2u * block + 1u];
    return vec4u(first, first >> 4u, second, second >> 4u) & vec4u(0x0f0f0f0fu);
#endif
#if BITS_8
    let word = row + 4u * block;
    return vec4u(weights[word], weights[word + 1u], weights[word + 2u], weights[word + 3u]);
#endif
}

// Codes 4 quad .. 4 quad + 3 of a channel, a byte each.
fn code_quad(channel: u32, quad: u32) -> u32 {
    let row = channel * parameters.weight_stride;
#if BITS_2
    return (weights[row + quad / 4u] >> (quad % 4u * 2u)) & 0x03030303u;
#endif
#if BITS_3
    let group = row + quad / 8u * 3u;
    let low = weights[group + quad / 4u % 2u] >> (quad % 4u * 2u);
    let high = weights[group + 2u] >> (quad % 8u);
    return (low & 0x03030303u) | ((high & 0x01010101u) << 2u);
#endif
#if BITS_4
    return (weights[row + quad / 2u] >> (quad % 2u * 4u)) & 0x0f0f0f0fu;
#endif
#if BITS_8
    return weights[row + quad];
#endif
}

// Four codes minus the middle of their levels, exactly: a code is the low bits of the float 2^23 + code. No conversion, which has
// a fourth of the rate of additions on some devices.
fn centred(four: u32) -> vec4f {
    return bitcast<vec4f>(unpack4xU8(four) | vec4u(0x4b000000u)) - vec4f(8388608.0 + $MIDDLE);
}
#endif

#if F32
@group(0) @binding($BIND_WEIGHTS) var<storage, read> weights: array<vec4f>;
#endif

#if F16
@group(0) @binding($BIND_WEIGHTS) var<storage, read> weights: array<vec2u>;
#endif

// Four weights of a channel that is no matrix of codes.
#if !CODES
fn weight_quad(channel: u32, quad: u32) -> vec4f {
    let at = channel * parameters.weight_stride + quad;
#if F32
    return weights[at];
#else
    let halves = weights[at];
    return vec4f(unpack2x16float(halves.x), unpack2x16float(halves.y));
#endif
}
#endif
