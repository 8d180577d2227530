"""Readings to energy: how much each device used, and how far that is vouched for."""
