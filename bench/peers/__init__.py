"""What others do with the same work: NumPy by hand, PyTorch, JAX, and libraries for one purpose."""
