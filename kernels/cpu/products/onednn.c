/* The two versions of oneDNN's C interface; see onednn.h. */
#include "kernels/cpu/products/onednn.h"

#include <stdlib.h>

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t onednn_layout_make(int rank, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag,
                                 OnednnLayout *out) {
    *out = NULL;
    return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
}

void onednn_layout_free(OnednnLayout layout) {
    if (layout)
        dnnl_memory_desc_destroy(layout);
}

dnnl_status_t onednn_conv_forward(const OnednnConv *conv, dnnl_prop_kind_t kind, const_dnnl_primitive_attr_t attr,
                                  dnnl_engine_t engine, dnnl_primitive_desc_t *out) {
    return dnnl_convolution_forward_primitive_desc_create(out, engine, kind, dnnl_convolution_direct, conv->image,
                                                          conv->weights, conv->bias, conv->output, conv->stride, NULL,
                                                          conv->pad, conv->pad, attr);
}

dnnl_status_t onednn_conv_backward_data(const OnednnConv *conv, const_dnnl_primitive_desc_t forward,
                                        const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                        dnnl_primitive_desc_t *out) {
    return dnnl_convolution_backward_data_primitive_desc_create(out, engine, dnnl_convolution_direct, conv->image,
                                                                conv->weights, conv->output, conv->stride, NULL,
                                                                conv->pad, conv->pad, forward, attr);
}

dnnl_status_t onednn_conv_backward_weights(const OnednnConv *conv, const_dnnl_primitive_desc_t forward,
                                           const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                           dnnl_primitive_desc_t *out) {
    return dnnl_convolution_backward_weights_primitive_desc_create(
        out, engine, dnnl_convolution_direct, conv->image, conv->weights, conv->bias, conv->output, conv->stride, NULL,
        conv->pad, conv->pad, forward, attr);
}

dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}

dnnl_status_t onednn_append_relu(dnnl_post_ops_t ops, float slope) {
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_relu, slope, 0.0f);
}

#else

dnnl_status_t onednn_layout_make(int rank, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag,
                                 OnednnLayout *out) {
    *out = malloc(sizeof **out);
    if (!*out)
        return dnnl_out_of_memory;
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(*out, rank, dims, type, tag);
    if (status != dnnl_success) {
        free(*out);
        *out = NULL;
    }
    return status;
}

void onednn_layout_free(OnednnLayout layout) {
    free(layout);
}

dnnl_status_t onednn_conv_forward(const OnednnConv *conv, dnnl_prop_kind_t kind, const_dnnl_primitive_attr_t attr,
                                  dnnl_engine_t engine, dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t desc;
    dnnl_status_t status =
        dnnl_convolution_forward_desc_init(&desc, kind, dnnl_convolution_direct, conv->image, conv->weights, conv->bias,
                                           conv->output, conv->stride, conv->pad, conv->pad);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &desc, attr, engine, NULL) : status;
}

dnnl_status_t onednn_conv_backward_data(const OnednnConv *conv, const_dnnl_primitive_desc_t forward,
                                        const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                        dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_convolution_backward_data_desc_init(
        &desc, dnnl_convolution_direct, conv->image, conv->weights, conv->output, conv->stride, conv->pad, conv->pad);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &desc, attr, engine, forward) : status;
}

dnnl_status_t onednn_conv_backward_weights(const OnednnConv *conv, const_dnnl_primitive_desc_t forward,
                                           const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                           dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t desc;
    dnnl_status_t status =
        dnnl_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, conv->image, conv->weights,
                                                    conv->bias, conv->output, conv->stride, conv->pad, conv->pad);
    return status == dnnl_success ? dnnl_primitive_desc_create(out, &desc, attr, engine, forward) : status;
}

dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0f);
}

dnnl_status_t onednn_append_relu(dnnl_post_ops_t ops, float slope) {
    return dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, slope, 0.0f);
}

#endif

/* A set of instructions is a set of bits that contains those of the sets it extends. */
static int makes_code_for(dnnl_cpu_isa_t isa) {
    return ((int)dnnl_get_effective_cpu_isa() & (int)isa) == (int)isa;
}

const char *onednn_isa_name(void) {
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } widest_first[] = {
        {dnnl_cpu_isa_avx512_core_amx, "amx"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_bf16"},
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_vnni"},
        {dnnl_cpu_isa_avx512_core, "avx512"},
        {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
        {dnnl_cpu_isa_avx2, "avx2"},
        {dnnl_cpu_isa_avx, "avx"},
        {dnnl_cpu_isa_sse41, "sse41"},
    };
    for (size_t i = 0; i < sizeof widest_first / sizeof *widest_first; i++)
        if (makes_code_for(widest_first[i].isa))
            return widest_first[i].name;
    return "generic";
}

int onednn_convolves_bf16(void) {
    return makes_code_for(dnnl_cpu_isa_avx512_core);
}

int onednn_has_amx(void) {
    return makes_code_for(dnnl_cpu_isa_avx512_core_amx);
}

int onednn_has_avx512_bf16(void) {
    return makes_code_for(dnnl_cpu_isa_avx512_core_bf16);
}
