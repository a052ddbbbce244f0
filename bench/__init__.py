"""Ratios of the gateway against a baseline in the same run, never seconds: machines are noisy."""
