/* Names what pictures show: JPEG and PNG files as they are, and PPM files as raw pixels, the way a camera's frames arrive.
 *
 *     classify model.fresnel picture...
 */
#include <fresnel.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 3 };

/* The whole file, for free(); null where it cannot be read. */
static uint8_t *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        return NULL;
    }
    uint8_t *bytes = NULL;
    *length = 0;
    for (size_t room = 1 << 16;; room *= 2) {
        uint8_t *larger = realloc(bytes, room);
        if (!larger) {
            break;
        }
        bytes = larger;
        *length += fread(bytes + *length, 1, room - *length, file);
        if (*length < room) {
            fclose(file);
            return bytes;
        }
    }
    free(bytes);
    fclose(file);
    return NULL;
}

/* Finds the pixels of a binary PPM with bytes for samples. */
static const uint8_t *ppm_pixels(const uint8_t *bytes, size_t length, uint32_t *width,
                                 uint32_t *height) {
    char header[64] = {0};
    int end = 0;
    memcpy(header, bytes, length < sizeof header - 1 ? length : sizeof header - 1);
    if (sscanf(header, "P6 %u %u 255%*1[ \n]%n", width, height, &end) != 2 || end == 0) {
        return NULL;
    }
    return bytes + end;
}

static fresnel_status classify(fresnel_session *session, const uint8_t *bytes, size_t length,
                               fresnel_prediction *predictions, size_t *count) {
    uint32_t width, height;
    const uint8_t *rgb = ppm_pixels(bytes, length, &width, &height);
    if (rgb) {
        size_t rgb_length = length - (size_t)(rgb - bytes);
        return fresnel_session_classify_rgb8(session, rgb, rgb_length, width, height, predictions,
                                             TOP, count);
    }
    return fresnel_session_classify_encoded(session, bytes, length, predictions, TOP, count);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s model.fresnel picture...\n", argv[0]);
        return 2;
    }
    if (fresnel_abi_version() != FRESNEL_ABI_VERSION) {
        fprintf(stderr, "the library is not the one of the header\n");
        return 1;
    }
    fresnel_model *model;
    fresnel_session *session;
    fresnel_session_options options = {.size = sizeof options, .threads = 1};
    if (fresnel_model_open(argv[1], &model) != FRESNEL_STATUS_OK ||
        fresnel_session_new(model, &options, &session) != FRESNEL_STATUS_OK) {
        fprintf(stderr, "%s\n", fresnel_last_error());
        return 1;
    }
    printf("%s: %zu x %zu pixels, %zu classes\n", fresnel_model_architecture(model),
           fresnel_model_width(model), fresnel_model_height(model), fresnel_model_classes(model));

    int failures = 0;
    for (int index = 2; index < argc; index++) {
        size_t length, count;
        uint8_t *bytes = read_file(argv[index], &length);
        if (!bytes) {
            perror(argv[index]);
            failures++;
            continue;
        }
        fresnel_prediction predictions[TOP];
        if (classify(session, bytes, length, predictions, &count) != FRESNEL_STATUS_OK) {
            fprintf(stderr, "%s: %s\n", argv[index], fresnel_last_error());
            failures++;
        } else {
            printf("%s\n", argv[index]);
            for (size_t place = 0; place < count; place++) {
                const char *name = fresnel_model_class_name(model, predictions[place].class_index);
                printf("  %6.2f %%  %s\n", predictions[place].probability * 100.0,
                       name ? name : "(no name)");
            }
        }
        free(bytes);
    }
    fresnel_session_free(session);
    fresnel_model_free(model);
    return failures > 0;
}
