/* What differs between the major versions of oneDNN's C interface, under one name each. Version 2 (Debian 12 has 2.6)
 * shows memory descriptors as structs and describes a convolution in an operation descriptor first; version 3 (Debian
 * 13 has 3.7) hides memory descriptors and makes primitive descriptors from arguments. The header that is found when
 * the program is built decides; the rest of oneDNN is called directly. */
#ifndef EXCON_KERNELS_CPU_ONEDNN_H
#define EXCON_KERNELS_CPU_ONEDNN_H

#include <dnnl.h>

/* Layout: a memory descriptor that the caller owns, freed by onednn_layout_free. LayoutRef: one that is only read; a
 * Layout is one, and so is the answer of dnnl_primitive_desc_query_md, which its primitive descriptor owns. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t OnednnLayout;
typedef const_dnnl_memory_desc_t OnednnLayoutRef;
#else
typedef dnnl_memory_desc_t *OnednnLayout;
typedef const dnnl_memory_desc_t *OnednnLayoutRef;
#endif

/* A plain or (dnnl_format_tag_any) an open layout of `rank` dimensions; *out is NULL on failure. */
dnnl_status_t onednn_layout_make(int rank, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag,
                                 OnednnLayout *out);

/* NULL is fine. */
void onednn_layout_free(OnednnLayout layout);

/* A direct convolution by its layouts: image [N,C,H,W], weights [K,C,R,R], bias [K] or NULL, output [N,K,P,Q]; the same
 * stride and padding in both directions and at both ends. `attr` may be NULL. */
typedef struct OnednnConv {
    OnednnLayoutRef image, weights, bias, output;
    dnnl_dims_t stride, pad;
} OnednnConv;

/* Primitive descriptors of the three passes, to be freed by dnnl_primitive_desc_destroy; `forward` is the forward pass
 * of the same convolution, which oneDNN wants as a hint. */
dnnl_status_t onednn_conv_forward(const OnednnConv *conv, dnnl_prop_kind_t kind, const_dnnl_primitive_attr_t attr,
                                  dnnl_engine_t engine, dnnl_primitive_desc_t *out);
dnnl_status_t onednn_conv_backward_data(const OnednnConv *conv, const_dnnl_primitive_desc_t forward,
                                        const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                        dnnl_primitive_desc_t *out);
dnnl_status_t onednn_conv_backward_weights(const OnednnConv *conv, const_dnnl_primitive_desc_t forward,
                                           const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                           dnnl_primitive_desc_t *out);

/* Appends y += (what the destination held), and y = y < 0 ? slope * y : y. */
dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops);
dnnl_status_t onednn_append_relu(dnnl_post_ops_t ops, float slope);

/* The name of the widest instruction set that oneDNN makes code for here. */
const char *onednn_isa_name(void);

/* 1 when it makes code for convolutions of bf16 here. Elsewhere version 3 has none, and version 2 plain loops. */
int onednn_convolves_bf16(void);

/* 1 when it makes code for AMX; for AVX-512's bf16 products, which every set with AMX contains. */
int onednn_has_amx(void);
int onednn_has_avx512_bf16(void);

#endif
