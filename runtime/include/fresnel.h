/*
 * The C interface of fresnel: low-bit Vision Transformers from .fresnel files.
 *
 * Generated from runtime/src/ffi; do not edit. The embedding guide (runtime/EMBEDDING.md) tells how the libraries are built, and
 * examples/c/classify.c shows a whole program.
 *
 * Functions that can fail return a fresnel_status; fresnel_last_error then has a text. They write results only through their last
 * pointers, and leave those null or zero where they fail. A null pointer, a wrong length, a damaged file or picture is an error,
 * never a crash; a pointer to freed memory cannot be told. Nothing is printed, but for Rust's own message should the library have a
 * fault (FRESNEL_STATUS_INTERNAL). Any function may be called from any thread.
 */


#ifndef FRESNEL_H
#define FRESNEL_H

#include <stddef.h>
#include <stdint.h>

/**
 * Version of this interface. It grows when something that existed changes its meaning or goes; additions leave it.
 */
#define FRESNEL_ABI_VERSION 1

/**
 * What became of a call. fresnel_last_error has the details.
 */
typedef enum fresnel_status {
  /**
   * Done.
   */
  FRESNEL_STATUS_OK = 0,
  /**
   * The operating system refused to read.
   */
  FRESNEL_STATUS_IO = 1,
  /**
   * The bytes do not begin like a .fresnel file.
   */
  FRESNEL_STATUS_NOT_A_FRESNEL_FILE = 2,
  /**
   * The file has a version or a flag that this library does not know.
   */
  FRESNEL_STATUS_UNSUPPORTED_VERSION = 3,
  /**
   * The file or the picture ends early.
   */
  FRESNEL_STATUS_TRUNCATED = 4,
  /**
   * The file is damaged.
   */
  FRESNEL_STATUS_CORRUPT = 5,
  /**
   * A number exceeds a stated limit, or memory cannot be had.
   */
  FRESNEL_STATUS_LIMIT = 6,
  /**
   * The file is well formed but wrong.
   */
  FRESNEL_STATUS_INVALID = 7,
  /**
   * A picture cannot be decoded or has an unusable form.
   */
  FRESNEL_STATUS_IMAGE = 8,
  /**
   * An argument is null, misaligned, out of range, or does not fit the model.
   */
  FRESNEL_STATUS_INPUT = 9,
  /**
   * Not available in this build or on this machine.
   */
  FRESNEL_STATUS_UNSUPPORTED = 10,
  /**
   * Threads cannot be started, or an accelerator is missing, lost or out of memory.
   */
  FRESNEL_STATUS_DEVICE = 11,
  /**
   * The run was stopped by fresnel_session_cancel.
   */
  FRESNEL_STATUS_CANCELLED = 12,
  /**
   * A fault in the library itself. The handle concerned can only be freed; others stay usable.
   */
  FRESNEL_STATUS_INTERNAL = 13,
} fresnel_status;

/**
 * Arithmetic of the activations.
 */
enum fresnel_compute
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The fastest on this machine of F32 and those which the file records to agree with it.
   */
  FRESNEL_COMPUTE_AUTO = 0,
  /**
   * Float.
   */
  FRESNEL_COMPUTE_F32 = 1,
  /**
   * Rounded to bfloat16.
   */
  FRESNEL_COMPUTE_HALF = 2,
  /**
   * Quantised to 8 bit.
   */
  FRESNEL_COMPUTE_INT8 = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum fresnel_compute fresnel_compute;
#else
typedef uint32_t fresnel_compute;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A loaded model. Nothing changes it, so any number of threads may use one at once.
 */
typedef struct fresnel_model fresnel_model;

/**
 * What runs a model: its threads and buffers. Calls from several threads wait for each other; to run at once, make one session for
 * each thread.
 */
typedef struct fresnel_session fresnel_session;

/**
 * How a session computes. Zero is the default of every field but `size`, so set that and what should differ:
 * `fresnel_session_options options = {.size = sizeof options, .threads = 1};`
 */
typedef struct fresnel_session_options {
  /**
   * sizeof(fresnel_session_options), by which later versions know which fields the caller has.
   */
  size_t size;
  /**
   * Threads; 0: one per core; 1: the caller's own. Results do not depend on it.
   */
  uint32_t threads;
  /**
   * A fresnel_compute.
   */
  uint32_t compute;
} fresnel_session_options;

/**
 * A class with its probability; fresnel_model_class_name has its name.
 */
typedef struct fresnel_prediction {
  /**
   * Index of the class among the logits.
   */
  size_t class_index;
  /**
   * Its softmax, 0 to 1.
   */
  double probability;
} fresnel_prediction;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The interface's version that the library was built with: compare it with FRESNEL_ABI_VERSION of the header.
 */
uint32_t fresnel_abi_version(void);

/**
 * The library's own version, such as "0.1.0". The text is never freed.
 */
const char *fresnel_version(void);

/**
 * Opens the .fresnel file at `path` (UTF-8, ends with a zero) and stores the model in `*model`, null on failure.
 *
 * # Safety
 * `path` is null or ends with a zero; `model` is null or writable.
 */
enum fresnel_status fresnel_model_open(const char *path,
                                       struct fresnel_model **model);

/**
 * Loads a model from the `length` bytes of a .fresnel file in memory, which are not needed afterwards, and stores it in `*model`,
 * null on failure.
 *
 * # Safety
 * `bytes` is null or readable for `length` bytes; `model` is null or writable.
 */
enum fresnel_status fresnel_model_from_memory(const uint8_t *bytes,
                                              size_t length,
                                              struct fresnel_model **model);

/**
 * Frees a model; null is allowed. Sessions on it live on.
 *
 * # Safety
 * `model` is null or was not freed before, and no other call on it is under way.
 */
void fresnel_model_free(struct fresnel_model *model);

/**
 * Channels of the input; 0 for a null model.
 *
 * # Safety
 * `model` is null or a live model.
 */
size_t fresnel_model_channels(const struct fresnel_model *model);

/**
 * Height of the input in pixels; 0 for a null model.
 *
 * # Safety
 * `model` is null or a live model.
 */
size_t fresnel_model_height(const struct fresnel_model *model);

/**
 * Width of the input in pixels; 0 for a null model.
 *
 * # Safety
 * `model` is null or a live model.
 */
size_t fresnel_model_width(const struct fresnel_model *model);

/**
 * Numbers that come out for one image: logits, or features of a model without classes; 0 for a null model.
 *
 * # Safety
 * `model` is null or a live model.
 */
size_t fresnel_model_outputs(const struct fresnel_model *model);

/**
 * Number of classes; 0 for a model without classes and for a null model.
 *
 * # Safety
 * `model` is null or a live model.
 */
size_t fresnel_model_classes(const struct fresnel_model *model);

/**
 * Name of a class in UTF-8; null where the file has none, and for a null model. The text lives as long as the model.
 *
 * # Safety
 * `model` is null or a live model.
 */
const char *fresnel_model_class_name(const struct fresnel_model *model,
                                     size_t class_index);

/**
 * Name of the architecture, such as "deit_tiny_patch16_224"; null for a null model. The text lives as long as the model.
 *
 * # Safety
 * `model` is null or a live model.
 */
const char *fresnel_model_architecture(const struct fresnel_model *model);

/**
 * Resizes, crops and normalises a picture of 8-bit RGB into one image of input for fresnel_session_run.
 *
 * `rgb` holds `height` rows of `width` pixels of three bytes, without gaps: `length` is `width * height * 3`. `pixels` has room for
 * `pixels_length` numbers, at least channels * height * width of the model.
 *
 * # Safety
 * `model` is null or a live model; `rgb` is null or readable for `length` bytes; `pixels` is null or writable for `pixels_length`
 * numbers.
 */
enum fresnel_status fresnel_model_preprocess_rgb8(const struct fresnel_model *model,
                                                  const uint8_t *rgb,
                                                  size_t length,
                                                  uint32_t width,
                                                  uint32_t height,
                                                  float *pixels,
                                                  size_t pixels_length);

/**
 * Makes a session on `model` and stores it in `*session`, null on failure. `options` may be null.
 *
 * # Safety
 * `model` is null or a live model; `options` is null or readable for the `size` in it; `session` is null or writable.
 */
enum fresnel_status fresnel_session_new(const struct fresnel_model *model,
                                        const struct fresnel_session_options *options,
                                        struct fresnel_session **session);

/**
 * Frees a session; null is allowed.
 *
 * # Safety
 * `session` is null or was not freed before, and no other call on it is under way.
 */
void fresnel_session_free(struct fresnel_session *session);

/**
 * The arithmetic in use, never AUTO for a session; AUTO for null.
 *
 * # Safety
 * `session` is null or a live session.
 */
fresnel_compute fresnel_session_compute(const struct fresnel_session *session);

/**
 * Threads in use; 0 for null.
 *
 * # Safety
 * `session` is null or a live session.
 */
size_t fresnel_session_threads(const struct fresnel_session *session);

/**
 * Runs `batch` images: numbers in, numbers out.
 *
 * `pixels` is [batch, channels, height, width], prepared as the model wants it (fresnel_model_preprocess_rgb8 does so);
 * `pixels_length` counts all of its numbers. `outputs` receives [batch, outputs of the model]; `outputs_length` numbers have room
 * there.
 *
 * # Safety
 * `session` is null or a live session; `pixels` is null or readable for `pixels_length` numbers; `outputs` is null or writable for
 * `outputs_length` numbers.
 */
enum fresnel_status fresnel_session_run(const struct fresnel_session *session,
                                        const float *pixels,
                                        size_t pixels_length,
                                        size_t batch,
                                        float *outputs,
                                        size_t outputs_length);

/**
 * Finds the most probable classes of a picture of 8-bit RGB of any size.
 *
 * `rgb` holds `height` rows of `width` pixels of three bytes, without gaps: `length` is `width * height * 3`. Up to `capacity`
 * classes are stored in `predictions`, the most probable first, and their number in `*count`.
 *
 * # Safety
 * `session` is null or a live session; `rgb` is null or readable for `length` bytes; `predictions` is null or writable for
 * `capacity` elements; `count` is null or writable.
 */
enum fresnel_status fresnel_session_classify_rgb8(const struct fresnel_session *session,
                                                  const uint8_t *rgb,
                                                  size_t length,
                                                  uint32_t width,
                                                  uint32_t height,
                                                  struct fresnel_prediction *predictions,
                                                  size_t capacity,
                                                  size_t *count);

/**
 * Finds the most probable classes of a JPEG or PNG in memory, as fresnel_session_classify_rgb8 does. UNSUPPORTED in a library built
 * without the feature `images`.
 *
 * # Safety
 * `session` is null or a live session; `bytes` is null or readable for `length` bytes; `predictions` is null or writable for
 * `capacity` elements; `count` is null or writable.
 */
enum fresnel_status fresnel_session_classify_encoded(const struct fresnel_session *session,
                                                     const uint8_t *bytes,
                                                     size_t length,
                                                     struct fresnel_prediction *predictions,
                                                     size_t capacity,
                                                     size_t *count);

/**
 * Stops the session: the run under way ends before its next block with CANCELLED, and so do all later ones until
 * fresnel_session_reset. Returns at once, from any thread; null is allowed.
 *
 * # Safety
 * `session` is null or a live session.
 */
void fresnel_session_cancel(const struct fresnel_session *session);

/**
 * Lets a session run again after fresnel_session_cancel; null is allowed.
 *
 * # Safety
 * `session` is null or a live session.
 */
void fresnel_session_reset(const struct fresnel_session *session);

/**
 * What went wrong in the last call of this thread that returned a status, in one line of UTF-8; empty after success. The text is
 * valid until the thread's next such call.
 */
const char *fresnel_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FRESNEL_H */
