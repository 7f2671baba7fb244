"""Random configurations of what the program computes, against float64 references, and against itself.

A case is a number: the seed of everything that is drawn for it, so `main.py --family step --seed 17 --cases 1` makes case 17 of
that family again. Families are taken in turn. A case agrees, or is unclear (a decision hangs on rounding: a mask pixel or an
argmax that perturbed references decide otherwise, too), or is a fault, which is printed with its configuration.

    main.py [--seconds S | --cases N] [--seed FIRST] [--family NAME[,NAME]]

Ends with 1 when there was a fault, and with 66 when nothing could be tried."""

import argparse
import os
import random
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from judge_names import Fault, Unclear  # noqa: E402
from program import Program, places  # noqa: E402
import run_cases  # noqa: E402


def families():
    """({name: function}, why some are missing)."""
    found = dict(run_cases.FAMILIES)
    try:
        import torch  # noqa: F401, PLC0415

        torch.set_num_threads(1)
        import follow  # noqa: PLC0415
        import probe_cases  # noqa: PLC0415
    except ImportError as error:
        return found, str(error)
    return {**probe_cases.FAMILIES, **follow.FAMILIES, **found}, None


def try_case(name, run, seed, program, levels):
    """'agrees', 'unclear' or 'fault', and what there is to say."""
    rng = random.Random(f"{name} {seed}")
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(rng.randrange(1 << 31))
    try:
        run(rng, program, levels)
        return "agrees", ""
    except Unclear as unclear:
        return "unclear", str(unclear)
    except Fault as fault:
        return "fault", str(fault)
    except Exception:  # noqa: BLE001 the program's refusal is a fault as well, whatever it is
        return "fault", traceback.format_exc(limit=3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--cases", type=int, default=1 << 62, help="of each family")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--family", default="")
    options = parser.parse_args()
    found, why = families()
    if why:
        print(f"only {', '.join(found)}: {why}", flush=True)
    wanted = [name for name in options.family.split(",") if name] or list(found)
    wanted = [name for name in wanted if name in found]
    program = Program()
    counts = {name: {"agrees": 0, "unclear": 0, "fault": 0} for name in wanted}
    end = time.monotonic() + options.seconds
    try:
        levels = places(program)
        for i in range(options.cases):
            for name in wanted:
                if time.monotonic() > end:
                    break
                outcome, text = try_case(name, found[name], options.seed + i, program, levels)
                counts[name][outcome] += 1
                if outcome == "fault":
                    print(f"{name} {options.seed + i}: {text}\n  after {program.last}", flush=True)
            if time.monotonic() > end:
                break
    finally:
        program.clean()
    for name, count in counts.items():
        print(f"{name:10} {count['agrees']:6} agree {count['unclear']:4} unclear {count['fault']:4} faults")
    total = {key: sum(count[key] for count in counts.values()) for key in ("agrees", "unclear", "fault")}
    print(f"numbers: {sum(total.values())} cases, {total['agrees']} agree, {total['unclear']} unclear, {total['fault']} faults")
    return 66 if not wanted else 1 if total["fault"] else 0


if __name__ == "__main__":
    sys.exit(main())
