// softmax(Q K^T / sqrt(head_dim)) V of one image and head, SPLITS threads per query.
//
// Each thread keeps its query and its sums in registers and runs once over its part of the keys, with the running maximum and total
// of an online softmax (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018); the parts are put together at
// the end. Keys and values pass through workgroup memory a tile at a time; QUERIES neighbouring threads read the same element of
// it at once, which is one broadcast. An image alone has few queries: without parts most of a large device would have none.
//
// Tokens take rows of INPUT_STRIDE and OUTPUT_STRIDE numbers, multiples of 8. QUARTERS is HEAD_DIM / 4 rounded up, KEYS a multiple
// of 4. ALIGNED: HEAD_DIM is a multiple of 4. HALF, only with ALIGNED: numbers are stored as pairs of f16.

const QUERIES: u32 = $QUERIES;
const SPLITS: u32 = $SPLITS;
const THREADS = QUERIES * SPLITS;
const KEYS: u32 = $KEYS;
const TOKENS: u32 = $TOKENS;
const HEADS: u32 = $HEADS;
const HEAD_DIM: u32 = $HEAD_DIM;
const QUARTERS: u32 = $QUARTERS;
const INPUT_STRIDE: u32 = $INPUT_STRIDE;
const OUTPUT_STRIDE: u32 = $OUTPUT_STRIDE;
const WIDTH = HEADS * HEAD_DIM;
const LOWEST = -3.4e38;

#if HALF
@group(0) @binding(0) var<storage, read> input: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec2<u32>>;
#else
#if ALIGNED
@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
#endif
#endif

// In the end, as many quarters of each thread's sums as there are splits.
var<workgroup> keys: array<vec4<f32>, $KEYS_LENGTH>;
// In the end, largest score and total of each thread.
var<workgroup> values: array<vec4<f32>, $VALUES_LENGTH>;

// Four numbers of a head that begins at `start`, from its feature `4 * quarter` on; zeros beyond its last feature.
fn load(start: u32, quarter: u32) -> vec4<f32> {
#if HALF
    let words = input[start / 4u + quarter];
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
#else
#if ALIGNED
    return input[start / 4u + quarter];
#else
    var numbers = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if 4u * quarter + i < HEAD_DIM { numbers[i] = input[start + 4u * quarter + i]; }
    }
    return numbers;
#endif
#endif
}

fn store(start: u32, quarter: u32, numbers: vec4<f32>) {
#if HALF
    let most = vec4(65504.0);
    let within = clamp(numbers, -most, most);
    output[start / 4u + quarter] = vec2(pack2x16float(within.xy), pack2x16float(within.zw));
#else
#if ALIGNED
    output[start / 4u + quarter] = numbers;
#else
    for (var i = 0u; i < 4u; i++) {
        if 4u * quarter + i < HEAD_DIM { output[start + 4u * quarter + i] = numbers[i]; }
    }
#endif
#endif
}

// Zeros behind the features of a token.
fn pad(row: u32) {
#if ALIGNED
    for (var i = WIDTH / 4u; i < OUTPUT_STRIDE / 4u; i++) { store(row * OUTPUT_STRIDE, i, vec4<f32>()); }
#else
    for (var i = WIDTH; i < OUTPUT_STRIDE; i++) { output[row * OUTPUT_STRIDE + i] = 0.0; }
#endif
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let image = group.z;
    let split = lane / QUERIES;
    let token = group.x * QUERIES + lane % QUERIES;
    // Of token 0. A token has queries, then keys, then values, each of all heads.
    let head = image * TOKENS * INPUT_STRIDE + group.y * HEAD_DIM;
    // Threads beyond the last token help to load, with some query.
    let query_start = head + min(token, TOKENS - 1u) * INPUT_STRIDE;
    let scale = inverseSqrt(f32(HEAD_DIM));
    var query: array<vec4<f32>, QUARTERS>;
    var sums: array<vec4<f32>, QUARTERS>;
    for (var i = 0u; i < QUARTERS; i++) {
        query[i] = load(query_start, i) * scale;
        sums[i] = vec4<f32>();
    }
    var largest = LOWEST;
    var total = 0.0;

    for (var first = 0u; first < TOKENS; first += KEYS) {
        workgroupBarrier();
        for (var i = lane; i < KEYS * QUARTERS; i += THREADS) {
            let key = first + i / QUARTERS;
            var key_part = vec4<f32>();
            var value_part = vec4<f32>();
            if key < TOKENS {
                let start = head + key * INPUT_STRIDE;
                key_part = load(start + WIDTH, i % QUARTERS);
                value_part = load(start + 2u * WIDTH, i % QUARTERS);
            }
            keys[i] = key_part;
            values[i] = value_part;
        }
        workgroupBarrier();
        let count = min(KEYS, TOKENS - first);
        // Four keys at a time: the sums are rescaled once for all of them.
        for (var key = 4u * split; key < count; key += 4u * SPLITS) {
            var products: array<vec4<f32>, 4>;
            for (var i = 0u; i < QUARTERS; i++) {
                let part = query[i];
                products[0] = fma(part, keys[key * QUARTERS + i], products[0]);
                products[1] = fma(part, keys[(key + 1u) * QUARTERS + i], products[1]);
                products[2] = fma(part, keys[(key + 2u) * QUARTERS + i], products[2]);
                products[3] = fma(part, keys[(key + 3u) * QUARTERS + i], products[3]);
            }
            let one = vec4(1.0);
            let all = vec4(
                dot(products[0], one), dot(products[1], one), dot(products[2], one), dot(products[3], one),
            );
            let is_key = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(count);
            let scores = select(vec4(LOWEST), all, is_key);
            let above = max(max(scores.x, scores.y), max(scores.z, scores.w));
            let new_largest = max(largest, above);
            let factor = exp(largest - new_largest);
            let weights = exp(scores - new_largest);
            total = total * factor + dot(weights, one);
            largest = new_largest;
            for (var i = 0u; i < QUARTERS; i++) {
                var sum = sums[i] * factor;
                sum = fma(vec4(weights.x), values[key * QUARTERS + i], sum);
                sum = fma(vec4(weights.y), values[(key + 1u) * QUARTERS + i], sum);
                sum = fma(vec4(weights.z), values[(key + 2u) * QUARTERS + i], sum);
                sums[i] = fma(vec4(weights.w), values[(key + 3u) * QUARTERS + i], sum);
            }
        }
    }

    workgroupBarrier();
    values[lane] = vec4(largest, total, 0.0, 0.0);
    workgroupBarrier();
    var largest_of_all = LOWEST;
    for (var other = lane % QUERIES; other < THREADS; other += QUERIES) {
        largest_of_all = max(largest_of_all, values[other].x);
    }
    var total_of_all = 0.0;
    for (var other = lane % QUERIES; other < THREADS; other += QUERIES) {
        total_of_all += values[other].y * exp(values[other].x - largest_of_all);
    }
    let factor = exp(largest - largest_of_all) / total_of_all;
    let start = (image * TOKENS + token) * OUTPUT_STRIDE + group.y * HEAD_DIM;
    for (var first = 0u; first < QUARTERS; first += SPLITS) {
        // Each split finishes one of the quarters.
        for (var i = 0u; i < SPLITS; i++) {
            if first + i < QUARTERS { keys[i * THREADS + lane] = sums[first + i] * factor; }
        }
        workgroupBarrier();
        if token < TOKENS && first + split < QUARTERS {
            var sum = vec4<f32>();
            for (var other = lane % QUERIES; other < THREADS; other += QUERIES) {
                sum += keys[split * THREADS + other];
            }
            store(start, first + split, sum);
        }
        workgroupBarrier();
    }
    if token < TOKENS && split == 0u && group.y == HEADS - 1u { pad(image * TOKENS + token); }
}
