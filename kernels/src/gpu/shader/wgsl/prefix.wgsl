// The tokens before the patches: `prefix` [PREFIX, STRIDE] to the first tokens of each image in `output` [images, TOKENS, STRIDE],
// with their `positions` [.., STRIDE] where POSITIONS says so. A thread per image, token and feature.

struct Parameters { images: u32 }
$PARAMETERS

const THREADS: u32 = $THREADS;
const STRIDE: u32 = $STRIDE;
const TOKENS: u32 = $TOKENS;

@group(0) @binding(0) var<storage, read> prefix: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
#if POSITIONS
@group(0) @binding(2) var<storage, read> positions: array<f32>;
#endif

@compute @workgroup_size($THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let feature = group.x * THREADS + lane;
    let token = group.y;
    let image = group.z;
    if image >= parameters.images || feature >= STRIDE { return; }
    var value = prefix[token * STRIDE + feature];
#if POSITIONS
    value += positions[token * STRIDE + feature];
#endif
    output[(image * TOKENS + token) * STRIDE + feature] = value;
}
