"""Grids over systems, data sets and seeds, and the search of hyper-parameters.

May import quick_start and all below; nothing imports it but cli.
"""
