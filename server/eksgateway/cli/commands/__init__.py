"""The commands that call a gateway, one in each module."""
