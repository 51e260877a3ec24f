/* Option structs of other versions: see options.h. The bound on the size catches a struct that was never
 * initialised before memory behind it is read. */
#include "engine/options.h"

#include "base/error.h"

#include <string.h>

enum { LARGEST = 1024 };

emb_status emb_options_copy(void *own, size_t own_size, const void *given, const char *type, emb_error *err)
{
    if (!given)
        return EMB_OK;
    size_t size;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > LARGEST)
        return emb_fail(err, EMB_E_INVALID, type, "%s.size is %zu: initialise the struct with its EMB_*_INIT",
                        type, size);
    for (size_t i = own_size; i < size; i++)
        if (((const unsigned char *)given)[i])
            return emb_fail(err, EMB_E_UNSUPPORTED, type,
                            "%s sets an option that this version of the library (%s) does not know", type,
                            emb_version());
    memcpy(own, given, size < own_size ? size : own_size);
    memcpy(own, &own_size, sizeof own_size);
    return EMB_OK;
}
