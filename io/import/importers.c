/* The table of importers. */
#include "io/import/import.h"

#include <stddef.h>

const Importer *const importers[] = {
#define X(name) &importer_##name,
    IMPORTERS(X)
#undef X
        NULL,
};
