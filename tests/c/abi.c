/* What a C program may do wrong, and what several threads may do at once. Built with -fsanitize=address, which sees reads and writes
 * beyond the blocks allocated here, use of freed memory, and leaks:
 *
 *     abi model.fresnel picture.png
 *
 * The model is the digits', the picture one of its samples.
 */
#include <fresnel.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,                     \
                    fresnel_last_error());                                                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The status, and that there is a text for it. */
#define REFUSED(status, call) CHECK((call) == (status) && *fresnel_last_error())

enum { THREADS = 4, RUNS = 50, BATCH = 3 };

typedef struct {
    uint8_t *bytes;
    size_t length;
} file;

/* A block of exactly the file's length, so that a byte too many is noticed. */
static file read_file(const char *path) {
    FILE *stream = fopen(path, "rb");
    CHECK(stream && fseek(stream, 0, SEEK_END) == 0);
    file result = {NULL, (size_t)ftell(stream)};
    rewind(stream);
    result.bytes = malloc(result.length);
    CHECK(result.bytes && fread(result.bytes, 1, result.length, stream) == result.length);
    fclose(stream);
    return result;
}

static fresnel_session *new_session(const fresnel_model *model, uint32_t threads) {
    fresnel_session_options options = {sizeof options, threads, FRESNEL_COMPUTE_INT8};
    fresnel_session *session = NULL;
    CHECK(fresnel_session_new(model, &options, &session) == FRESNEL_STATUS_OK);
    return session;
}

static size_t image_length(const fresnel_model *model) {
    return fresnel_model_channels(model) * fresnel_model_height(model) * fresnel_model_width(model);
}

static float *new_pixels(const fresnel_model *model, size_t batch) {
    size_t length = batch * image_length(model);
    float *pixels = malloc(length * sizeof *pixels);
    CHECK(pixels);
    for (size_t index = 0; index < length; index++) {
        pixels[index] = sinf(0.1F * (float)index);
    }
    return pixels;
}

static void wrong_arguments(const fresnel_model *model) {
    fresnel_session *session = new_session(model, 1);
    size_t length = image_length(model), outputs = fresnel_model_outputs(model), count = 99;
    float *pixels = new_pixels(model, 1);
    float *logits = malloc(outputs * sizeof *logits);
    uint8_t *rgb = calloc(5 * 7 * 3, 1);
    fresnel_prediction *top = malloc(2 * sizeof *top);
    CHECK(logits && rgb && top);
    const fresnel_status input = FRESNEL_STATUS_INPUT;

    CHECK(fresnel_session_run(session, pixels, length, 1, logits, outputs) == FRESNEL_STATUS_OK);
    REFUSED(input, fresnel_session_run(NULL, pixels, length, 1, logits, outputs));
    REFUSED(input, fresnel_session_run(session, NULL, length, 1, logits, outputs));
    REFUSED(input, fresnel_session_run(session, pixels, length, 1, NULL, outputs));
    REFUSED(input, fresnel_session_run(session, pixels, length, 1, logits, outputs - 1));
    REFUSED(input, fresnel_session_run(session, pixels, length - 1, 1, logits, outputs));
    REFUSED(input, fresnel_session_run(session, pixels, length, 2, logits, outputs));
    REFUSED(input, fresnel_session_run(session, pixels, length, SIZE_MAX, logits, outputs));
    REFUSED(input, fresnel_session_run(session, pixels, SIZE_MAX, 1, logits, outputs));
    CHECK(fresnel_session_run(session, NULL, 0, 0, NULL, 0) == FRESNEL_STATUS_OK);
    pixels[3] = NAN;
    REFUSED(input, fresnel_session_run(session, pixels, length, 1, logits, outputs));

    CHECK(fresnel_session_classify_rgb8(session, rgb, 105, 5, 7, top, 2, &count) ==
          FRESNEL_STATUS_OK);
    CHECK(count == 2 && top[0].probability >= top[1].probability);
    REFUSED(input, fresnel_session_classify_rgb8(NULL, rgb, 105, 5, 7, top, 2, &count));
    CHECK(count == 0);
    REFUSED(input, fresnel_session_classify_rgb8(session, NULL, 105, 5, 7, top, 2, &count));
    REFUSED(input, fresnel_session_classify_rgb8(session, rgb, 104, 5, 7, top, 2, &count));
    REFUSED(input, fresnel_session_classify_rgb8(session, rgb, 105, 0, 7, top, 2, &count));
    REFUSED(input, fresnel_session_classify_rgb8(session, rgb, 105, UINT32_MAX, UINT32_MAX, top, 2,
                                                 &count));
    REFUSED(input, fresnel_session_classify_rgb8(session, rgb, 105, 5, 7, NULL, 2, &count));
    REFUSED(input, fresnel_session_classify_rgb8(session, rgb, 105, 5, 7, top, 2, NULL));

    REFUSED(input, fresnel_model_preprocess_rgb8(NULL, rgb, 105, 5, 7, pixels, length));
    REFUSED(input, fresnel_model_preprocess_rgb8(model, rgb, 105, 5, 7, pixels, length - 1));
    CHECK(fresnel_model_preprocess_rgb8(model, rgb, 105, 5, 7, pixels, length) ==
          FRESNEL_STATUS_OK);

    fresnel_session *other = session;
    fresnel_session_options options = {sizeof options, 1, 77};
    REFUSED(input, fresnel_session_new(model, &options, &other));
    CHECK(other == NULL);
    options.compute = FRESNEL_COMPUTE_AUTO;
    options.size = sizeof options - 1;
    REFUSED(input, fresnel_session_new(model, &options, &other));
    REFUSED(input, fresnel_session_new(NULL, NULL, &other));
    REFUSED(input, fresnel_session_new(model, NULL, NULL));
    CHECK(fresnel_session_new(model, NULL, &other) == FRESNEL_STATUS_OK);
    CHECK(fresnel_session_compute(other) != FRESNEL_COMPUTE_AUTO);
    fresnel_session_free(other);

    CHECK(fresnel_model_class_name(model, fresnel_model_classes(model)) == NULL);
    CHECK(fresnel_model_class_name(NULL, 0) == NULL && fresnel_model_outputs(NULL) == 0);
    fresnel_model_free(NULL);
    fresnel_session_free(NULL);
    free(top);
    free(rgb);
    free(logits);
    free(pixels);
    fresnel_session_free(session);
}

/* A copy of the first `length` bytes in a block of that length. */
static uint8_t *copy(file source, size_t length) {
    uint8_t *bytes = malloc(length ? length : 1);
    CHECK(bytes);
    memcpy(bytes, source.bytes, length);
    return bytes;
}

static void hostile_models(file good) {
    fresnel_model *model;
    REFUSED(FRESNEL_STATUS_INPUT, fresnel_model_open(NULL, &model));
    REFUSED(FRESNEL_STATUS_INPUT, fresnel_model_open("missing", NULL));
    REFUSED(FRESNEL_STATUS_IO, fresnel_model_open("/missing/model.fresnel", &model));
    CHECK(model == NULL);
    REFUSED(FRESNEL_STATUS_INPUT, fresnel_model_from_memory(NULL, good.length, &model));
    for (size_t length = 0; length < good.length; length += length < 4096 ? 61 : 4099) {
        uint8_t *bytes = copy(good, length);
        CHECK(fresnel_model_from_memory(bytes, length, &model) != FRESNEL_STATUS_OK && !model);
        free(bytes);
    }
    for (size_t place = 0; place < good.length; place += place < 4096 ? 61 : 4099) {
        uint8_t *bytes = copy(good, good.length);
        bytes[place] ^= (uint8_t)(1U << place % 8);
        CHECK(fresnel_model_from_memory(bytes, good.length, &model) != FRESNEL_STATUS_OK && !model);
        free(bytes);
    }
}

/* Damaged pictures may still decode: what counts is that nothing breaks and the session goes on. */
static void hostile_pictures(const fresnel_model *model, file good) {
    fresnel_session *session = new_session(model, 1);
    fresnel_prediction best;
    size_t count;
    for (size_t length = 0; length < good.length; length++) {
        uint8_t *bytes = copy(good, length);
        fresnel_status status =
            fresnel_session_classify_encoded(session, bytes, length, &best, 1, &count);
        /* The pixels are complete before the last chunk is. */
        CHECK(status != FRESNEL_STATUS_OK || length + 16 >= good.length);
        CHECK(count == (status == FRESNEL_STATUS_OK));
        free(bytes);
    }
    for (size_t place = 0; place < good.length; place++) {
        uint8_t *bytes = copy(good, good.length);
        bytes[place] ^= (uint8_t)(1U << place % 8);
        fresnel_session_classify_encoded(session, bytes, good.length, &best, 1, &count);
        free(bytes);
    }
    CHECK(fresnel_session_classify_encoded(session, good.bytes, good.length, &best, 1, &count) ==
          FRESNEL_STATUS_OK);
    CHECK(count == 1 && !strcmp(fresnel_model_class_name(model, best.class_index), "7"));
    fresnel_session_free(session);
}

typedef struct {
    const fresnel_model *model;
    fresnel_session *shared;
    const float *pixels;
    const float *expected;
    size_t outputs;
    unsigned number;
} job;

static void run_and_compare(const job *job, fresnel_session *session) {
    float *logits = malloc(BATCH * job->outputs * sizeof *logits);
    CHECK(logits);
    CHECK(fresnel_session_run(session, job->pixels, BATCH * image_length(job->model), BATCH, logits,
                              BATCH * job->outputs) == FRESNEL_STATUS_OK);
    CHECK(!memcmp(logits, job->expected, BATCH * job->outputs * sizeof *logits));
    free(logits);
}

static void *work(void *argument) {
    const job *job = argument;
    fresnel_session *own = new_session(job->model, 1 + job->number % 2);
    for (int run = 0; run < RUNS; run++) {
        run_and_compare(job, own);
        run_and_compare(job, job->shared);
        /* Messages of other threads do not get in. */
        size_t length = job->number;
        REFUSED(FRESNEL_STATUS_INPUT, fresnel_session_run(own, job->pixels, length, 1, NULL, 0));
        char expected[32];
        snprintf(expected, sizeof expected, "found %zu numbers", length);
        CHECK(strstr(fresnel_last_error(), expected));
    }
    fresnel_session_free(own);
    return NULL;
}

static void threads(const fresnel_model *model) {
    size_t outputs = fresnel_model_outputs(model);
    float *pixels = new_pixels(model, BATCH);
    float *expected = malloc(BATCH * outputs * sizeof *expected);
    fresnel_session *shared = new_session(model, 1);
    CHECK(expected);
    CHECK(fresnel_session_run(shared, pixels, BATCH * image_length(model), BATCH, expected,
                              BATCH * outputs) == FRESNEL_STATUS_OK);
    pthread_t workers[THREADS];
    job jobs[THREADS];
    for (unsigned number = 0; number < THREADS; number++) {
        jobs[number] = (job){model, shared, pixels, expected, outputs, number};
        CHECK(!pthread_create(&workers[number], NULL, work, &jobs[number]));
    }
    for (unsigned number = 0; number < THREADS; number++) {
        CHECK(!pthread_join(workers[number], NULL));
    }
    fresnel_session_free(shared);
    free(expected);
    free(pixels);
}

static void *cancel(void *session) {
    fresnel_session_cancel(session);
    return NULL;
}

static void cancelling(const fresnel_model *model) {
    fresnel_session *session = new_session(model, 1);
    size_t length = image_length(model), outputs = fresnel_model_outputs(model);
    float *pixels = new_pixels(model, 1);
    float *logits = malloc(outputs * sizeof *logits);
    CHECK(logits);
    pthread_t worker;
    CHECK(!pthread_create(&worker, NULL, cancel, session));
    fresnel_status status;
    do {
        status = fresnel_session_run(session, pixels, length, 1, logits, outputs);
    } while (status == FRESNEL_STATUS_OK);
    CHECK(status == FRESNEL_STATUS_CANCELLED);
    CHECK(!pthread_join(worker, NULL));
    fresnel_session_reset(session);
    CHECK(fresnel_session_run(session, pixels, length, 1, logits, outputs) == FRESNEL_STATUS_OK);
    CHECK(*fresnel_last_error() == 0);
    free(logits);
    free(pixels);
    fresnel_session_free(session);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    CHECK(fresnel_abi_version() == FRESNEL_ABI_VERSION && *fresnel_version());
    file bytes = read_file(argv[1]);
    file picture = read_file(argv[2]);
    fresnel_model *model;
    CHECK(fresnel_model_from_memory(bytes.bytes, bytes.length, &model) == FRESNEL_STATUS_OK);
    wrong_arguments(model);
    hostile_models(bytes);
    hostile_pictures(model, picture);
    threads(model);
    cancelling(model);

    /* A session outlives its model. */
    fresnel_session *session = new_session(model, 1);
    fresnel_model_free(model);
    CHECK(fresnel_session_threads(session) == 1);
    fresnel_session_free(session);
    free(picture.bytes);
    free(bytes.bytes);
    puts("the C interface holds");
    return 0;
}
