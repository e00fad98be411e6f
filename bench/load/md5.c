/* MD5 (RFC 1321) of short texts: a challenge with a secret. */
#include <math.h>
#include <string.h>

#include "load.h"

enum { BLOCK = 64, TEXT_LIMIT = 1024 };

static uint32_t sines[64];

static uint32_t rotated(uint32_t word, int by) { return word << by | word >> (32 - by); }

static void prepare_sines(void) {
    for (int i = 0; i < 64; i++) sines[i] = (uint32_t)(fabs(sin(i + 1)) * 4294967296.0);
}

static void digest_block(uint32_t state[4], const unsigned char *block) {
    static const int shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t word[16], a = state[0], b = state[1], c = state[2], d = state[3];
    for (int i = 0; i < 16; i++, block += 4)
        word[i] = block[0] | block[1] << 8 | block[2] << 16 | (uint32_t)block[3] << 24;
    for (int i = 0; i < 64; i++) {
        uint32_t mixed;
        int from;
        switch (i / 16) {
        case 0: mixed = (b & c) | (~b & d), from = i; break;
        case 1: mixed = (b & d) | (c & ~d), from = (5 * i + 1) % 16; break;
        case 2: mixed = b ^ c ^ d, from = (3 * i + 5) % 16; break;
        default: mixed = c ^ (b | ~d), from = 7 * i % 16;
        }
        uint32_t next = b + rotated(a + mixed + word[from] + sines[i], shifts[i / 16][i % 4]);
        a = d, d = c, c = b, b = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
}

void md5_hex(const char *data, size_t length, char hex[33]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char padded[TEXT_LIMIT + 2 * BLOCK] = {0};
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    if (length > TEXT_LIMIT) length = TEXT_LIMIT;
    if (!sines[0]) prepare_sines();
    memcpy(padded, data, length);
    padded[length] = 0x80;
    size_t total = (length + 8) / BLOCK * BLOCK + BLOCK;
    for (int i = 0; i < 8; i++) padded[total - 8 + i] = (unsigned char)((uint64_t)length * 8 >> 8 * i);
    for (size_t at = 0; at < total; at += BLOCK) digest_block(state, padded + at);
    for (int i = 0; i < 16; i++) {
        unsigned char octet = (unsigned char)(state[i / 4] >> 8 * (i % 4));
        hex[2 * i] = digits[octet >> 4];
        hex[2 * i + 1] = digits[octet & 15];
    }
    hex[32] = 0;
}
