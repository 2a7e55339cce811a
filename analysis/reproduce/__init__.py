"""What published papers claim, run again: `simnet reproduce NAME`.

A system is a module here with `TITLE`, `REFERENCE` and `EXPERIMENTS`; an experiment gives claims, each with a verdict.
"""
