"""The compiled CPU engine: kernels in Python, register tiles in LLVM IR, the threads that run them."""
