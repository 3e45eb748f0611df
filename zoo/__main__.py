"""`python -m zoo`, for torchrun: `torchrun --nproc-per-node 2 -m zoo run ...`."""

from zoo.cli import main

if __name__ == "__main__":
    main()
