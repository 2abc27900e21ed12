"""Figures as scalable pictures that take their colours from the page they stand in."""
