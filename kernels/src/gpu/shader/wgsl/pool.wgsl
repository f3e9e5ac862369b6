// Tokens [images, TOKENS, STRIDE] to pooled features [images, STRIDE], WIDTH of them, zeros behind: mean, maximum or half the sum
// of both over COUNT tokens from FIRST on. A thread per image and feature.

struct Parameters { images: u32 }
$PARAMETERS

const WIDTH: u32 = $WIDTH;
const THREADS: u32 = $THREADS;
const STRIDE: u32 = $STRIDE;
const TOKENS: u32 = $TOKENS;
const FIRST: u32 = $FIRST;
const COUNT: u32 = $COUNT;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

@compute @workgroup_size($THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let feature = group.x * THREADS + lane;
    let image = group.y;
    if image >= parameters.images || feature >= STRIDE { return; }
    let start = (image * TOKENS + FIRST) * STRIDE + feature;
    var sum = input[start];
    var largest = sum;
    for (var token = 1u; token < COUNT; token++) {
        let value = input[start + token * STRIDE];
        sum += value;
        largest = max(largest, value);
    }
    let mean = sum / f32(COUNT);
#if MEAN
    #if MAXIMUM
    let pooled = 0.5 * (mean + largest);
    #else
    let pooled = mean;
    #endif
#else
    let pooled = largest;
#endif
    output[image * STRIDE + feature] = select(0.0, pooled, feature < WIDTH);
}
