/* Painting one synthetic picture.
 *
 * Coordinates: pixel space for the background; for the object a turned frame in which it lies within the unit disc.
 * Every pixel averages SUB x SUB points. */
#include "io/import/synthetic.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { SHAPES = 10, PATTERNS = 4, FAMILY_KINDS = 5, SUB = 3, LATTICE = 16 };
static const float PI = 3.14159265f;
static const char *const shape_names[SHAPES] = {"disc", "square", "triangle", "ring",      "cross",
                                                "star", "bar",    "crescent", "hourglass", "frame"};
static const char *const pattern_names[PATTERNS] = {"plain", "striped", "checked", "dotted"};

/* Classes k and k + 10 share a shape and differ in pattern. */
static int shape_of(int label) {
    return label % SHAPES;
}

static int pattern_of(int label) {
    return (label % SHAPES + 2 * (label / SHAPES)) % PATTERNS;
}

void synthetic_class_name(int label, char name[64]) {
    snprintf(name, 64, "%s %s", pattern_names[pattern_of(label)], shape_names[shape_of(label)]);
}

typedef struct Paint {
    float colour[2][3]; /* object: body and pattern; background: low and high */
} Paint;

typedef struct Object {
    int shape, pattern;
    float x, y, radius, cosine, sine; /* pixels */
    Paint paint;
} Object;

typedef struct Background {
    int kind, step; /* texture kind, and which of its four variants */
    float phase_x, phase_y, size;
    float lattice[LATTICE][LATTICE]; /* value noise, periodic */
    Paint paint;
} Background;

static float uniform(PhiloxReader *draws, float low, float high) {
    return low + (high - low) * philox_next_uniform(draws);
}

/* ---- object ---- */

/* Does the point (u, v) of the object's frame (v downwards) belong to the shape? */
static bool inside_shape(int shape, float u, float v) {
    const float r = sqrtf(u * u + v * v), au = fabsf(u), av = fabsf(v);
    switch (shape) {
    case 0:
        return r < 0.85f;
    case 1:
        return au < 0.72f && av < 0.72f;
    case 2:
        return v < 0.6f && v > -0.95f && au < (v + 0.95f) * 0.56f;
    case 3:
        return r < 0.95f && r > 0.5f;
    case 4:
        return (au < 0.28f && av < 0.92f) || (av < 0.28f && au < 0.92f);
    case 5: {
        float angle = atan2f(u, -v) * 5.0f / (2.0f * PI);
        float tooth = fabsf(angle - roundf(angle)) * 2.0f;
        return r < 0.98f - 0.58f * tooth;
    }
    case 6:
        return au < 0.95f && av < 0.32f;
    case 7: {
        float du = u - 0.42f;
        return r < 0.92f && du * du + v * v > 0.62f * 0.62f;
    }
    case 8:
        return av < 0.85f && au < 0.12f + 0.75f * av;
    default:
        return au < 0.8f && av < 0.8f && !(au < 0.42f && av < 0.42f);
    }
}

/* 1 where the pattern shows its second colour. */
static int pattern_at(int pattern, float u, float v) {
    const float period = 0.5f;
    const float a = u / period - floorf(u / period), b = v / period - floorf(v / period);
    switch (pattern) {
    case 0:
        return 0;
    case 1:
        return a < 0.5f;
    case 2:
        return (a < 0.5f) != (b < 0.5f);
    default:
        return (a - 0.5f) * (a - 0.5f) + (b - 0.5f) * (b - 0.5f) < 0.32f * 0.32f;
    }
}

/* ---- background ---- */

static float noise_at(const Background *background, float x, float y) {
    const float fx = floorf(x), fy = floorf(y);
    const int x0 = (int)fx & (LATTICE - 1), y0 = (int)fy & (LATTICE - 1);
    const int x1 = (x0 + 1) & (LATTICE - 1), y1 = (y0 + 1) & (LATTICE - 1);
    float a = x - fx, b = y - fy;
    a = a * a * (3 - 2 * a);
    b = b * b * (3 - 2 * b);
    const float top = background->lattice[y0][x0] * (1 - a) + background->lattice[y0][x1] * a;
    const float bottom = background->lattice[y1][x0] * (1 - a) + background->lattice[y1][x1] * a;
    return top * (1 - b) + bottom * b;
}

/* Texture value 0..1 at a pixel position; lengths are shares of the image side. */
static float texture_at(const Background *background, float x, float y) {
    const float u = x / background->size, v = y / background->size;
    const float px = background->phase_x, py = background->phase_y;
    const int step = background->step;
    switch (background->kind) {
    case 0: {
        const float angle = (float)step * PI / 4;
        return 0.5f + 0.5f * sinf(2 * PI * (7 * (u * cosf(angle) + v * sinf(angle)) + px));
    }
    case 1:
        return noise_at(background, (u + px) * (float)(3 << step), (v + py) * (float)(3 << step));
    case 2: {
        const float cells = (float)(3 + 3 * step);
        return (float)(((int)floorf((u + px) * cells) + (int)floorf((v + py) * cells)) & 1);
    }
    case 3: {
        const float cells = (float)(4 + 2 * step);
        const float a = (u + px) * cells - floorf((u + px) * cells) - 0.5f;
        const float b = (v + py) * cells - floorf((v + py) * cells) - 0.5f;
        return a * a + b * b < 0.09f ? 1.0f : 0.0f;
    }
    default: {
        const float dx = u - px, dy = v - py;
        return 0.5f + 0.5f * sinf(2 * PI * (float)(4 + 3 * step) * sqrtf(dx * dx + dy * dy));
    }
    }
}

/* ---- drawing the parameters ---- */

static float luminance(const float colour[3]) {
    return 0.299f * colour[0] + 0.587f * colour[1] + 0.114f * colour[2];
}

/* Random colour moved along grey to the wanted luminance, clamped. */
static void draw_colour(PhiloxReader *draws, float wanted, float colour[3]) {
    for (int c = 0; c < 3; c++)
        colour[c] = uniform(draws, 0, 1);
    const float shift = wanted - luminance(colour);
    for (int c = 0; c < 3; c++)
        colour[c] = fminf(fmaxf(colour[c] + shift, 0), 1);
}

/* Background of middling, object of clearly lighter or darker luminance; which of the two is random. */
static void draw_paint(PhiloxReader *draws, Paint *object, Paint *background) {
    const float ground = uniform(draws, 0.35f, 0.65f), contrast = uniform(draws, 0.08f, 0.16f);
    const int light = philox_next_uniform(draws) < 0.5f;
    const float far = light ? uniform(draws, 0.9f, 1.0f) : uniform(draws, 0.0f, 0.1f);
    const float near = light ? ground + 0.22f : ground - 0.22f;
    draw_colour(draws, ground - contrast, background->colour[0]);
    for (int c = 0; c < 3; c++)
        background->colour[1][c] = fminf(background->colour[0][c] + 2 * contrast, 1);
    const int swap = philox_next_uniform(draws) < 0.5f;
    draw_colour(draws, swap ? near : far, object->colour[0]);
    draw_colour(draws, swap ? far : near, object->colour[1]);
}

static void draw_object(PhiloxReader *draws, int label, int size, Object *object) {
    const float side = (float)size, turn = uniform(draws, -0.35f, 0.35f);
    object->shape = shape_of(label);
    object->pattern = pattern_of(label);
    object->radius = uniform(draws, 0.24f, 0.38f) * side;
    object->x = uniform(draws, object->radius, side - object->radius);
    object->y = uniform(draws, object->radius, side - object->radius);
    object->cosine = cosf(turn);
    object->sine = sinf(turn);
}

static void draw_background(PhiloxReader *draws, int family, int size, Background *background) {
    background->kind = family % FAMILY_KINDS;
    background->step = family / FAMILY_KINDS;
    background->size = (float)size;
    background->phase_x = uniform(draws, 0, 1);
    background->phase_y = uniform(draws, 0, 1);
    for (int i = 0; i < LATTICE * LATTICE; i++)
        background->lattice[i / LATTICE][i % LATTICE] = uniform(draws, 0, 1);
}

/* ---- painting ---- */

/* Adds the colour of point (x, y) to sum; returns 1 on the object. */
static int add_point(const Object *object, const Background *background, float x, float y, float sum[3]) {
    const float dx = (x - object->x) / object->radius, dy = (y - object->y) / object->radius;
    const float u = object->cosine * dx + object->sine * dy, v = object->cosine * dy - object->sine * dx;
    if (inside_shape(object->shape, u, v)) {
        const float *colour = object->paint.colour[pattern_at(object->pattern, u, v)];
        for (int c = 0; c < 3; c++)
            sum[c] += colour[c];
        return 1;
    }
    const float t = texture_at(background, x, y);
    for (int c = 0; c < 3; c++)
        sum[c] += background->paint.colour[0][c] * (1 - t) + background->paint.colour[1][c] * t;
    return 0;
}

static void grow_box(int16_t box[4], int x, int y) {
    box[0] = (int16_t)(x < box[0] ? x : box[0]);
    box[1] = (int16_t)(y < box[1] ? y : box[1]);
    box[2] = (int16_t)(x > box[2] ? x : box[2]);
    box[3] = (int16_t)(y > box[3] ? y : box[3]);
}

void synthetic_paint(SyntheticScene scene, int size, PhiloxReader *draws, uint8_t *image, uint8_t *mask,
                     int16_t box[4]) {
    Object object;
    Background background;
    draw_object(draws, scene.label, size, &object);
    draw_background(draws, scene.background, size, &background);
    draw_paint(draws, &object.paint, &background.paint);
    box[0] = box[1] = (int16_t)size;
    box[2] = box[3] = -1;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            float sum[3] = {0, 0, 0};
            int hits = 0;
            for (int s = 0; s < SUB * SUB; s++)
                hits += add_point(&object, &background, (float)x + ((float)(s % SUB) + 0.5f) / SUB,
                                  (float)y + ((float)(s / SUB) + 0.5f) / SUB, sum);
            const float noise = uniform(draws, -0.03f, 0.03f);
            for (int c = 0; c < 3; c++) {
                const float value = fminf(fmaxf(sum[c] / (SUB * SUB) + noise, 0), 1);
                image[(y * size + x) * 3 + c] = (uint8_t)lrintf(value * 255);
            }
            const int covered = 2 * hits > SUB * SUB;
            mask[y * size + x] = (uint8_t)covered;
            if (covered)
                grow_box(box, x, y);
        }
}
