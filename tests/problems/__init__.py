"""Problems of the literature in plain NumPy, with derivatives by hand, for tests of the derivatives."""
