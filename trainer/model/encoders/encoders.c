#include "trainer/model/encoders/encoders.h"

#include <string.h>

#include "trainer/config/keys/choices.h"

#define ENTRY(name, build, ...) {name, build, {__VA_ARGS__}},
#define NAME(name, ...) name,

const Encoder encoders[] = {ENCODER_TABLE(ENTRY){0}};
const char *const choices_encoder[] = {ENCODER_TABLE(NAME) NULL};

Status encoder_build_as(Model *model, const Encoder *encoder, Error *err) {
    int output = 0;
    model_add_input(model);
    RETURN_IF(encoder->build(model, encoder->depth, &output, err));
    return model_wire(model, output, err);
}

Status encoder_build(Model *model, Error *err) {
    char names[256] = "";
    for (const Encoder *encoder = encoders; encoder->name; encoder++) {
        if (strcmp(encoder->name, model->shape.encoder) == 0)
            return encoder_build_as(model, encoder, err);
        strncat(names, encoder == encoders ? "" : ", ", sizeof names - strlen(names) - 1);
        strncat(names, encoder->name, sizeof names - strlen(names) - 1);
    }
    return error_set(err, STATUS_CONFIG, "model.encoder '%s' is not one of %s", model->shape.encoder, names);
}
