#include "tests/support/programs/faults.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 16 };

/* PATH of build/tests/faults/fail_io.so beside the running test program; ends it when that was not built. */
static void fail_io_path(char *out, size_t size) {
    char self[PATH_MAX - 32]; /* the name goes behind it */
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *tests = strstr(self, "/tests/"); /* the last one: folders above may be called so too */
    while (tests && strstr(tests + 1, "/tests/"))
        tests = strstr(tests + 1, "/tests/");
    if (tests)
        *tests = 0;
    snprintf(out, size, "%s/tests/faults/fail_io.so", self);
    if (access(out, R_OK) != 0) {
        fprintf(stderr, "%s is missing: build it with make\n", out);
        abort();
    }
}

static void set_number(const char *name, int value) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

static void become_child(const char *const *arguments, const Fault *fault) {
    char shim[PATH_MAX], self[PATH_MAX];
    char *argv[MAX_ARGUMENTS + 2] = {self};
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    for (int i = 0; i < MAX_ARGUMENTS && arguments[i]; i++)
        argv[i + 1] = strdup(arguments[i]);
    fail_io_path(shim, sizeof shim);
    setenv("LD_PRELOAD", shim, 1);
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1); /* the sanitizer may come after the shim */
    setenv("FAIL_IO_PATH", fault->path, 1);
    setenv("FAIL_IO_CALLS", fault->calls ? fault->calls : "", 1);
    set_number("FAIL_IO_AT", fault->at);
    set_number("FAIL_IO_ERRNO", fault->code);
    set_number("FAIL_IO_STICKY", fault->sticky);
    set_number("FAIL_IO_SHORT", fault->short_writes);
    set_number("FAIL_IO_CORRUPT", fault->corrupt);
    execv(self, argv);
    perror(self);
    _exit(127);
}

int run_self(const char *const *arguments, const Fault *fault, char *output, size_t size) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        abort();
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        become_child(arguments, fault);
    }
    close(ends[1]);
    char block[1024];
    size_t used = 0;
    ssize_t n;
    while ((n = read(ends[0], block, sizeof block)) > 0)
        if (output) {
            size_t room = size - 1 - used, take = (size_t)n < room ? (size_t)n : room;
            memcpy(output + used, block, take);
            used += take;
        }
    if (output)
        output[used] = 0;
    close(ends[0]);
    int result;
    if (waitpid(child, &result, 0) != child)
        abort();
    return WIFEXITED(result) ? WEXITSTATUS(result) : 128 + WTERMSIG(result);
}
