// As attention.wgsl, for heads too wide for the registers of a thread: a workgroup per query. Scores of a tile of keys have a
// thread each; then each thread sums the values of its features.
//
// Tokens take rows of INPUT_STRIDE and OUTPUT_STRIDE numbers. FEATURES is HEAD_DIM / THREADS rounded up.

const THREADS: u32 = $THREADS;
const TOKENS: u32 = $TOKENS;
const HEADS: u32 = $HEADS;
const HEAD_DIM: u32 = $HEAD_DIM;
const FEATURES: u32 = $FEATURES;
const INPUT_STRIDE: u32 = $INPUT_STRIDE;
const OUTPUT_STRIDE: u32 = $OUTPUT_STRIDE;
const WIDTH = HEADS * HEAD_DIM;
const LOWEST = -3.4e38;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;

var<workgroup> scores: array<f32, THREADS>;

@compute @workgroup_size($THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let image = group.z;
    let head = image * TOKENS * INPUT_STRIDE + group.y * HEAD_DIM;
    let query = head + group.x * INPUT_STRIDE;
    let scale = inverseSqrt(f32(HEAD_DIM));
    var sums: array<f32, FEATURES>;
    var largest = LOWEST;
    var total = 0.0;
    for (var first = 0u; first < TOKENS; first += THREADS) {
        let count = min(THREADS, TOKENS - first);
        var score = LOWEST;
        if lane < count {
            let key = head + (first + lane) * INPUT_STRIDE + WIDTH;
            score = 0.0;
            for (var i = 0u; i < HEAD_DIM; i++) {
                score = fma(input[query + i] * scale, input[key + i], score);
            }
        }
        workgroupBarrier();
        scores[lane] = score;
        workgroupBarrier();
        var new_largest = largest;
        for (var key = 0u; key < count; key++) { new_largest = max(new_largest, scores[key]); }
        let factor = exp(largest - new_largest);
        largest = new_largest;
        total *= factor;
        for (var i = 0u; i < FEATURES; i++) { sums[i] *= factor; }
        for (var key = 0u; key < count; key++) {
            let weight = exp(scores[key] - largest);
            total += weight;
            let value = head + (first + key) * INPUT_STRIDE + 2u * WIDTH;
            for (var i = 0u; i < FEATURES; i++) {
                let feature = i * THREADS + lane;
                if feature < HEAD_DIM { sums[i] = fma(weight, input[value + feature], sums[i]); }
            }
        }
    }
    let start = (image * TOKENS + group.x) * OUTPUT_STRIDE + group.y * HEAD_DIM;
    for (var i = 0u; i < FEATURES; i++) {
        let feature = i * THREADS + lane;
        if feature < HEAD_DIM { output[start + feature] = sums[i] / total; }
    }
    // Zeros behind the features of a token.
    if group.y == HEADS - 1u && WIDTH + lane < OUTPUT_STRIDE {
        output[(image * TOKENS + group.x) * OUTPUT_STRIDE + WIDTH + lane] = 0.0;
    }
}
