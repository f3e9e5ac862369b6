// Embedded patches [images, TOKENS - PREFIX, WIDTH] to tokens [images, TOKENS, WIDTH]: the prefix tokens in front, positions
// added. A thread per token and feature.
//
// PREFIX_TOKENS: there are prefix tokens, `prefix` [PREFIX, WIDTH]. POSITIONS: `positions` [TOKENS - UNEMBEDDED, WIDTH] are added
// to the tokens from UNEMBEDDED on.

struct Parameters { images: u32 }
$PARAMETERS

const WIDTH: u32 = $WIDTH;
const TOKENS: u32 = $TOKENS;
const PREFIX: u32 = $PREFIX;
const UNEMBEDDED: u32 = $UNEMBEDDED;

@group(0) @binding(0) var<storage, read> embedded: array<f32>;
@group(0) @binding(1) var<storage, read> prefix: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let feature = group.x * 64u + lane;
    let token = group.y;
    let image = group.z;
    if image >= parameters.images || feature >= WIDTH { return; }
    var value = 0.0;
    if token < PREFIX {
        value = prefix[token * WIDTH + feature];
    } else {
        value = embedded[(image * (TOKENS - PREFIX) + token - PREFIX) * WIDTH + feature];
    }
#if POSITIONS
    if token >= UNEMBEDDED {
        value += positions[(token - UNEMBEDDED) * WIDTH + feature];
    }
#endif
    output[(image * TOKENS + token) * WIDTH + feature] = value;
}
