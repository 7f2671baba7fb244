/* Linked into AddressSanitizer builds only: libraries stay loaded to the end, so that LeakSanitizer can name the frames
 * of Open MPI's plugins and tests/sanitize/leaks.supp can tell their leaks from ours. */
int dlclose(void *handle);

int dlclose(void *handle) {
    (void)handle;
    return 0;
}
