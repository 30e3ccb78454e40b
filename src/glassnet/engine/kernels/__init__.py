"""Kernels: plain Python functions on arrays, one family a file, compiled by `machine.kernel`."""
