"""How fast the models are: `ostinato bench`."""
