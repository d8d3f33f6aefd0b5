"""A page in which a model thinks: as a static site, and from a server on this machine."""
