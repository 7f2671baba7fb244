/* Spatter on the lens: drops of water, whose light and dark rims follow the distance from their edges, or mud.
 *
 * The published code does the water by OpenCV; here are the same steps in integers (Canny's edges, the 5x5 chamfer
 * distance, histogram equalisation, an embossing kernel). Grey images are int [side,side]. */
#include <stdlib.h>
#include <string.h>

#include "trainer/evaluate/corruptions/work.h"

/* ---- edges ---- */

enum { EDGE_LOW = 50, EDGE_HIGH = 150 };

/* Horizontal and vertical derivative by Sobel's 3x3 kernels, the border repeated. */
static void sobel(const int *grey, int side, int *dx, int *dy) {
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const int *rows[3];
            int at[3];
            for (int k = 0; k < 3; k++) {
                rows[k] = grey + border_index(y + k - 1, side, BORDER_NEAREST) * side;
                at[k] = border_index(x + k - 1, side, BORDER_NEAREST);
            }
            *dx++ = rows[0][at[2]] - rows[0][at[0]] + 2 * (rows[1][at[2]] - rows[1][at[0]]) + rows[2][at[2]] -
                    rows[2][at[0]];
            *dy++ = rows[2][at[0]] - rows[0][at[0]] + 2 * (rows[2][at[1]] - rows[0][at[1]]) + rows[2][at[2]] -
                    rows[0][at[2]];
        }
}

/* |dx| + |dy| at (y, x); 0 outside. */
static int steepness(const int *dx, const int *dy, int side, int y, int x) {
    if (y < 0 || x < 0 || y >= side || x >= side)
        return 0;
    return abs(dx[y * side + x]) + abs(dy[y * side + x]);
}

/* 1 where the slope is steeper than before and behind, in the nearest of four directions (borders at 22.5 and 67.5
 * degrees, tangents in units of 2^-15). */
static int is_ridge(const int *dx, const int *dy, int side, int y, int x) {
    const int i = y * side + x, here = steepness(dx, dy, side, y, x);
    const int across = abs(dx[i]), flat = across * 13573, down = abs(dy[i]) * 32768, steep = flat + across * 65536;
    if (down < flat)
        return here > steepness(dx, dy, side, y, x - 1) && here >= steepness(dx, dy, side, y, x + 1);
    if (down > steep)
        return here > steepness(dx, dy, side, y - 1, x) && here >= steepness(dx, dy, side, y + 1, x);
    const int s = (dx[i] ^ dy[i]) < 0 ? -1 : 1;
    return here > steepness(dx, dy, side, y - 1, x - s) && here > steepness(dx, dy, side, y + 1, x + s);
}

/* Canny's edges: ridges steeper than EDGE_HIGH, and those steeper than EDGE_LOW that touch an edge. edge [side,side]: 1
 * or 0. */
static void find_edges(const int *grey, int side, int *edge) {
    int dx[PIXELS_MAX], dy[PIXELS_MAX], weak[PIXELS_MAX], stack[PIXELS_MAX], depth = 0;
    sobel(grey, side, dx, dy);
    for (int i = 0; i < side * side; i++) {
        const int y = i / side, x = i % side, here = steepness(dx, dy, side, y, x);
        const int ridge = here > EDGE_LOW && is_ridge(dx, dy, side, y, x);
        edge[i] = ridge && here > EDGE_HIGH;
        weak[i] = ridge && !edge[i];
        if (edge[i])
            stack[depth++] = i;
    }
    while (depth > 0) {
        const int i = stack[--depth], y = i / side, x = i % side;
        for (int k = 0; k < 9; k++) {
            const int row = y + k / 3 - 1, column = x + k % 3 - 1, j = row * side + column;
            if (row < 0 || column < 0 || row >= side || column >= side || !weak[j])
                continue;
            weak[j] = 0;
            edge[j] = 1;
            stack[depth++] = j;
        }
    }
}

/* ---- distance from the edges ---- */

/* In units of 2^-16 pixel; the steps of the 5x5 chamfer distance: to a neighbour, diagonal, a knight's move. */
enum { UNIT = 65536, STRAIGHT = 65536, DIAGONAL = 91750, KNIGHT = 143976, FAR = 20 * UNIT };

static const struct {
    int down, right, length;
} steps[8] = {{0, -1, STRAIGHT}, {-1, 0, STRAIGHT}, {-1, -1, DIAGONAL}, {-1, 1, DIAGONAL},
              {-1, -2, KNIGHT},  {-1, 2, KNIGHT},   {-2, -1, KNIGHT},   {-2, 1, KNIGHT}};

/* Distance of every pixel from the nearest edge, at most FAR: two passes, forwards by `steps` and backwards by their
 * negatives.
 */
static void edge_distance(const int *edge, int side, int *distance) {
    const int pixels = side * side;
    for (int i = 0; i < pixels; i++)
        distance[i] = edge[i] ? 0 : FAR;
    for (int sign = 1; sign >= -1; sign -= 2)
        for (int n = 0; n < pixels; n++) {
            const int i = sign > 0 ? n : pixels - 1 - n;
            for (int k = 0; k < 8; k++) {
                const int y = i / side + sign * steps[k].down, x = i % side + sign * steps[k].right;
                if (y < 0 || x < 0 || y >= side || x >= side)
                    continue;
                const int way = distance[y * side + x] + steps[k].length;
                distance[i] = way < distance[i] ? way : distance[i];
            }
        }
}

/* ---- drops ---- */

/* Sum of the 3x3 neighbourhood times `kernel`, the border mirrored. out may not be in. */
static void filter3(const int *in, int side, const int kernel[9], int *out) {
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            int sum = 0;
            for (int k = 0; k < 9; k++)
                sum += kernel[k] * in[border_index(y + k / 3 - 1, side, BORDER_MIRROR) * side +
                                      border_index(x + k % 3 - 1, side, BORDER_MIRROR)];
            *out++ = sum;
        }
}

/* Spreads values 0..255 so that each level stands for its share of the pixels below it. */
static void equalize(int *grey, int pixels) {
    int count[256] = {0}, level[256] = {0}, sum = 0, first = 0;
    for (int i = 0; i < pixels; i++)
        count[grey[i]]++;
    while (count[first] == 0)
        first++;
    const int rest = pixels - count[first];
    if (rest == 0)
        return;
    for (int v = first + 1; v < 256; v++) {
        sum += count[v];
        level[v] = (2 * 255 * sum + rest) / (2 * rest);
    }
    for (int i = 0; i < pixels; i++)
        grey[i] = level[grey[i]];
}

/* How light falls through the liquid: grey 0..255 of its thickness -> 0..255 of its rims. */
static void rims(const int *grey, int side, int *out) {
    static const int mean[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, emboss[9] = {-2, -1, 0, -1, 1, 1, 0, 1, 2};
    int work[PIXELS_MAX];
    const int pixels = side * side;
    find_edges(grey, side, out);
    edge_distance(out, side, work);
    filter3(work, side, mean, out);
    for (int i = 0; i < pixels; i++)
        out[i] /= 9 * UNIT;
    equalize(out, pixels);
    filter3(out, side, emboss, work);
    for (int i = 0; i < pixels; i++)
        work[i] = work[i] < 0 ? 0 : work[i] > 255 ? 255 : work[i];
    filter3(work, side, mean, out);
    for (int i = 0; i < pixels; i++)
        out[i] = (2 * out[i] + 9) / 18;
}

static void add_water(CorruptionWork *w, const double *liquid, double strength) {
    static const double pale_turquoise[3] = {175 / 255.0, 238 / 255.0, 238 / 255.0};
    const int pixels = w->side * w->side;
    int grey[PIXELS_MAX], light[PIXELS_MAX], most = 0;
    for (int i = 0; i < pixels; i++)
        grey[i] = liquid[i] >= 1.0 ? 255 : (int)(liquid[i] * 255.0);
    rims(grey, w->side, light);
    for (int i = 0; i < pixels; i++) {
        light[i] *= grey[i];
        most = light[i] > most ? light[i] : most;
    }
    for (int i = 0; i < 3 * pixels && most > 0; i++)
        w->x[i] += strength * light[i / 3] / most * pale_turquoise[i % 3];
}

/* `mud` [side,side]: 1 where there is some, else 0; smoothed here. */
static void add_mud(CorruptionWork *w, double *mud, double sigma) {
    static const double brown[3] = {63 / 255.0, 42 / 255.0, 20 / 255.0};
    gaussian_filter(mud, w->z, w->side, 1, sigma, 4.0, BORDER_NEAREST);
    for (int i = 0; i < 3 * w->side * w->side; i++) {
        const double cover = mud[i / 3] < 0.8 ? 0.0 : mud[i / 3];
        w->x[i] = w->x[i] * (1.0 - cover) + brown[i % 3] * cover;
    }
}

/* p: mean and standard deviation of the noise that the liquid is made of, standard deviation of its smoothing in
 * pixels, the threshold below which there is none, strength of the water or standard deviation of the mud's smoothing
 * in pixels, and 0 for water or 1 for mud. */
void corrupt_spatter(CorruptionWork *w) {
    const int pixels = w->side * w->side;
    double *liquid = w->y;
    draw_normals(&w->draws, liquid, pixels);
    for (int i = 0; i < pixels; i++)
        liquid[i] = w->p[0] + w->p[1] * liquid[i];
    gaussian_filter(liquid, w->z, w->side, 1, w->p[2], 4.0, BORDER_NEAREST);
    for (int i = 0; i < pixels; i++)
        liquid[i] = liquid[i] < w->p[3] ? 0.0 : liquid[i];
    if (w->p[5] == 0.0) {
        add_water(w, liquid, w->p[4]);
        return;
    }
    for (int i = 0; i < pixels; i++)
        liquid[i] = liquid[i] > w->p[3];
    add_mud(w, liquid, w->p[4]);
}
