"""The rights that policy data gives, for access reviews. Decides nothing: the engines do."""
