/* JSON text, metrics.jsonl and TensorBoard event files. Event files are read back by a parser of this file's own
 * (bitwise CRC, protobuf fields by hand), compared with bytes TensorBoard's writer made, and read by TensorBoard where
 * installed. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>
#include <dirent.h>

#include "io/records/records.h"
#include "tests/support/files/files.h"
#include "tests/support/files/folder.h"

/* ---- JSON ---- */

static void test_json_text(void **state) {
    (void)state;
    Json json;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "event", "a\"b\\c\n\x01\xc3\xa9\xff\xe0\x80\x80");
    json_integer(&json, "big", INT64_MIN);
    json_begin_array(&json, "list");
    json_number(&json, NULL, 0.1);
    json_number(&json, NULL, NAN);
    json_number(&json, NULL, -INFINITY);
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_end_array(&json);
    json_begin_array(&json, "empty");
    json_end_array(&json);
    json_bool(&json, "yes", 1);
    json_bool(&json, "no", 0);
    json_end_object(&json);
    assert_string_equal(json.text, "{\"event\":\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa9\\ufffd\\ufffd\\ufffd\\ufffd\","
                                   "\"big\":-9223372036854775808,\"list\":[0.1,null,null,{}],\"empty\":[],"
                                   "\"yes\":true,\"no\":false}");
    assert_int_equal(json.size, strlen(json.text));
    json_free(&json);
    assert_null(json.text);
}

static void test_json_numbers_read_back(void **state) {
    (void)state;
    uint64_t bits = 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 5000; i++) {
        double value, back;
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        Json json;
        json_init(&json);
        json_number(&json, NULL, value);
        back = strtod(json.text, NULL);
        assert_memory_equal(&back, &value, sizeof value);
        json_free(&json);
    }
}

/* ---- metrics ---- */

static void write_step(Metrics *metrics, const char *event, int64_t step) {
    Json json;
    Error err;
    json_init(&json);
    json_begin_object(&json, NULL);
    json_string(&json, "event", event);
    json_begin_object(&json, "seconds");
    json_integer(&json, "step", 999999);
    json_end_object(&json);
    json_string(&json, "note", "\"step\":888888");
    json_integer(&json, "step", step);
    json_end_object(&json);
    assert_int_equal(metrics_write(metrics, &json, &err), STATUS_OK);
    json_free(&json);
}

static int count_lines(const char *path) {
    size_t size;
    char *text = file_read(path, &size);
    int lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    assert_true(size == 0 || text[size - 1] == '\n');
    free(text);
    return lines;
}

static void test_metrics_resume(void **state) {
    const char *path = folder_file(*state, "metrics.jsonl");
    Metrics *metrics;
    Error err;
    assert_int_equal(metrics_open(&metrics, path, -1, &err), STATUS_OK);
    for (int64_t step = 1; step <= 10; step++)
        write_step(metrics, "step", step);
    metrics_close(metrics);
    assert_int_equal(count_lines(path), 10);

    assert_int_equal(metrics_open(&metrics, path, -1, &err), STATUS_OK);
    metrics_close(metrics);
    assert_int_equal(count_lines(path), 10);

    struct stat before, after;
    stat(path, &before);
    assert_int_equal(metrics_open(&metrics, path, 7, &err), STATUS_OK);
    assert_int_equal(count_lines(path), 7);
    write_step(metrics, "step", 8);
    metrics_close(metrics);
    assert_int_equal(count_lines(path), 8);
    stat(path, &after);
    assert_int_equal(before.st_ino, after.st_ino);

    assert_int_equal(metrics_open(&metrics, path, 0, &err), STATUS_OK);
    metrics_close(metrics);
    assert_int_equal(count_lines(path), 0);
}

static void test_metrics_torn_line(void **state) {
    const char *path = folder_file(*state, "metrics.jsonl");
    static const char torn[] = "{\"event\":\"start\"}\n{\"event\":\"step\",\"step\":3}\n{\"event\":\"step\",\"st";
    Metrics *metrics;
    Error err;
    file_write(path, torn, sizeof torn - 1);
    assert_int_equal(metrics_open(&metrics, path, -1, &err), STATUS_OK);
    write_step(metrics, "step", 4);
    metrics_close(metrics);
    assert_int_equal(count_lines(path), 3);
    assert_int_equal(metrics_open(&metrics, folder_file(*state, "no/such/file"), -1, &err), STATUS_CANNOT_CREATE);
    assert_non_null(strstr(err.message, "no/such/file"));
}

/* A file size limit stands for a full disk: the record that does not fit leaves nothing behind. */
static void test_metrics_full_disk(void **state) {
    const char *path = folder_file(*state, "metrics.jsonl");
    Metrics *metrics;
    Error err;
    Json json;
    struct rlimit old;
    assert_int_equal(metrics_open(&metrics, path, -1, &err), STATUS_OK);
    write_step(metrics, "step", 1);
    json_init(&json);
    json_string(&json, NULL, "0123456789012345678901234567890123456789012345678901234567890123456789");
    size_t size;
    free(file_read(path, &size));
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){size + 20, old.rlim_max});
    Status full = metrics_write(metrics, &json, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(full, STATUS_IO);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(count_lines(path), 1);
    write_step(metrics, "step", 2);
    assert_int_equal(count_lines(path), 2);
    json_free(&json);
    metrics_close(metrics);
}

/* ---- CRC and events ---- */

static uint32_t crc_bitwise(const unsigned char *data, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
    }
    return crc ^ 0xFFFFFFFFu;
}

static void test_crc32c(void **state) {
    (void)state;
    unsigned char block[32];
    assert_int_equal(crc32c("123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c("", 0), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(crc32c(block, 32), 0x8A9136AAu); /* RFC 3720, B.4 */
    memset(block, 0xFF, sizeof block);
    assert_int_equal(crc32c(block, 32), 0x62A8AB43u);
    for (unsigned i = 0; i < 32; i++)
        block[i] = (unsigned char)i;
    assert_int_equal(crc32c(block, 32), 0x46DD794Eu);
    for (size_t n = 0; n <= 32; n++)
        assert_int_equal(crc32c(block, n), crc_bitwise(block, n));
}

static uint64_t fixed(const unsigned char *at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static uint32_t mask(uint32_t crc) {
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Payload of the TFRecord at `at`, both sums checked; NULL when it does not hold together. */
static const unsigned char *record_payload(const unsigned char *at, size_t left, size_t *size) {
    if (left < 16)
        return NULL;
    *size = fixed(at, 8);
    if (*size > left - 16 || fixed(at + 8, 4) != mask(crc_bitwise(at, 8)) ||
        fixed(at + 12 + *size, 4) != mask(crc_bitwise(at + 12, *size)))
        return NULL;
    return at + 12;
}

/* The parser above on a record made by TensorBoard's own RecordWriter, and on its damage. */
static void test_record_parser_on_known_bytes(void **state) {
    (void)state;
    unsigned char bytes[] = {0x0f, 0,   0,   0,   0,   0,   0,   0,   0x6d, 0x53, 0x2b, 0x09, 'e',  'x',  'c', 'o',
                             'n',  ' ', 'r', 'e', 'c', 'o', 'r', 'd', ' ',  0x00, 0xff, 0x5a, 0x36, 0xc1, 0x96};
    size_t size;
    const unsigned char *payload = record_payload(bytes, sizeof bytes, &size);
    assert_non_null(payload);
    assert_int_equal(size, 15);
    assert_memory_equal(payload, "excon record \0\xff", 15);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_null(record_payload(bytes, sizeof bytes, &size));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void only_file(const Folder *folder, const char *prefix, char *out, size_t size) {
    DIR *dir = opendir(folder->path);
    int found = 0;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            snprintf(out, size, "%s/%s", folder->path, entry->d_name);
            found++;
        }
    closedir(dir);
    assert_int_equal(found, 1);
}

static void test_events_bytes(void **state) {
    /* Event{step 300, summary{value{tag "loss", simple_value 0.25}}} as serialised by protobuf, without its wall time.
     */
    static const unsigned char want[] = {0x10, 0xac, 0x02, 0x2a, 0x0d, 0x0a, 0x0b, 0x0a, 0x04,
                                         'l',  'o',  's',  's',  0x15, 0x00, 0x00, 0x80, 0x3e};
    Events *events;
    Error err;
    char path[PATH_MAX];
    size_t size, n;
    assert_int_equal(events_open(&events, ((Folder *)*state)->path, &err), STATUS_OK);
    events_scalar(events, "loss", 300, 0.25f);
    events_restart(events, 7);
    for (int i = 0; i < 5000; i++)
        events_scalar(events, "many", -i, (float)i);
    assert_int_equal(events_flush(events, &err), STATUS_OK);
    events_close(events);

    only_file(*state, "events.out.tfevents.", path, sizeof path);
    unsigned char *text = (unsigned char *)file_read(path, &size);
    const unsigned char *at = text, *payload = record_payload(at, size, &n);
    assert_non_null(payload);
    assert_int_equal(n, 9 + 15);
    assert_int_equal(payload[0], 0x09);
    double seconds;
    memcpy(&seconds, payload + 1, 8);
    assert_true(fabs(seconds - (double)time(NULL)) < 60);
    assert_memory_equal(payload + 9,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);
    at = payload + n + 4;

    payload = record_payload(at, size - (size_t)(at - text), &n);
    assert_non_null(payload);
    assert_int_equal(n, 9 + sizeof want);
    assert_memory_equal(payload + 9, want, sizeof want);
    at = payload + n + 4;

    payload = record_payload(at, size - (size_t)(at - text), &n);
    assert_non_null(payload);
    assert_int_equal(n, 9 + 6);
    assert_memory_equal(payload + 9, "\x10\x07\x3a\x02\x08\x01", 6);
    at = payload + n + 4;

    int records = 0;
    for (; at < text + size; at = payload + n + 4, records++)
        assert_non_null(payload = record_payload(at, size - (size_t)(at - text), &n));
    assert_int_equal(records, 5000);
    free(text);
}

/* Records of any size, behind a buffered one. Without their wall time: the picture as serialised by protobuf, the text
 * with the fields of its value in another order (tag, metadata, tensor). */
static void test_events_pictures_and_texts(void **state) {
    static const unsigned char head[] = {0x10, 0x05, 0x2a, 0x97, 0x01, 0x0a, 0x94, 0x01, 0x0a, 0x03, 0x61, 0x2f, 0x62,
                                         0x22, 0x8c, 0x01, 0x08, 0xac, 0x02, 0x10, 0x07, 0x18, 0x03, 0x22, 0x82, 0x01};
    static const unsigned char words[] = {0x10, 0x01, 0x2a, 0x1d, 0x0a, 0x1b, 0x0a, 0x01, 'c',  0x4a, 0x08,
                                          0x0a, 0x06, 0x0a, 0x04, 't',  'e',  'x',  't',  0x42, 0x0c, 0x08,
                                          0x07, 0x12, 0x04, 0x12, 0x02, 0x08, 0x01, 0x42, 0x02, 'h',  'i'};
    enum { LARGE = 300000 };
    Events *events;
    Error err;
    char path[PATH_MAX], *picture = malloc(LARGE);
    size_t size, n;
    memset(picture, 'x', LARGE);
    assert_int_equal(events_open(&events, ((Folder *)*state)->path, &err), STATUS_OK);
    events_scalar(events, "first", 1, 1);
    events_image(events, "a/b", 5, 300, 7, picture, 130);
    events_text(events, "c", 1, "hi");
    events_image(events, "large", 6, 500, 200, picture, LARGE);
    assert_int_equal(events_flush(events, &err), STATUS_OK);
    events_close(events);
    only_file(*state, "events.out.tfevents.", path, sizeof path);
    unsigned char *text = (unsigned char *)file_read(path, &size);
    const unsigned char *at = text, *end = text + size, *payload = NULL;
    for (int record = 0; record < 5; record++, at = payload + n + 4) {
        assert_non_null(payload = record_payload(at, (size_t)(end - at), &n));
        if (record == 2) {
            assert_int_equal(n, 9 + sizeof head + 130);
            assert_memory_equal(payload + 9, head, sizeof head);
            assert_memory_equal(payload + 9 + sizeof head, picture, 130);
        } else if (record == 3) {
            assert_int_equal(n, 9 + sizeof words);
            assert_memory_equal(payload + 9, words, sizeof words);
        } else if (record == 4) {
            assert_true(n > LARGE && n < LARGE + 100);
            assert_memory_equal(payload + n - LARGE, picture, LARGE);
        }
    }
    assert_ptr_equal(at, end);
    free(text);
    free(picture);
}

static void test_events_full_disk(void **state) {
    Events *events;
    Error err;
    char path[PATH_MAX];
    struct rlimit old;
    size_t before, after;
    assert_int_equal(events_open(&events, ((Folder *)*state)->path, &err), STATUS_OK);
    only_file(*state, "events.out.tfevents.", path, sizeof path);
    free(file_read(path, &before));
    events_scalar(events, "loss", 1, 1);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){before + 5, old.rlim_max});
    Status full = events_flush(events, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(full, STATUS_IO);
    free(file_read(path, &after));
    assert_int_equal(after, before);
    assert_int_equal(events_flush(events, &err), STATUS_OK);
    events_close(events);
}

/* TensorBoard's own reader, over a run that was killed after step 3 and resumed from step 1. */
static void test_events_tensorboard(void **state) {
    const Folder *folder = *state;
    Events *events;
    Error err;
    char command[PATH_MAX + 256], text[4096];
    for (int start = 0; start < 2; start++) {
        assert_int_equal(events_open(&events, folder->path, &err), STATUS_OK);
        if (start)
            events_restart(events, 2);
        for (int step = start ? 2 : 1; step <= 3; step++)
            events_scalar(events, "train/loss", step, (float)step / 3 + (start ? 10.f : 0.f));
        events_close(events);
    }
    static const char want[] = "scalar train/loss 1 0.333333\nscalar train/loss 2 10.6667\nscalar train/loss 3 11\n";
    const char *python = getenv("PYTHON");
    snprintf(command, sizeof command, "%s tests/support/shell/event_list.py %s tensorboard",
             python && *python ? python : "python3", folder->path);
    FILE *list = popen(command, "r");
    assert_non_null(list);
    text[fread(text, 1, sizeof text - 1, list)] = '\0';
    int result = pclose(list);
    assert_true(WIFEXITED(result));
    if (WEXITSTATUS(result) == 77) {
        print_message("skipped: Python package tensorboard is not installed (pip install tensorboard)\n");
        skip();
    }
    assert_string_equal(text, want);
    assert_int_equal(WEXITSTATUS(result), 0);
}

#define FOLDER_TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_text),
        cmocka_unit_test(test_json_numbers_read_back),
        FOLDER_TEST(test_metrics_resume),
        FOLDER_TEST(test_metrics_torn_line),
        FOLDER_TEST(test_metrics_full_disk),
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_record_parser_on_known_bytes),
        FOLDER_TEST(test_events_bytes),
        FOLDER_TEST(test_events_pictures_and_texts),
        FOLDER_TEST(test_events_full_disk),
        FOLDER_TEST(test_events_tensorboard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
