"""Kernels of Gaussian processes: how alike gradients are at two points."""
