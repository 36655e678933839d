"""Losses and training runs."""
