#include "tests/support/programs/probe.h"

#include <glob.h>
#include <hdf5.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/numbers/compare.h"

enum { MAX_ARGUMENTS = 128, MAX_RANK = 8 };

static const char *environment(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static const char *program(void) {
    return environment("EXCON", "build/excon");
}

const char *probe_missing(void) {
    return access(program(), X_OK) == 0 ? NULL : "there is no build/excon ($EXCON): run make first";
}

static void give_up(const char *what, const char *where) {
    fprintf(stderr, "golden files: cannot %s %s\n", what, where);
    exit(EXIT_FAILURE);
}

static void read_attribute(hid_t object, const char *name, char *text, size_t size, const char *where) {
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        give_up("find an attribute in", where);
    hid_t type = H5Aget_type(attribute);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0 || H5Tget_size(type) >= size)
        give_up("use an attribute of", where);
    memset(text, 0, size);
    if (H5Aread(attribute, type, text) < 0)
        give_up("read an attribute of", where);
    H5Tclose(type);
    H5Aclose(attribute);
}

/* 0 when there is no such attribute. */
static int read_count(hid_t object, const char *name, const char *where) {
    int value = 0;
    if (H5Aexists(object, name) == 0)
        return 0;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0 || H5Aread(attribute, H5T_NATIVE_INT, &value) < 0 || value < 1)
        give_up("use an attribute of", where);
    H5Aclose(attribute);
    return value;
}

static size_t append_cases(const char *path, ProbeCase **cases, size_t count) {
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file >= 0 && H5Aexists(file, "probe") == 0) {
        H5Fclose(file);
        return count;
    }
    hid_t runs = file < 0 ? -1 : H5Gopen2(file, "/expect", H5P_DEFAULT);
    H5G_info_t info;
    if (runs < 0 || H5Gget_info(runs, &info) < 0)
        give_up("open", path);
    *cases = realloc(*cases, (count + info.nlinks) * sizeof **cases);
    if (!*cases)
        give_up("find memory for", path);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        ProbeCase *test = &(*cases)[count++];
        memset(test, 0, sizeof *test);
        snprintf(test->file, sizeof test->file, "%s", path);
        read_attribute(file, "probe", test->operation, sizeof test->operation, path);
        read_attribute(file, "set", test->sets, sizeof test->sets, path);
        if (H5Lget_name_by_idx(runs, ".", H5_INDEX_NAME, H5_ITER_INC, i, test->run, sizeof test->run, H5P_DEFAULT) < 0)
            give_up("list the runs of", path);
        hid_t run = H5Gopen2(runs, test->run, H5P_DEFAULT);
        if (run < 0)
            give_up("open a run of", path);
        read_attribute(run, "args", test->args, sizeof test->args, path);
        test->ranks = read_count(run, "ranks", path);
        H5Gclose(run);
    }
    H5Gclose(runs);
    H5Fclose(file);
    return count;
}

ProbeCase *probe_cases(const char *prefix, size_t *count) {
    char pattern[PROBE_PATH];
    snprintf(pattern, sizeof pattern, "%s/%s*.h5", environment("GOLDEN", "tests/golden"), prefix);
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0)
        give_up("find any", pattern);
    ProbeCase *cases = NULL;
    *count = 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        *count = append_cases(found.gl_pathv[i], &cases, *count);
    globfree(&found);
    return cases;
}

static void print_file(const char *path) {
    FILE *file = fopen(path, "r");
    char line[PROBE_TEXT];
    while (file && fgets(line, sizeof line, file))
        printf("    %s", line);
    if (file)
        fclose(file);
}

/* A folder of its own for what Open MPI keeps while the program runs, left to tests/run.sh: the daemon of a single rank
 * outlives it, and clears the folder away while the next launch looks for it. */
static void own_session_folder(void) {
    char path[PROBE_PATH];
    snprintf(path, sizeof path, "%s/launch-XXXXXX", environment("TMPDIR", "/tmp"));
    if (mkdtemp(path))
        setenv("TMPDIR", path, 1);
}

static void child(char **arguments, const char *log, int ranks) {
    if (getenv("TMPDIR"))
        own_session_folder();
    if (!freopen(log, "w", stdout) || dup2(fileno(stdout), STDERR_FILENO) < 0)
        _exit(127);
    setenv("OMP_NUM_THREADS", ranks > 1 ? "1" : "2", 1);
    execvp(arguments[0], arguments);
    _exit(127);
}

static void add(char **arguments, int *count, const char *text) {
    if (*count + 1 >= MAX_ARGUMENTS)
        give_up("pass so many arguments, at", text);
    arguments[(*count)++] = (char *)(uintptr_t)text;
    arguments[*count] = NULL;
}

/* Adds the parts of `text` between separators, each after `option` if that is not NULL; text is cut in place. */
static void add_split(char **arguments, int *count, char *text, const char *separators, const char *option) {
    char *state = NULL;
    for (char *part = strtok_r(text, separators, &state); part; part = strtok_r(NULL, separators, &state)) {
        if (option)
            add(arguments, count, option);
        add(arguments, count, part);
    }
}

int probe_program(const char *const *list, int ranks, const char *log) {
    char rank_text[16];
    char *arguments[MAX_ARGUMENTS];
    int count = 0;
    snprintf(rank_text, sizeof rank_text, "%d", ranks);
    add(arguments, &count, "timeout");
    add(arguments, &count, "-k5");
    add(arguments, &count, "120");
    if (ranks > 1) {
        add(arguments, &count, environment("MPIRUN", "mpirun"));
        add(arguments, &count, "--oversubscribe");
        if (geteuid() == 0)
            add(arguments, &count, "--allow-run-as-root");
        add(arguments, &count, "--bind-to");
        add(arguments, &count, "none");
        add(arguments, &count, "-n");
        add(arguments, &count, rank_text);
    }
    add(arguments, &count, program());
    for (int i = 0; list[i]; i++)
        add(arguments, &count, list[i]);

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        child(arguments, log, ranks);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code != 0) {
        printf("excon %s %s, %d ranks: exit %d\n", list[0], list[1] ? list[1] : "", ranks, code);
        print_file(log);
    }
    return code;
}

int probe_run(const ProbeCase *test, int ranks, const char *out) {
    ProbeCase cut = *test;
    char log[PROBE_PATH], transport[40];
    char *arguments[MAX_ARGUMENTS];
    int count = 0;
    snprintf(log, sizeof log, "%s.log", out);
    add(arguments, &count, "probe");
    add(arguments, &count, test->operation);
    add(arguments, &count, test->file);
    add(arguments, &count, out);
    add(arguments, &count, "--backend");
    add(arguments, &count, environment("EXCON_BACKEND", "cpu"));
    snprintf(transport, sizeof transport, "comm.transport=%.20s", environment("EXCON_TRANSPORT", "auto"));
    add(arguments, &count, "--set");
    add(arguments, &count, transport);
    if (strcmp(test->operation, "supcon") != 0) {
        add(arguments, &count, "--weights");
        add(arguments, &count, test->file);
    }
    add_split(arguments, &count, cut.sets, "\n", "--set");
    add_split(arguments, &count, cut.args, " ", NULL);
    int code = probe_program((const char *const *)arguments, ranks, log);
    if (code != 0)
        printf("%s %s failed\n", test->file, test->run);
    return code;
}

typedef struct Values {
    double *data;
    int64_t n;
    int rank;
    hsize_t shape[MAX_RANK];
    int integral;
    double tolerance; /* its attribute, or -1 */
} Values;

static double own_tolerance(hid_t set) {
    double value = -1;
    if (H5Aexists(set, "tolerance") <= 0)
        return -1;
    hid_t attribute = H5Aopen(set, "tolerance", H5P_DEFAULT);
    if (attribute < 0 || H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0)
        value = 0;
    H5Aclose(attribute);
    return value;
}

/* 0, or -1 when there is no such readable dataset. */
static int read_values(hid_t place, const char *name, Values *out) {
    memset(out, 0, sizeof *out);
    if (H5Lexists(place, name, H5P_DEFAULT) <= 0)
        return -1;
    hid_t set = H5Dopen2(place, name, H5P_DEFAULT);
    if (set < 0)
        return -1;
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    int failed = -1;
    out->rank = H5Sget_simple_extent_ndims(space);
    if (out->rank >= 0 && out->rank <= MAX_RANK) {
        H5Sget_simple_extent_dims(space, out->shape, NULL);
        out->n = H5Sget_simple_extent_npoints(space);
        out->integral = H5Tget_class(type) == H5T_INTEGER;
        out->tolerance = own_tolerance(set);
        out->data = calloc((size_t)out->n + 1, sizeof *out->data);
        if (out->data && H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, out->data) >= 0)
            failed = 0;
    }
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
    return failed;
}

static int same_shape(const Values *a, const Values *b) {
    return a->rank == b->rank && memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

typedef struct Comparison {
    const char *what;
    hid_t got;
    const ProbeTolerance *tolerance;
    int compared, faults;
} Comparison;

static double allowed_for(const Comparison *comparison, const char *name, const Values *want) {
    if (want->integral || strcmp(name, "mask") == 0)
        return 0;
    if (want->tolerance >= 0)
        return want->tolerance;
    return strcmp(name, "loss") == 0 ? comparison->tolerance->loss : comparison->tolerance->other;
}

#if H5_VERSION_GE(1, 12, 0)
typedef H5O_info2_t ObjectInfo;
#define VISIT_OBJECTS H5Ovisit3
#else
typedef H5O_info_t ObjectInfo;
#define VISIT_OBJECTS H5Ovisit2
#endif

static herr_t compare_object(hid_t root, const char *name, const ObjectInfo *info, void *context) {
    Comparison *comparison = context;
    if (info->type != H5O_TYPE_DATASET)
        return 0;
    Values want, got = {0};
    comparison->compared++;
    if (read_values(root, name, &want) != 0) {
        printf("%s: %s: the expected values cannot be read\n", comparison->what, name);
        comparison->faults++;
    } else if (read_values(comparison->got, name, &got) != 0) {
        printf("%s: %s: missing from the output\n", comparison->what, name);
        comparison->faults++;
    } else if (!same_shape(&got, &want)) {
        printf("%s: %s: another shape: %d dimensions, %lld values; want %d, %lld\n", comparison->what, name, got.rank,
               (long long)got.n, want.rank, (long long)want.n);
        comparison->faults++;
    } else {
        const Tolerance tolerance = {.name = "its golden file",
                                     .relative_l2 = allowed_for(comparison, name, &want),
                                     .element_factor = INFINITY,
                                     .reason = "as a whole",
                                     .nan_is_open = true};
        char what[PROBE_TEXT + 256];
        snprintf(what, sizeof what, "%s: %s", comparison->what, name);
        comparison->faults += !compare_within(what, want.n, got.data, want.data, &tolerance);
    }
    free(got.data);
    free(want.data);
    return 0;
}

int probe_compare(const char *what, const char *want_file, const char *want_group, const char *got_file,
                  const ProbeTolerance *tolerance) {
    hid_t want = H5Fopen(want_file, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t group = want < 0 ? -1 : H5Gopen2(want, want_group, H5P_DEFAULT);
    hid_t got = H5Fopen(got_file, H5F_ACC_RDONLY, H5P_DEFAULT);
    Comparison comparison = {.what = what, .got = got, .tolerance = tolerance};
    if (group < 0 || got < 0) {
        printf("%s: cannot open %s\n", what, group < 0 ? want_file : got_file);
        comparison.faults++;
    } else if (VISIT_OBJECTS(group, H5_INDEX_NAME, H5_ITER_INC, compare_object, &comparison, H5O_INFO_BASIC) < 0 ||
               comparison.compared == 0) {
        printf("%s: nothing to compare in %s\n", what, want_file);
        comparison.faults++;
    }
    if (got >= 0)
        H5Fclose(got);
    if (group >= 0)
        H5Gclose(group);
    if (want >= 0)
        H5Fclose(want);
    return comparison.faults;
}
