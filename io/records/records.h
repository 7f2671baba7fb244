/* What a run writes down: metrics.jsonl, status.json and TensorBoard event files. Readers may come and go: every record
 * is appended with one write(), status.json is replaced atomically, and a full disk costs records, never a step: the
 * run says so at once and at its end. */
#ifndef EXCON_IO_RECORDS_H
#define EXCON_IO_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* ---- JSON text builder: keeps commas and escapes right; non-finite numbers become null, malformed UTF-8 becomes
 * U+FFFD. `text` is NULL before the first value, and for good once memory has run out. ---- */
typedef struct Json {
    char *text; /* malloc'ed, 0-terminated */
    size_t size, capacity;
    bool need_comma;
} Json;
void json_init(Json *json);
void json_free(Json *json);
void json_begin_object(Json *json, const char *key); /* key NULL: in an array or at the top */
void json_end_object(Json *json);
void json_begin_array(Json *json, const char *key);
void json_end_array(Json *json);
void json_number(Json *json, const char *key, double value); /* shortest text that reads back equal */
void json_integer(Json *json, const char *key, int64_t value);
void json_string(Json *json, const char *key, const char *value);
void json_bool(Json *json, const char *key, bool value);
/* A newline behind the last value, for an object that is a file of its own. */
void json_end_line(Json *json);

/* Version of the fields of metrics.jsonl, eval.json and status.json (docs/formats.md): the field "schema" of each
 * object. */
enum { RECORDS_SCHEMA = 1 };

/* ---- metrics.jsonl ---------------------------------------------------------------------------------------------- */
/* A failed open, here and of the event file, has unwound itself: *out is NULL, which the close functions pass over. */
typedef struct Metrics Metrics;
/* Opens for appending. When resuming, everything from the first record of step > `after_step` on, left by a killed run,
 * is cut off first (-1: keep); a torn last line always is. One write() per record; a record that does not fit on the
 * disk is taken back whole, and the file stays open for the next. */
Status metrics_open(Metrics **out, const char *path, int64_t after_step, Error *err);
/* Largest step of the records of the file at `path`; 0 when there is none. */
int64_t metrics_last_step(const char *path);
Status metrics_write(Metrics *metrics, const Json *object, Error *err); /* one line */
void metrics_close(Metrics *metrics);

/* ---- TensorBoard ------------------------------------------------------------------------------------------------- */
typedef struct Events Events;
/* DIR/events.out.tfevents.<seconds>.<host>.<pid>: TFRecords (length, masked crc32c) of Event messages; a new file per
 * start. */
Status events_open(Events **out, const char *dir, Error *err);
/* Tells readers that what earlier files of the folder hold of steps >= `step` is void: call it after a resume. */
void events_restart(Events *events, int64_t step);
/* Buffers one value; tags are cut at 256 bytes. */
void events_scalar(Events *events, const char *tag, int64_t step, float value);
/* A text that TensorBoard shows as Markdown, and an encoded picture (JPEG or PNG file) of these sides. Written at once,
 * behind what is buffered. */
void events_text(Events *events, const char *tag, int64_t step, const char *text);
void events_image(Events *events, const char *tag, int64_t step, int height, int width, const void *file, size_t size);
/* Hands what is buffered to the kernel; reports the first failure since the last flush. Lost records stay lost. */
Status events_flush(Events *events, Error *err);
void events_close(Events *events);
/* CRC-32C (Castagnoli) of `size` bytes. */
uint32_t crc32c(const void *data, size_t size);

#endif
