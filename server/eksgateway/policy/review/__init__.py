"""Who may do what by policy data, for access reviews. Decides nothing: the engines do."""
