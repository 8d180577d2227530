"""One command's energy and cost, from the counters around it."""
