"""Environment variables that set ranks and threads, and descriptions of exit statuses."""

import signal

# torchrun, Lightning, Slurm and jsrun tell a process its rank by these. A job that inherits one
# considers itself part of a larger run: it waits for the other ranks, or trains nothing as rank 1.
RANK_VARIABLES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "NODE_RANK"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "JSM_NAMESPACE_RANK"),
)


THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def describe_exit(code: int) -> str:
    """Describe how a process ended.

    Args:
        code: its exit status; if negative, the number of the signal that killed it.
    """
    if code == -signal.SIGKILL:
        return "killed by SIGKILL (probably by the system: out of memory)"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
