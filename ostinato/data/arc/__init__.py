"""ARC: tasks, their variants, and data sets of them that store no pixels."""
