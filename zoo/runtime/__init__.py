"""Where and how a process computes: devices, distributed processes, timing."""
