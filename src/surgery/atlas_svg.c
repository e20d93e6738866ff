/*
 * atlas_svg.c - coefficients as a heat map: layer by module, a panel for each task
 *
 * A tensor's layer is the first part of its name that is a number, its module what
 * comes after; tensors without a number have a line of their own below. Blue is
 * negative, red positive, white 0, the scale the same in all panels. Groups of a block
 * are shown by their mean.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "surgery/atlas_run.h"
#include "wsurg/alloc.h"

enum { CELL_W = 30, CELL_H = 16, LEFT = 60, TOP = 150, GAP = 40, LEGEND = 50 };

/** Where each block stands. */
struct grid {
    const ws_atlas_result *r;
    long *layer;         // (n_blocks) row, or -1: outside the layers
    const char **module; // (n_blocks) name of the column
    size_t *col;         // (n_blocks) column, or line among those outside
    const char **cols;   // (n_cols)
    size_t n_cols, n_out;
    long rows;
    double most;
    ws_arena arena;
};

static void put_text(ws_buf *b, const char *s)
{
    for (; *s != '\0'; s++)
        if (*s == '<')
            ws_buf_puts(b, "&lt;");
        else if (*s == '>')
            ws_buf_puts(b, "&gt;");
        else if (*s == '&')
            ws_buf_puts(b, "&amp;");
        else
            ws_buf_putc(b, *s);
}

/** The first part of @p name that is a number, and what follows it. */
static long layer_of(const char *name, const char **module)
{
    for (const char *p = name; p != NULL; p = strchr(p, '.')) {
        p += *p == '.';
        const size_t digits = strspn(p, "0123456789");
        if (digits == 0 || digits > 6 || p[digits] != '.')
            continue;
        *module = p + digits + 1;
        return strtol(p, NULL, 10);
    }
    *module = name;
    return -1;
}

static double value_of(const ws_atlas_result *r, size_t k, size_t i)
{
    const double *x = r->lambda + (k * r->n_blocks + i) * r->partitions;
    double sum = 0.0;
    for (uint32_t g = 0; g < r->partitions; g++)
        sum += x[g];
    return sum / r->partitions;
}

static bool grid_make(struct grid *g, const ws_atlas_result *r)
{
    const size_t n = r->n_blocks;
    g->r = r;
    g->layer = ws_arena_calloc(&g->arena, n, sizeof *g->layer);
    g->module = ws_arena_calloc(&g->arena, n, sizeof *g->module);
    g->col = ws_arena_calloc(&g->arena, n, sizeof *g->col);
    g->cols = ws_arena_calloc(&g->arena, n, sizeof *g->cols);
    if (!g->layer || !g->module || !g->col || !g->cols)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t c = 0;
        g->layer[i] = layer_of(r->blocks[i], &g->module[i]);
        if (g->layer[i] < 0) {
            g->col[i] = g->n_out++;
            continue;
        }
        while (c < g->n_cols && strcmp(g->cols[c], g->module[i]) != 0)
            c++;
        if (c == g->n_cols)
            g->cols[g->n_cols++] = g->module[i];
        g->col[i] = c;
        g->rows = g->layer[i] + 1 > g->rows ? g->layer[i] + 1 : g->rows;
    }
    for (size_t k = 0; k < r->n_models; k++)
        for (size_t i = 0; i < n; i++)
            g->most = fmax(g->most, fabs(value_of(r, k, i)));
    return true;
}

static void put_cell(ws_buf *b, double x, double y, double value, double most)
{
    static const int end[2][3] = { { 33, 102, 172 }, { 178, 24, 43 } };
    const double t = most > 0.0 ? fabs(value) / most : 0.0;
    int rgb[3];
    for (int c = 0; c < 3; c++)
        rgb[c] = (int)(250.0 + t * (end[value > 0.0][c] - 250) + 0.5);
    ws_buf_printf(b,
                  "<rect x=\"%.0f\" y=\"%.0f\" width=\"%d\" height=\"%d\" "
                  "fill=\"#%02x%02x%02x\" stroke=\"#ccc\" stroke-width=\"0.5\">",
                  x, y, CELL_W, CELL_H, rgb[0], rgb[1], rgb[2]);
}

static void put_label(ws_buf *b, double x, double y, const char *more, const char *text)
{
    ws_buf_printf(b, "<text x=\"%.0f\" y=\"%.0f\"%s>", x, y, more);
    put_text(b, text);
    ws_buf_puts(b, "</text>\n");
}

static void put_panel(ws_buf *b, const struct grid *g, size_t k, double top)
{
    const ws_atlas_result *r = g->r;
    char text[64];
    put_label(b, 8, top - TOP + 24, " font-weight=\"bold\"", r->labels[k]);
    for (size_t c = 0; c < g->n_cols; c++) {
        const double x = LEFT + CELL_W * ((double)c + 0.5);
        snprintf(text, sizeof text, " transform=\"rotate(-50 %.0f %.0f)\"", x, top - 6);
        put_label(b, x, top - 6, text, g->cols[c]);
    }
    for (long l = 0; l < g->rows; l++) {
        snprintf(text, sizeof text, "%ld", l);
        put_label(b, LEFT - 8, top + CELL_H * ((double)l + 0.8), " text-anchor=\"end\"",
                  text);
    }
    for (size_t i = 0; i < r->n_blocks; i++) {
        const double v = value_of(r, k, i);
        const bool out = g->layer[i] < 0;
        const double line =
            out ? (double)g->rows + 0.5 + (double)g->col[i] * 1.1 : (double)g->layer[i];
        const double x = out ? LEFT : LEFT + CELL_W * (double)g->col[i];
        put_cell(b, x, top + CELL_H * line, v, g->most);
        ws_buf_puts(b, "<title>");
        put_text(b, r->blocks[i]);
        ws_buf_printf(b, ": %.4g</title></rect>\n", v);
        if (out)
            put_label(b, x + CELL_W + 6, top + CELL_H * (line + 0.8), "", r->blocks[i]);
    }
}

static void put_legend(ws_buf *b, const struct grid *g)
{
    char text[64];
    for (int i = 0; i <= 8; i++) {
        put_cell(b, LEFT + CELL_W * i, 22, g->most * (i - 4) / 4, g->most);
        ws_buf_puts(b, "</rect>\n");
    }
    for (int i = -1; i <= 1; i++) {
        snprintf(text, sizeof text, "%.3g", g->most * i);
        put_label(b, LEFT + CELL_W * (4.5 + 4 * i), 18, " text-anchor=\"middle\"",
                  text);
    }
}

void ws_atlas_svg(const ws_atlas_result *r, ws_buf *out)
{
    struct grid g = { 0 };
    if (!grid_make(&g, r)) {
        ws_arena_free(&g.arena);
        out->failed = true;
        return;
    }
    const double panel = TOP + CELL_H * ((double)g.rows + 1.1 * (double)g.n_out) + GAP;
    const double width = LEFT + CELL_W * (double)(g.n_cols > 10 ? g.n_cols : 10) + 140;
    const double height = LEGEND + panel * (double)r->n_models;
    ws_buf_printf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" "
                  "height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
                  "font-family=\"sans-serif\" font-size=\"11\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                  width, height, width, height);
    put_legend(out, &g);
    for (size_t k = 0; k < r->n_models; k++)
        put_panel(out, &g, k, LEGEND + TOP + panel * (double)k);
    ws_buf_puts(out, "</svg>\n");
    ws_arena_free(&g.arena);
}
