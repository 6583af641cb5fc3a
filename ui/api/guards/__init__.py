"""What stands around the whole server: who may ask, from where, how often and how much."""
