"""Trucks against labels."""
