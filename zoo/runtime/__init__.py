"""Runtime of a process: devices, distributed processes, timing."""
