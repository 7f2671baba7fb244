#include "trainer/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void output_open(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) /* the lowest free number is the next to be given; it cannot do what it is for */
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

Status output_close(Status status, Error *err) {
    const int lost = ferror(stdout);
    errno = 0;
    const int failed = fclose(stdout) != 0, code = errno;
    if (status != STATUS_OK || (!lost && !failed))
        return status;
    return error_set(err, STATUS_IO, "standard output could not be written%s%s: what stands there is not complete",
                     code ? ": " : "", code ? strerror(code) : "");
}
