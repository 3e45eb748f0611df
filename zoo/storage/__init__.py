"""Files that outlive a process: the cache, run folders and weights."""
