"""Ways out of the house: each exporter turns a Snapshot into what one kind of reader understands."""
