"""Runs the program in some place: so many ranks and threads, an instruction set, a level of its own operators."""

import os
import shutil
import subprocess
import tempfile


class Refused(Exception):
    """The program ended with another exit code than 0."""


class Program:
    def __init__(self):
        self.path = os.path.abspath(os.environ.get("EXCON") or os.path.join(os.environ.get("BUILD") or "build", "excon"))
        self.mpirun = os.environ.get("MPIRUN") or "mpirun"
        self.last = ""  # what was run, for a message
        self.folder = tempfile.mkdtemp(prefix="excon-numbers.")

    def file(self, name):
        return os.path.join(self.folder, name)

    def clean(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, arguments, where, environment=()):
        """Output of `excon ARGUMENTS`; raises Refused."""
        env = {**os.environ, "OMP_NUM_THREADS": str(where["threads"]), "OMPI_ALLOW_RUN_AS_ROOT": "1",
               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **dict(environment)}
        for name, key in (("DNNL_MAX_CPU_ISA", "isa"), ("EXCON_CPU", "level")):
            if where.get(key):
                env[name] = where[key]
        command = [self.path, *map(str, arguments)]
        if where["ranks"] > 1:
            command = [self.mpirun, "--oversubscribe", "--bind-to", "none", "-n", str(where["ranks"]), *command]
        self.last = " ".join([*(f"{name}={env[name]}" for name in ("DNNL_MAX_CPU_ISA", "EXCON_CPU", "OMP_NUM_THREADS") if name in env), *command])
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise Refused(f"exit {done.returncode}: {' '.join(command)}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done.stdout


# What a processor has not got, oneDNN passes over by itself; a level the program refuses, so that is asked once.
def places(program):
    levels = [""]
    for level in ("v2", "v3"):
        try:
            program.run(["bench", "loss", "--rows", "8", "--dim", "4"], {"ranks": 1, "threads": 1, "level": level})
            levels.append(level)
        except (Refused, subprocess.TimeoutExpired):
            pass
    return levels


def draw_where(rng, levels, most_ranks=4):
    return {"ranks": min(rng.choice([1, 1, 1, 1, 1, 2, 2, 3, 4]), most_ranks), "threads": rng.choice([1, 1, 2, 3]),
            "isa": rng.choice(["", "", "AVX512_CORE", "AVX2", "AVX", "SSE41"]), "level": rng.choice(levels)}


def sets(lines):
    return [part for line in lines for part in ("--set", line)]
