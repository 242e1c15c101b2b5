"""Tests of the engine ``abinit``."""
