"""Energy to shares: who used it, exactly split, and how sure that is."""
