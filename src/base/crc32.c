/*
 * crc32.c - CRC-32 of zip archives (APPNOTE.TXT 4.4.7)
 *
 * Bytes are a polynomial over GF(2), lowest bit first, reduced modulo POLY. Eight bytes
 * at a time: table[k][b] is what byte b leaves k bytes further on. Two parts are joined
 * by multiplying the first one's remainder with x^(8 n).
 */
#include "base/crc32.h"

#include <string.h>

#define POLY 0xEDB88320u

void ws_crc32_init(ws_crc32 *c)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t r = b;
        for (int i = 0; i < 8; i++)
            r = r & 1 ? r >> 1 ^ POLY : r >> 1;
        c->table[0][b] = r;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t b = 0; b < 256; b++) {
            const uint32_t r = c->table[k - 1][b];
            c->table[k][b] = r >> 8 ^ c->table[0][r & 255];
        }
}

uint32_t ws_crc32_add(const ws_crc32 *c, uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t r = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        const uint32_t low = r ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 |
                                  (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        r = c->table[7][low & 255] ^ c->table[6][low >> 8 & 255] ^
            c->table[5][low >> 16 & 255] ^ c->table[4][low >> 24] ^ c->table[3][p[4]] ^
            c->table[2][p[5]] ^ c->table[1][p[6]] ^ c->table[0][p[7]];
    }
    for (; n > 0; n--)
        r = r >> 8 ^ c->table[0][(r ^ *p++) & 255];
    return ~r;
}

/** a * b modulo POLY; bit 31 is x^0. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = b & 1 ? b >> 1 ^ POLY : b >> 1;
    }
    return product;
}

uint32_t ws_crc32_join(uint32_t a, uint32_t b, uint64_t n)
{
    uint32_t power = 0x80000000u >> 8; // x^8, squared for each bit of n
    for (; n != 0; n >>= 1) {
        if (n & 1)
            a = multiply(power, a);
        power = multiply(power, power);
    }
    return a ^ b;
}
