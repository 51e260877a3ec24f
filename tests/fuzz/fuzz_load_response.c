/* What a server may answer to a load test: in two pieces, cut where the first byte says, it comes out as in
 * one. */
#include "cli/load_response.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static emb_load_response whole, parts;
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 1;
    size_t length = size - 1, cut = data[0] % length;
    emb_load_response_start(&whole);
    emb_load_response_start(&parts);
    size_t used = emb_load_response_feed(&whole, text, length);
    size_t first = emb_load_response_feed(&parts, text, cut), second = 0;
    if (parts.state == EMB_LOAD_MORE)
        second = emb_load_response_feed(&parts, text + first, length - first);
    if (used > length || whole.state != parts.state || used != first + second ||
        whole.status != parts.status || whole.body_bytes != parts.body_bytes || whole.tokens != parts.tokens)
        abort();
    emb_load_response_end(&whole);
    if (whole.state == EMB_LOAD_MORE)
        abort();
    return 0;
}
