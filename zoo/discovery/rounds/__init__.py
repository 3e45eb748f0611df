"""Rounds of active learning: train, choose, calculate, and train again on what has come."""
