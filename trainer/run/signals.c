#include "trainer/run/signals.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a handler can reach is at file scope, as is what is seen before main: the mutable globals of the program. The
 * text is written into the buffer that is not `shown`, which is switched over when it is whole. */
static volatile sig_atomic_t pending, shown = -1;
static struct Notice {
    char path[PATH_MAX], temporary[PATH_MAX], text[SIGNALS_TEXT];
    size_t size;
} notices[2];

void signals_status(const char *path, const char *text, size_t size) {
    const int next = shown == 0;
    struct Notice *notice = &notices[next];
    if (!path || size > sizeof notice->text || strlen(path) + sizeof ".stop" > sizeof notice->temporary) {
        shown = -1;
        return;
    }
    snprintf(notice->path, sizeof notice->path, "%s", path);
    snprintf(notice->temporary, sizeof notice->temporary, "%s", path);
    strcat(notice->temporary, ".stop");
    memcpy(notice->text, text, size);
    notice->size = size;
    shown = next;
}

/* Calls that a handler may make, only. */
static void show_notice(void) {
    if (shown < 0)
        return;
    const struct Notice *notice = &notices[shown];
    const int fd = open(notice->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    const int whole = write(fd, notice->text, notice->size) == (ssize_t)notice->size;
    close(fd);
    if (!whole || rename(notice->temporary, notice->path) != 0)
        unlink(notice->temporary);
}

static void note(int number) {
    static const char told[] = "\nexcon: stopping after this step; Ctrl-C again: at once\n";
    const int before = pending;
    pending = number; /* first: another thread may take the next signal meanwhile */
    if (number == SIGINT && before == SIGINT) {
        signal(SIGINT, SIG_DFL); /* it comes when this handler returns, and ends the process */
        raise(SIGINT);
        return;
    }
    if (!before)
        show_notice();
    if (number == SIGINT && write(STDERR_FILENO, told, sizeof told - 1) < 0) {
        /* nobody to tell */
    }
}

/* What this process was started with, seen before any library's initialiser: UCX, which Debian 13's Open MPI loads,
 * takes SIGHUP for itself (UCX_DEBUG_SIGNO). */
static int hang_up_ignored, interrupt_ignored;

static int is_ignored(int number) {
    struct sigaction present;
    return sigaction(number, NULL, &present) == 0 && present.sa_handler == SIG_IGN;
}

static void look_first(int argc, char **argv, char **environment) {
    (void)argc, (void)argv, (void)environment;
    hang_up_ignored = is_ignored(SIGHUP);
    interrupt_ignored = is_ignored(SIGINT);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(int, char **,
                                                                                       char **) = look_first;

static void listen_to(int number) {
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if ((number == SIGHUP && hang_up_ignored) || (number == SIGINT && interrupt_ignored))
        action.sa_handler = SIG_IGN;
    sigaction(number, &action, NULL);
}

void signals_install(void) {
    static const int numbers[] = {SIGUSR2, SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        listen_to(numbers[i]);
}

int signals_pending(void) {
    return pending;
}
