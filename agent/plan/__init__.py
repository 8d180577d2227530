"""What a deployment will cost: scenarios, break-even, cheapest hours."""
