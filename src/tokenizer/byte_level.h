/* byte_level.h: the character that stands for each byte in GPT-2's byte-level alphabet. */
#ifndef EMB_TOKENIZER_BYTE_LEVEL_H
#define EMB_TOKENIZER_BYTE_LEVEL_H

#include <stdint.h>

/* '!'..'~', U+00A1..U+00AC and U+00AE..U+00FF stand for themselves, the 68 others for U+0100 and up. */
static inline uint32_t emb_byte_character(unsigned char byte)
{
    if ((byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD))
        return byte;
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte <= 0xA0)
        return 0x100u + 0x21u + (byte - 0x7Fu);
    return 0x143u; /* 0xAD, the last one */
}

#endif
