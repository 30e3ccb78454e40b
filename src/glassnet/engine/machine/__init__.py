"""From a Python function to threads that run it: the decorator, LLVM, the cache, register tiles, workers."""
