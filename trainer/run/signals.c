#include "trainer/run/signals.h"

#include <signal.h>
#include <stddef.h>

/* A handler can reach nothing but file scope: the one mutable global of the program. */
static volatile sig_atomic_t pending;

static void note(int number) {
    pending = number;
}

void signals_install(void) {
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int signals_pending(void) {
    return pending;
}
