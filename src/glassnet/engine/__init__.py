"""The compiled CPU engine: `steps` are what a backend is asked for, `compile` makes a program of a recording.

lowering/ turns each operation into calls of kernels/, which machine/ compiles and runs.
"""
