"""What is kept: committed ticks in SQLite, their totals, and what is asked of them."""
