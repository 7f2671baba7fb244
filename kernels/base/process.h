/* Other processes, as /proc shows them, and which of them launched this one. Linux only. */
#ifndef EXCON_BASE_PROCESS_H
#define EXCON_BASE_PROCESS_H

typedef struct Process {
    int id;
    char name[32]; /* as the kernel has it: 15 bytes at most */
    char state;    /* R, S, D, T...; Z and X: it has ended */
    int parent;
    unsigned long long started; /* clock ticks since boot: tells it from a later one of the same number */
} Process;

/* 1 and *process when process `id` exists, 0 when it does not, -1 when that cannot be told. */
int process_look(int id, Process *process);

/* The launcher that started this process (mpirun, its daemon on another host, slurmstepd): the nearest ancestor that is
 * not itself part of the job, its environment lacking this job's PMIX_NAMESPACE, which launchers give to what they
 * start. Scripts between the two count as part of the job. Returns 1 and *launcher, or 0: none, or none visible (in an
 * outer PID namespace). */
int process_launcher(Process *launcher);

#endif
