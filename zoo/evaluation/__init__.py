"""Errors, derived quantities and calibration of predicted tensors."""
