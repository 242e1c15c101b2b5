"""CP2K: density-functional theory with Gaussians and plane waves (Quickstep), run as a program."""
