"""Engine ``abinit``: plane waves and norm-conserving pseudopotentials, with the program ABINIT."""
