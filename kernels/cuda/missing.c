/* TEMPORARY: weak placeholders while the operators are being written; goes when the last one is there. */
#include <stdio.h>
#include <stdlib.h>

__attribute__((weak)) void classify_equal_cuda(void);
void classify_equal_cuda(void) {
    fprintf(stderr, "classify_equal_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void classify_loss_cuda(void);
void classify_loss_cuda(void) {
    fprintf(stderr, "classify_loss_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void classify_onehot_cuda(void);
void classify_onehot_cuda(void) {
    fprintf(stderr, "classify_onehot_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void classify_predict_cuda(void);
void classify_predict_cuda(void) {
    fprintf(stderr, "classify_predict_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void classify_probability_cuda(void);
void classify_probability_cuda(void) {
    fprintf(stderr, "classify_probability_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void classify_rank_cuda(void);
void classify_rank_cuda(void) {
    fprintf(stderr, "classify_rank_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void contrast_gradient_cuda(void);
void contrast_gradient_cuda(void) {
    fprintf(stderr, "contrast_gradient_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void contrast_groups_cuda(void);
void contrast_groups_cuda(void) {
    fprintf(stderr, "contrast_groups_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void contrast_loss_cuda(void);
void contrast_loss_cuda(void) {
    fprintf(stderr, "contrast_loss_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void contrast_lse_cuda(void);
void contrast_lse_cuda(void) {
    fprintf(stderr, "contrast_lse_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void contrast_scratch_cuda(void);
void contrast_scratch_cuda(void) {
    fprintf(stderr, "contrast_scratch_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void conv_backward_data_cuda(void);
void conv_backward_data_cuda(void) {
    fprintf(stderr, "conv_backward_data_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void conv_backward_weight_cuda(void);
void conv_backward_weight_cuda(void) {
    fprintf(stderr, "conv_backward_weight_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void conv_create_cuda(void);
void conv_create_cuda(void) {
    fprintf(stderr, "conv_create_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void conv_destroy_cuda(void);
void conv_destroy_cuda(void) {
    fprintf(stderr, "conv_destroy_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void conv_forward_cuda(void);
void conv_forward_cuda(void) {
    fprintf(stderr, "conv_forward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) const char *conv_library_cuda(void);
const char *conv_library_cuda(void) {
    return "no convolutions";
}
__attribute__((weak)) void dense_backward_data_cuda(void);
void dense_backward_data_cuda(void) {
    fprintf(stderr, "dense_backward_data_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void dense_backward_weight_cuda(void);
void dense_backward_weight_cuda(void) {
    fprintf(stderr, "dense_backward_weight_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void dense_forward_cuda(void);
void dense_forward_cuda(void) {
    fprintf(stderr, "dense_forward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void guard_nonfinite_cuda(void);
void guard_nonfinite_cuda(void) {
    fprintf(stderr, "guard_nonfinite_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_apply_cuda(void);
void norm_apply_cuda(void) {
    fprintf(stderr, "norm_apply_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_backward_apply_cuda(void);
void norm_backward_apply_cuda(void) {
    fprintf(stderr, "norm_backward_apply_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_backward_params_cuda(void);
void norm_backward_params_cuda(void) {
    fprintf(stderr, "norm_backward_params_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_backward_sums_cuda(void);
void norm_backward_sums_cuda(void) {
    fprintf(stderr, "norm_backward_sums_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_finalize_cuda(void);
void norm_finalize_cuda(void) {
    fprintf(stderr, "norm_finalize_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_fold_cuda(void);
void norm_fold_cuda(void) {
    fprintf(stderr, "norm_fold_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_from_running_cuda(void);
void norm_from_running_cuda(void) {
    fprintf(stderr, "norm_from_running_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void norm_sums_cuda(void);
void norm_sums_cuda(void) {
    fprintf(stderr, "norm_sums_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void pool_backward_cuda(void);
void pool_backward_cuda(void) {
    fprintf(stderr, "pool_backward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void pool_forward_cuda(void);
void pool_forward_cuda(void) {
    fprintf(stderr, "pool_forward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void relu_backward_cuda(void);
void relu_backward_cuda(void) {
    fprintf(stderr, "relu_backward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_apply_cuda(void);
void saliency_apply_cuda(void) {
    fprintf(stderr, "saliency_apply_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_cam_cuda(void);
void saliency_cam_cuda(void) {
    fprintf(stderr, "saliency_cam_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_channel_sum_cuda(void);
void saliency_channel_sum_cuda(void) {
    fprintf(stderr, "saliency_channel_sum_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_mask_cuda(void);
void saliency_mask_cuda(void) {
    fprintf(stderr, "saliency_mask_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_top_cuda(void);
void saliency_top_cuda(void) {
    fprintf(stderr, "saliency_top_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_upsample_cuda(void);
void saliency_upsample_cuda(void) {
    fprintf(stderr, "saliency_upsample_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void saliency_weights_cuda(void);
void saliency_weights_cuda(void) {
    fprintf(stderr, "saliency_weights_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void select_rejected_cuda(void);
void select_rejected_cuda(void) {
    fprintf(stderr, "select_rejected_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void select_rows_cuda(void);
void select_rows_cuda(void) {
    fprintf(stderr, "select_rows_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void sgd_cuda(void);
void sgd_cuda(void) {
    fprintf(stderr, "sgd_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void unit_backward_cuda(void);
void unit_backward_cuda(void) {
    fprintf(stderr, "unit_backward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void unit_forward_cuda(void);
void unit_forward_cuda(void) {
    fprintf(stderr, "unit_forward_cuda is not there yet\n");
    abort();
}
__attribute__((weak)) void views_make_cuda(void);
void views_make_cuda(void) {
    fprintf(stderr, "views_make_cuda is not there yet\n");
    abort();
}
