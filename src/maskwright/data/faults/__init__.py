"""The faults of annotated data sets: a table of them, and the small functions that find and repair each."""
