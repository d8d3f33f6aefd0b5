"""Measure how fast the models are: `ostinato bench`."""
