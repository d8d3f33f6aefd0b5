"""ARC: tasks, their variants, and data sets that draw the variants on access."""
