/* TensorBoard event files. Records are encoded into a buffer and appended whole; a failed write drops the buffer, so a
 * full disk costs records and a warning, never memory.
 *
 * TFRecord: u64 length | u32 masked crc32c(length) | bytes | u32 masked crc32c(bytes), little-endian. The bytes are a
 * protobuf Event {1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary, 7: SessionLog}, with
 * Summary {1: Value}, Value {1: string tag, 2: float simple_value, 4: Image, 8: TensorProto, 9: SummaryMetadata},
 * SessionLog {1: enum status}, Image {1: height, 2: width, 3: colorspace, 4: bytes encoded_image_string},
 * TensorProto {1: enum dtype, 2: TensorShapeProto, 8: repeated bytes string_val} and
 * SummaryMetadata {1: PluginData {1: string plugin_name}}. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/files/files.h"
#include "io/records/append.h"
#include "io/records/records.h"

enum {
    BUFFER_BYTES = 1 << 16,
    TAG_LIMIT = 256, /* longer tags are cut */
    MESSAGE_BYTES = TAG_LIMIT + 64,
    FRAME_BYTES = 16,
    NAME_ATTEMPTS = 1000,
};

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct Events {
    int fd;
    int64_t end;
    char path[PATH_MAX];
    size_t used;
    Status failed; /* first failure since the last flush */
    Error error;
    unsigned char buffer[BUFFER_BYTES];
};

typedef struct Message {
    unsigned char bytes[MESSAGE_BYTES];
    size_t size;
} Message;

static void put_fixed(unsigned char *out, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

static void add_varint(Message *m, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        m->bytes[m->size++] = (unsigned char)(value | 0x80);
    m->bytes[m->size++] = (unsigned char)value;
}

static void add_key(Message *m, unsigned field, unsigned wire) {
    add_varint(m, field << 3 | wire);
}

static void add_bytes(Message *m, unsigned field, const void *data, size_t size) {
    add_key(m, field, WIRE_BYTES);
    add_varint(m, size);
    memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static void add_fixed(Message *m, unsigned field, unsigned wire, uint64_t bits, size_t size) {
    add_key(m, field, wire);
    put_fixed(m->bytes + m->size, bits, size);
    m->size += size;
}

static void add_double(Message *m, unsigned field, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_fixed(m, field, WIRE_64, bits, sizeof bits);
}

static void add_float(Message *m, unsigned field, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_fixed(m, field, WIRE_32, bits, sizeof bits);
}

static Message event_at(int64_t step) {
    Message m = {.size = 0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    add_double(&m, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    if (step != 0) {
        add_key(&m, 2, WIRE_VARINT);
        add_varint(&m, (uint64_t)step);
    }
    return m;
}

static uint32_t masked_crc(const void *data, size_t size) {
    uint32_t crc = crc32c(data, size);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void fail(Events *events, Status status, const Error *why) {
    if (events->failed != STATUS_OK)
        return;
    events->failed = status;
    events->error = *why;
}

static void write_out(Events *events) {
    if (events->used == 0)
        return;
    Error err = {.code = STATUS_OK};
    Status status = append_whole(events->fd, events->path, events->buffer, events->used, &events->end, &err);
    if (status != STATUS_OK)
        fail(events, status, &err);
    events->used = 0;
}

static void add_record(Events *events, const Message *m) {
    if (events->used + m->size + FRAME_BYTES > sizeof events->buffer)
        write_out(events);
    unsigned char *at = events->buffer + events->used;
    put_fixed(at, m->size, 8);
    put_fixed(at + 8, masked_crc(at, 8), 4);
    memcpy(at + 12, m->bytes, m->size);
    put_fixed(at + 12 + m->size, masked_crc(m->bytes, m->size), 4);
    events->used += m->size + FRAME_BYTES;
}

/* Opens a file of a new name; a second start within one second gets a number behind the name. */
static Status open_new(Events *events, const char *dir, Error *err) {
    char host[HOST_NAME_MAX + 1] = {0};
    if (gethostname(host, sizeof host - 1) != 0 || !host[0])
        snprintf(host, sizeof host, "localhost");
    for (int attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        char number[16] = "";
        if (attempt > 0)
            snprintf(number, sizeof number, ".%d", attempt);
        int n = snprintf(events->path, sizeof events->path, "%s/events.out.tfevents.%010lld.%s.%ld%s", dir,
                         (long long)time(NULL), host, (long)getpid(), number);
        if (n < 0 || (size_t)n >= sizeof events->path)
            return error_set(err, STATUS_CANNOT_CREATE, "folder name too long for an event file: %s", dir);
        events->fd = open(events->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
        if (events->fd >= 0)
            return STATUS_OK;
        if (errno != EEXIST)
            break;
    }
    return error_set(err, STATUS_CANNOT_CREATE, "cannot create %s: %s: %s", events->path, strerror(errno),
                     files_errno_advice(errno));
}

Status events_open(Events **out, const char *dir, Error *err) {
    static const char version[] = "brain.Event:2";
    *out = NULL;
    RETURN_IF(files_make_dirs(dir, err));
    Events *events = calloc(1, sizeof *events);
    if (!events)
        return error_set(err, STATUS_SYSTEM, "no memory for the event file");
    Status status = open_new(events, dir, err);
    if (status != STATUS_OK) {
        free(events);
        return status;
    }
    Message m = event_at(0);
    add_bytes(&m, 3, version, strlen(version));
    add_record(events, &m);
    status = events_flush(events, err);
    if (status != STATUS_OK) {
        events_close(events);
        return status;
    }
    *out = events;
    return STATUS_OK;
}

void events_restart(Events *events, int64_t step) {
    static const unsigned char start[] = {1 << 3 | WIRE_VARINT, 1};
    Message m = event_at(step);
    add_bytes(&m, 7, start, sizeof start);
    add_record(events, &m);
}

void events_scalar(Events *events, const char *tag, int64_t step, float value) {
    Message entry = {.size = 0}, summary = {.size = 0};
    add_bytes(&entry, 1, tag, strnlen(tag, TAG_LIMIT));
    add_float(&entry, 2, value);
    add_bytes(&summary, 1, entry.bytes, entry.size);
    Message m = event_at(step);
    add_bytes(&m, 5, summary.bytes, summary.size);
    add_record(events, &m);
}

/* Message around a large field: `before`, then field `number` with the `size` bytes at `inner`, which are freed. NULL
 * when memory has run out, here or before. */
static unsigned char *wrap(const Message *before, unsigned number, unsigned char *inner, size_t *size) {
    Message key = {.size = 0};
    add_key(&key, number, WIRE_BYTES);
    add_varint(&key, *size);
    const size_t total = before->size + key.size + *size;
    unsigned char *outer = inner ? malloc(total) : NULL;
    if (outer) {
        memcpy(outer, before->bytes, before->size);
        memcpy(outer + before->size, key.bytes, key.size);
        memcpy(outer + before->size + key.size, inner, *size);
        *size = total;
    }
    free(inner);
    return outer;
}

static unsigned char *copy_of(const void *data, size_t size) {
    unsigned char *copy = malloc(size ? size : 1);
    return copy ? memcpy(copy, data, size) : NULL;
}

/* A record too large for the buffer: Value { before, field `number`: inner }, which are freed, in a Summary. */
static void add_large(Events *events, const Message *before, unsigned number, unsigned char *inner, size_t size,
                      int64_t step) {
    const Message nothing = {.size = 0}, event = event_at(step);
    unsigned char frame[12], sum[4];
    Error err = {.code = STATUS_OK};
    unsigned char *bytes = wrap(before, number, inner, &size);
    bytes = wrap(&nothing, 1, bytes, &size);
    bytes = wrap(&event, 5, bytes, &size);
    unsigned char *record = bytes ? malloc(size + FRAME_BYTES) : NULL;
    write_out(events);
    if (!record) {
        error_set(&err, STATUS_SYSTEM, "no memory for a record of %s", events->path);
        fail(events, STATUS_SYSTEM, &err);
    } else {
        put_fixed(frame, size, 8);
        put_fixed(frame + 8, masked_crc(frame, 8), 4);
        put_fixed(sum, masked_crc(bytes, size), 4);
        memcpy(record, frame, 12);
        memcpy(record + 12, bytes, size);
        memcpy(record + 12 + size, sum, 4);
        Status status = append_whole(events->fd, events->path, record, size + FRAME_BYTES, &events->end, &err);
        if (status != STATUS_OK)
            fail(events, status, &err);
    }
    free(bytes);
    free(record);
}

void events_image(Events *events, const char *tag, int64_t step, int height, int width, const void *file, size_t size) {
    enum { RGB = 3 };
    Message value = {.size = 0}, image = {.size = 0};
    const int fields[] = {height, width, RGB};
    for (unsigned f = 0; f < 3; f++) {
        add_key(&image, f + 1, WIRE_VARINT);
        add_varint(&image, (uint64_t)fields[f]);
    }
    add_bytes(&value, 1, tag, strnlen(tag, TAG_LIMIT));
    unsigned char *body = wrap(&image, 4, copy_of(file, size), &size);
    add_large(events, &value, 4, body, size, step);
}

void events_text(Events *events, const char *tag, int64_t step, const char *text) {
    enum { DT_STRING = 7 };
    static const unsigned char shape[] = {2 << 3 | WIRE_BYTES, 2, 1 << 3 | WIRE_VARINT, 1}; /* {2: Dim {1: size 1}} */
    Message value = {.size = 0}, tensor = {.size = 0}, plugin = {.size = 0}, metadata = {.size = 0};
    size_t size = strlen(text);
    add_key(&tensor, 1, WIRE_VARINT);
    add_varint(&tensor, DT_STRING);
    add_bytes(&tensor, 2, shape, sizeof shape);
    add_bytes(&plugin, 1, "text", 4);
    add_bytes(&metadata, 1, plugin.bytes, plugin.size);
    add_bytes(&value, 1, tag, strnlen(tag, TAG_LIMIT));
    add_bytes(&value, 9, metadata.bytes, metadata.size);
    unsigned char *body = wrap(&tensor, 8, copy_of(text, size), &size);
    add_large(events, &value, 8, body, size, step);
}

Status events_flush(Events *events, Error *err) {
    write_out(events);
    Status status = events->failed;
    if (status != STATUS_OK && err)
        *err = events->error;
    events->failed = STATUS_OK;
    return status;
}

void events_close(Events *events) {
    if (!events)
        return;
    write_out(events);
    close(events->fd);
    free(events);
}
