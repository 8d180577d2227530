"""Instants, durations, zones and calendar periods, as people write them and as integers."""
