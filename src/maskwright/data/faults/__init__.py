"""Faults of annotated data sets: a table, the functions that find them, and those that repair them."""
