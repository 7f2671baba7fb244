/* THE list of explainers: the values of explain.method. A new one is its file in trainer/method/explainers and its line
 * here. */
#ifndef EXCON_TRAINER_EXPLAIN_METHODS_H
#define EXCON_TRAINER_EXPLAIN_METHODS_H

/* X(SYMBOL, symbol, name): EXPLAIN_SYMBOL in a Config, `name` in its text, explainer_symbol what computes it. */
/* clang-format off */
#define EXPLAIN_METHODS(X) \
    X(GRADCAM, gradcam, "gradcam") \
    X(GRADCAM_PLUS, gradcam_plus, "gradcam++") \
    X(GRADIENT, gradient, "gradient") \
    X(INTEGRATED, integrated, "integrated")
/* clang-format on */

#endif
