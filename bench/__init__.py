"""Measures the gateway against a baseline in the same run. Ratios depend less on the machine than seconds."""
