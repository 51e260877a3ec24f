/* The tokenizer of a model's core, from when it is configured on, which a handle always is. */
#include "engine/detokenize.h"

#include "engine/engine.h"
#include "tokenizer/decoder.h"

emb_status emb_model_detokenize(const emb_model *model, const int32_t *ids, size_t count,
                                bool skip_special_tokens, emb_buf *out)
{
    return emb_tokenizer_decode(model->core->tokenizer, ids, count, skip_special_tokens, out);
}
