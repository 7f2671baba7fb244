/* Names that a key may have where the table of what they name lies on a higher floor. That floor defines the list, from
 * its table, so that a name stands in one place; NULL ends each. */
#ifndef EXCON_TRAINER_CONFIG_CHOICES_H
#define EXCON_TRAINER_CONFIG_CHOICES_H

extern const char *const choices_encoder[]; /* model.encoder: trainer/model/encoders/encoders.c */

#endif
