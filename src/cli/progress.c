/*
 * progress.c - progress on stderr: a bar, plain lines, JSON lines, or nothing
 */
#include "progress.h"

#include <stdio.h>
#include <string.h>

#include "wsurg/text.h"

enum { BAR_WIDTH = 24, PLAIN_SECONDS = 30 };

static void amount(const ws_progress *p, uint64_t n, char out[32])
{
    char bytes[24];

    if (strcmp(p->unit, "bytes") == 0) {
        ws_show_bytes(n, bytes);
        snprintf(out, 32, "%s", bytes);
    } else {
        snprintf(out, 32, "%llu %s", (unsigned long long)n, p->unit);
    }
}

/** "12 s", "3:05 min", "2:10 h"; empty when unknown. */
static void remaining(double eta, char out[24])
{
    const long s = eta >= 0.0 && eta < 1e7 ? (long)(eta + 0.5) : -1;

    if (s < 0)
        out[0] = '\0';
    else if (s < 100)
        snprintf(out, 24, "%ld s", s);
    else if (s < 6000)
        snprintf(out, 24, "%ld:%02ld min", s / 60, s % 60);
    else
        snprintf(out, 24, "%ld:%02ld h", s / 3600, s / 60 % 60);
}

static void draw_bar(ws_meter *m, const ws_progress *p, double share)
{
    char done[32], total[32], eta[24], bar[BAR_WIDTH + 1];
    const int full = (int)(share * BAR_WIDTH);

    memset(bar, '-', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = '\0';
    amount(p, p->done, done);
    amount(p, p->total, total);
    remaining(p->eta, eta);
    fprintf(stderr, "\r%-6s [%s] %3d %%  %s of %s%s%s%s%s\033[K", p->event, bar,
            (int)(share * 100.0), done, total, p->note ? ", " : "",
            p->note ? p->note : "", eta[0] ? ", left " : "", eta);
    m->drawn = true;
}

static void print_plain(ws_meter *m, const ws_progress *p, double share)
{
    char done[32], total[32], eta[24];
    const int tenth = (int)(share * 10.0);

    // Whichever is rarer: a new tenth, and half a minute since the last line.
    if (tenth <= m->shown_tenth || p->seconds - m->shown_at < PLAIN_SECONDS)
        return;
    m->shown_tenth = tenth;
    m->shown_at = p->seconds;
    amount(p, p->done, done);
    amount(p, p->total, total);
    remaining(p->eta, eta);
    fprintf(stderr, "wsurg: %s %d %%, %s of %s%s%s%s%s\n", p->event,
            (int)(share * 100.0), done, total, p->note ? ", " : "",
            p->note ? p->note : "", eta[0] ? ", left " : "", eta);
}

static void print_json(const ws_progress *p)
{
    char eta[32] = "null";

    if (p->eta >= 0.0)
        snprintf(eta, sizeof eta, "%.3f", p->eta);
    fprintf(stderr,
            "{\"event\":\"%s\",\"done\":%llu,\"total\":%llu,\"unit\":\"%s\","
            "\"seconds\":%.3f,\"eta\":%s}\n",
            p->event, (unsigned long long)p->done, (unsigned long long)p->total,
            p->unit, p->seconds, eta);
}

void ws_meter_update(void *meter, const ws_progress *p)
{
    ws_meter *m = meter;
    double share = p->total ? (double)p->done / (double)p->total : 0.0;

    share = share > 1.0 ? 1.0 : share;
    if (!m->event || strcmp(m->event, p->event) != 0) {
        m->event = p->event;
        m->shown_tenth = 0;
        m->shown_at = p->seconds;
    }
    switch (m->mode) {
    case WS_METER_BAR:
        draw_bar(m, p, share);
        break;
    case WS_METER_PLAIN:
        print_plain(m, p, share);
        break;
    case WS_METER_JSON:
        print_json(p);
        break;
    case WS_METER_AUTO:
    case WS_METER_NONE:
        break;
    }
}

void ws_meter_clear(ws_meter *m)
{
    if (m->drawn)
        fputs("\r\033[K", stderr);
    m->drawn = false;
}
