"""Kernels: one module per family, each with a readable NumPy reference beside the dispatch to C++ or CUDA.

This package is the only door to native code. Functions named ``*_reference`` state what a kernel computes; the function
without the suffix computes the same in native code. Arrays go in and out as they are: NumPy on the CPU, torch anywhere.
"""
