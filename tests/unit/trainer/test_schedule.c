/* Learning rates against the closed forms of the published recipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "trainer/optim/schedule.h"

/* Double arithmetic on both sides: only the order of operations differs. */
static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * (1 + fabs(want))))
        fail_msg("got %.17g, want %.17g", got, want);
}

static Config recipe(void) {
    Config config;
    config_defaults(&config, PROFILE_OFFICIAL);
    config.train.epochs = 200;
    config.train.batch = 256;
    config.optim.lr = 0.5;
    config.optim.schedule = LR_COSINE;
    config.optim.warmup = WARMUP_AUTO;
    return config;
}

static void cosine_per_epoch(void **state) {
    (void)state;
    Config config = recipe();
    near(schedule_lr(&config, 200, 7, 10), 0.5 * 1e-3);
    near(schedule_lr(&config, 100, 0, 10), 0.5 * 1e-3 + (0.5 - 0.5 * 1e-3) / 2);
    near(schedule_lr(&config, 1, 0, 10), schedule_lr(&config, 1, 9, 10));
    config.optim.schedule = LR_CONSTANT;
    near(schedule_lr(&config, 150, 0, 10), 0.5);
}

static void warm_up_for_large_batches(void **state) {
    (void)state;
    Config config = recipe();
    assert_false(schedule_warms_up(&config));
    config.train.batch = 257;
    assert_true(schedule_warms_up(&config));
    const double low = 0.5e-3, to = low + (0.5 - low) * (1 + cos(M_PI * 10 / 200)) / 2;
    near(schedule_lr(&config, 1, 0, 10), 0.01);
    near(schedule_lr(&config, 6, 5, 10), 0.01 + (to - 0.01) * 55.0 / 100.0);
    near(schedule_lr(&config, 11, 0, 10), low + (0.5 - low) * (1 + cos(M_PI * 11 / 200)) / 2);
    config.optim.warmup = WARMUP_OFF;
    assert_false(schedule_warms_up(&config));
}

/* auto goes by the batch that the images make, and does not take a whole run. */
static void warm_up_by_itself(void **state) {
    (void)state;
    Error err;
    Config config = recipe();
    config.train.epochs = 10;
    assert_int_equal(schedule_settle(&config, 1000, &err), STATUS_OK);
    config.train.batch = 257;
    assert_int_equal(schedule_settle(&config, 1000, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.message, "take all of train.epochs 10"));
    config.train.epochs = 11;
    assert_int_equal(schedule_settle(&config, 1000, &err), STATUS_OK);
    assert_true(schedule_warms_up(&config));
    config.train.epochs = 10;
    config.train.batch = 100000;
    assert_int_equal(schedule_settle(&config, 256, &err), STATUS_OK);
    assert_false(schedule_warms_up(&config));
}

/* The largest of all rates of a run, epochs from 11 on where those before warm up. */
static void peak(void **state) {
    (void)state;
    Config config = recipe();
    for (int warm = 0; warm < 2; warm++)
        for (config.train.epochs = 12; config.train.epochs < 40; config.train.epochs += 9) {
            double most = 0;
            config.train.batch = warm ? 512 : 64;
            for (int64_t epoch = 1; epoch <= config.train.epochs; epoch++)
                for (int64_t batch = 0; batch < 1000; batch++)
                    most = fmax(most, schedule_lr(&config, epoch, batch, 1000));
            const double rest =
                (most - schedule_peak(&config)) / config.optim.lr; /* of the last batch of the warm-up */
            assert_true(fabs(rest) <= 1e-3);
        }
    config.train.epochs = 1;
    config.train.batch = 64;
    near(schedule_peak(&config), 0.5e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine_per_epoch),
        cmocka_unit_test(warm_up_by_itself),
        cmocka_unit_test(warm_up_for_large_batches),
        cmocka_unit_test(peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
